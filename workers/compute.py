"""A compute worker: performs one run at a time, and ships its events to the writer."""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Sequence
from types import TracebackType

import msgspec
import psutil

from nerve.clock import SystemClock
from nerve.eventqueue import EventSender
from nerve.events.redaction import redactor_of
from nerve.events.trigger import Trigger
from nerve.ids import uuid7_hex
from nerve.ipc.channel import Channel
from nerve.processes import log_relay
from nerve.processes.child import ChildContext
from nerve.processes.messages import Finish, Ready, Run, RunResult, ToChild
from nerve.processes.prefetch import take
from nerve.reload.code_store import CodeStore
from nerve.runtime.context import SenseContext
from nerve.runtime.interruption import Interrupter
from nerve.runtime.loader import SenseLoader
from nerve.runtime.log_handlers import EventHandler, GuardedHandler
from nerve.runtime.runner import run_sense
from nerve.store import SenseDatabases
from nerve.workers import bootstrap

FINISH_SECONDS = 10.0
"""How long a worker that has been told to finish waits for its last acknowledgements; the kernel may be stricter."""


class ComputeWorker:
    """Performs the runs that the kernel hands it, one at a time."""

    def __init__(self, context: ChildContext, link: Channel[ToChild]) -> None:
        self._link = link
        self._prefetched = context.prefetched
        self._linked = 0
        self._pid = os.getpid()
        self._poller = select.poll()
        for source in (link.fileno(), self._prefetched):
            if source is not None:
                self._poller.register(source, select.POLLIN)
        self._clock = SystemClock()
        self._process = psutil.Process()
        self._interrupter = Interrupter()
        self._loader = SenseLoader(context.boot.workspace.senses_dir)
        self._code = CodeStore(context.boot.workspace.code_dir)
        self._databases = SenseDatabases(context.boot.workspace)
        self._events = EventSender(
            context.boot.workspace.event_socket,
            f"worker-{os.getpid()}/{uuid7_hex()}",
            self._interrupter,
            hangups={link.fileno(): _orphaned},
        )
        self._records = EventHandler(self._events, self._clock)
        root = logging.getLogger()
        relay = context.boot.relay
        log_relay.install(GuardedHandler(relay, self._interrupter))
        # Before the relay, which strips a record of its exception once it has written it out.
        root.handlers.insert(0, GuardedHandler(self._records, self._interrupter))

    def __enter__(self) -> ComputeWorker:
        self._interrupter.install()
        self._loader.install()
        self._events.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._events.close(FINISH_SECONDS)

    def serve(self) -> None:
        """Perform runs until told to finish, or until a run has left no memory for the next."""
        self._link.send(Ready())
        while self._serve_next():
            pass

    def _serve_next(self) -> bool:
        """Perform what comes next, after waiting for it; False when that is nothing."""
        run = None if self._prefetched is None else take(self._prefetched)
        if run:
            return self._catch_up(run.after) and self._serve(run)
        self._interrupter.rest()
        ready = {descriptor for descriptor, _event in self._poller.poll()}
        return self._link.fileno() not in ready or self._obey(self._link.receive())

    def _catch_up(self, linked: int) -> bool:
        """Perform what is sent by the link before: it can be overtaken by what was put behind it."""
        while self._linked < linked:
            if not self._obey(self._link.wait(None)):
                return False
        return True

    def _obey(self, messages: Sequence[ToChild]) -> bool:
        """Do what has come by the link; False when the kernel is gone, or nothing more is to be done."""
        for message in messages:
            match message:
                case Run():
                    self._linked += 1
                    if not self._serve(message):
                        return False
                case Finish():
                    return False
                case _:
                    raise TypeError(f"the kernel sent a worker a {type(message).__name__}")
        return not self._link.ended

    def _serve(self, run: Run) -> bool:
        """Perform a run, and tell its end before anything else begins; False when there can be no other run."""
        outcome = self._perform(run)
        self._link.send(outcome)
        self._link.flush_all()
        return not outcome.spent

    def _perform(self, run: Run) -> RunResult:
        self._records.run_id, self._records.max_payload = run.run_id, run.max_payload
        self._records.redactor = redactor_of(run.redact)
        if run.version is not None:
            self._code.keep(run.version)
        self._loader.accept(run.sense, run.version)
        outcome = run_sense(
            run, self._loader, lambda trigger: self._context(run, trigger), self._interrupter, self._clock
        )
        if os.getpid() != self._pid:
            os._exit(0)  # the compute has forked, and its child has come back: that is no worker
        closing_ms = self._close_databases()
        self._records.run_id = None
        if closing_ms or run.weigh:
            rss_bytes = self._rss() if run.weigh else None
            return msgspec.structs.replace(outcome, rss_bytes=rss_bytes, closing_ms=closing_ms)
        return outcome

    def _close_databases(self) -> float:
        """Close what the run has opened, and tell how many ms that took."""
        if not self._databases.in_use:
            return 0.0
        began = self._clock.now()
        self._databases.close()
        return (self._clock.now() - began) * 1000

    def _rss(self) -> int:
        return int(self._process.memory_info().rss)

    def _context(self, run: Run, trigger: Trigger) -> SenseContext:
        return SenseContext(
            run.sense,
            run.run_id,
            trigger,
            events=self._events,
            databases=self._databases,
            clock=self._clock,
            max_payload=run.max_payload,
            redactor=redactor_of(run.redact),
        )


def _orphaned() -> None:
    """End at once when the kernel is gone: whatever a compute has logged is already out of this process."""
    os._exit(1)


def main(context: ChildContext) -> None:
    """Serve runs until told to finish, or until the kernel is gone (child)."""
    link = bootstrap.enter(context)
    # Last, so that a sense called `random` or `email` is not what the standard library then imports.
    sys.path.append(str(context.boot.workspace.senses_dir))
    with ComputeWorker(context, link) as worker:
        worker.serve()
