"""Interrupting a compute: an exception raised in user code, never in the machinery around it; inside a worker."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from threading import get_ident
from types import FrameType, TracebackType
from typing import Literal, TypeVar

Reason = Literal["timeout", "stopped"]
T = TypeVar("T")

DELIVERY_SECONDS = 0.05
"""How long an interruption that was handed to `deliver` may take before `deliver` is asked again."""


RETRY_SECONDS = 0.001

_print_unraisable = sys.unraisablehook


class Interruption(BaseException):
    """Raised in a compute by its timeout or by the engine's stop; a BaseException, so `except Exception` lets it by."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(reason)


class Interrupter:
    """Raises Interruption in the compute that runs in the main thread, at most once a run.

    Code that must not be cut in half (sending an event, a log handler) runs inside `with interrupter:`; an
    interruption that arrives there is raised when the block ends, or by `check` in a loop that waits.
    """

    def __init__(self) -> None:
        self._main = threading.main_thread().ident
        self._armed = False
        self._due = math.inf
        self._depth = 0
        self._pending: Reason | None = None
        self._raised = False
        self.reason: Reason | None = None
        """Why the current (or last) run was interrupted; None if it was not."""
        self.deliver: Callable[[FrameType | None], bool] | None = None
        """Set by an asynchronous run: takes an interruption of this frame to what waits; False to have it raised."""

    def install(self) -> None:
        """Take over SIGALRM (the timeout) and SIGUSR1 (the kernel's stop) of this process."""
        signal.signal(signal.SIGALRM, self._alarmed)
        signal.signal(signal.SIGUSR1, lambda _signum, frame: self._interrupt("stopped", frame))
        sys.unraisablehook = self._retry

    def run(self, function: Callable[[], T], timeout: float) -> T:
        """Call `function`, interrupting it after `timeout` seconds or when the kernel says so.

        The alarm is left set: the next run sets it anew, and `rest` stops it where none follows at once.
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
            if signal.getsignal(signal.SIGALRM) != self._alarmed:  # what a compute has set there is over with it
                self.rest()
                signal.signal(signal.SIGALRM, self._alarmed)

    def rest(self) -> None:
        """Stop the alarm of the last run: this process is about to sleep, and must not be woken up for nothing."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def check(self) -> None:
        """Raise the interruption that has arrived inside a protected block, if one has."""
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
        if time.monotonic() >= self._due:  # or else it is the alarm of the run before, which came at the last moment
            self._interrupt("timeout", frame)

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
        """Interrupt again what has swallowed it: Python ignores what is raised in a `__del__`, or by a collection."""
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
