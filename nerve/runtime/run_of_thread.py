"""Which run a thread belongs to: one that outlives its run never logs under a later one; inside a worker."""

from __future__ import annotations

import sys
import threading
from contextvars import ContextVar
from functools import wraps
from typing import Any

from nerve.clock import Stamp
from nerve.events.catalog import from_sense
from nerve.events.model import LogEvent
from nerve.events.payload import printable

LATE_RUNS = 1000
_ATTRIBUTE = "_nerve_run"


class ThreadRuns:
    """The run that each thread of this process belongs to."""

    def __init__(self) -> None:
        self.current: str | None = None
        """The id of the run that is performed now; None between two runs."""
        self._run: ContextVar[str | None] = ContextVar("nerve_run", default=None)

    def install(self) -> None:
        """Let each thread that is started from now on belong to the run of the thread that starts it."""
        start = threading.Thread.start

        @wraps(start)
        def start_in_run(thread: threading.Thread) -> None:
            vars(thread)[_ATTRIBUTE] = self.of_this_thread()
            start(thread)

        threading.Thread.start = start_in_run  # type: ignore[assignment,method-assign]  # threads inherit no context

    def begin(self, run_id: str | None) -> None:
        """Let what the main thread does from now on belong to this run; None between two runs."""
        self.current = run_id
        self._run.set(run_id)

    def of_this_thread(self) -> str | None:
        """Return the id of the run that this thread belongs to; None if it is unknown.

        It is unknown for a thread of a pool that an earlier run has made, which may work for any run, and for a thread
        that was not started by Python's `threading`.
        """
        run_id = self._run.get()  # known to the main thread, its coroutines, and `asyncio.to_thread`
        if run_id is not None or threading.get_ident() == threading.main_thread().ident:
            return run_id
        thread = threading.current_thread()
        run_id = vars(thread).get(_ATTRIBUTE)
        return None if run_id != self.current and _is_of_pool(thread) else run_id


class LateRuns:
    """The runs that have logged after their end, and for which that has been said."""

    def __init__(self) -> None:
        self._known: dict[str, None] = {}

    def is_new(self, run_id: str) -> bool:
        """Return True the first time for each run; the last LATE_RUNS are known."""
        if run_id in self._known:
            return False
        self._known[run_id] = None
        if len(self._known) > LATE_RUNS:
            del self._known[next(iter(self._known))]
        return True


def late_notice(now: Stamp, run_id: str) -> LogEvent:
    """Say, in the name of a run that has ended, that one of its threads goes on logging."""
    message = (
        f"the thread {threading.current_thread().name!r} goes on logging although its run has ended: "
        "end it in the compute, or it runs until its worker is replaced"
    )
    return from_sense(now, run_id, "warning", {"logger": "nerve", "message": printable(message)}, source="logging")


def _is_of_pool(thread: threading.Thread) -> bool:
    pools: Any = sys.modules.get("concurrent.futures.thread")
    return pools is not None and thread in pools._threads_queues  # noqa: SLF001 - nothing public tells
