"""Interrupting a compute by an exception, which is never raised in nerve's own code around it; inside a worker."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from _signal import getsignal  # type: ignore[import-not-found]  # that of `signal` takes 20 times as long
from collections.abc import Callable
from threading import get_ident
from types import FrameType, TracebackType
from typing import Literal, TypeVar

Reason = Literal["timeout", "stopped"]
T = TypeVar("T")

DELIVERY_SECONDS = 0.05
"""Time after which `deliver` is called again, if the interruption that it took on has not ended the run."""

RETRY_SECONDS = 0.001
"""Time after which an interruption that Python swallowed is raised again."""

_print_unraisable = sys.unraisablehook


class Interruption(BaseException):
    """Raised in a compute by its timeout or the engine's stop; `except Exception` does not catch it."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(reason)


class Interrupter:
    """Raises Interruption in the compute that runs in the main thread, at most once per run.

    Code that must not be cut short (sending an event, a log handler) runs inside `with interrupter:`. An interruption
    that arrives there is raised at the end of the block, or by `check` in a loop that waits.
    """

    def __init__(self) -> None:
        self._main = threading.main_thread().ident
        self._armed = False
        self._due = math.inf
        self._depth = 0
        self._pending: Reason | None = None
        self._raised = False
        self.reason: Reason | None = None
        """Why the current or the last run was interrupted; None if it was not."""
        self.deliver: Callable[[FrameType | None], bool] | None = None
        """Set by an asynchronous run: passes an interruption to its event loop, or returns False to have it raised."""

    def install(self) -> None:
        """Handle SIGALRM (the timeout) and SIGUSR1 (the kernel's stop) in this process."""
        signal.signal(signal.SIGALRM, self._alarmed)
        signal.signal(signal.SIGUSR1, self._stopped)
        sys.unraisablehook = self._retry
        os.register_at_fork(after_in_child=self._uninstall)

    def run(self, function: Callable[[], T], timeout: float) -> T:
        """Call `function` and return its result; interrupt it after `timeout` seconds, or if the kernel stops the run.

        The alarm stays set, to save a system call: the next run replaces it, and `rest` cancels it if none follows.
        """
        self._pending = self.reason = None
        self._raised = False
        self._armed = True
        try:
            self._set_alarm(timeout)
            return function()
        finally:
            self._armed = False
            self._due = math.inf
            self.deliver = None
            if getsignal(signal.SIGALRM) != self._alarmed:  # the compute has replaced the handler
                self.rest()
                signal.signal(signal.SIGALRM, self._alarmed)

    def _uninstall(self) -> None:
        """Leave the signals alone in a process that the compute has forked."""
        self._armed = False
        for number in (signal.SIGALRM, signal.SIGUSR1):
            if signal.getsignal(number) in {self._alarmed, self._stopped}:
                signal.signal(number, signal.SIG_DFL)

    def rest(self) -> None:
        """Cancel the alarm of the last run: it would wake this process, which is about to sleep."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def check(self) -> None:
        """Raise the interruption that arrived inside a protected block, if there is one."""
        if self._pending and self._armed and get_ident() == self._main:
            self._raise(self._pending)

    def __enter__(self) -> None:
        if get_ident() == self._main:
            self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if get_ident() == self._main:
            self._depth -= 1
            if self._pending and self._depth == 0:
                self.check()

    def _set_alarm(self, seconds: float) -> None:
        self._due = time.monotonic() + seconds
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def _alarmed(self, _signum: int, frame: FrameType | None) -> None:
        if time.monotonic() >= self._due:  # otherwise it is a late alarm of the previous run
            self._interrupt("timeout", frame)

    def _stopped(self, _signum: int, frame: FrameType | None) -> None:
        self._interrupt("stopped", frame)

    def _interrupt(self, reason: Reason, frame: FrameType | None) -> None:
        if not self._armed or self._raised:
            return
        if self._depth:
            self._pending = self._pending or reason
        elif self.deliver and self.deliver(frame):
            self.reason = self.reason or reason
            self._set_alarm(DELIVERY_SECONDS)
        else:
            self._raise(reason)

    def _retry(self, swallowed: sys.UnraisableHookArgs) -> None:
        """Interrupt the run again: Python ignores exceptions raised in a `__del__` or during garbage collection."""
        if not isinstance(swallowed.exc_value, Interruption):
            _print_unraisable(swallowed)
        elif self._armed:
            self._raised = False
            self._set_alarm(RETRY_SECONDS)

    def _raise(self, reason: Reason) -> None:
        self._raised = True
        self._pending = None
        self.reason = self.reason or reason
        raise Interruption(self.reason)
