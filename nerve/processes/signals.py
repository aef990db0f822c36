"""Signals: their handlers only enqueue them, the kernel's loop acts on them, and children leave them to the kernel."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SCALE_SIGNALS = {signal.SIGTTIN: 1, signal.SIGTTOU: -1}
"""The change of the number of workers that each signal asks for."""

_KERNEL_SIGNALS = (*STOP_SIGNALS, *SCALE_SIGNALS, signal.SIGCHLD)


class SignalQueue:
    """The signals that this process received, in order, behind a descriptor that a selector can watch (kernel)."""

    def __init__(self, signals: Iterable[signal.Signals]) -> None:
        self._in, self._out = socket.socketpair()
        self._in.settimeout(0)
        self._out.settimeout(0)
        self._previous = {number: signal.signal(number, _enqueued) for number in signals}
        self._previous_fd = signal.set_wakeup_fd(self._out.fileno(), warn_on_full_buffer=False)

    def fileno(self) -> int:
        """The descriptor that becomes readable when a signal has arrived."""
        return self._in.fileno()

    def take(self) -> list[signal.Signals]:
        """Return the signals received since the last call; never blocks."""
        received: list[signal.Signals] = []
        while True:
            try:
                received += [signal.Signals(number) for number in self._in.recv(4096)]
            except BlockingIOError:
                return received

    def retire(self) -> None:
        """Close, and block these signals from now on, because the process is about to exit."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._previous.keys())
        self.close()

    def close(self) -> None:
        """Restore the handlers and the wake-up descriptor that were there before."""
        signal.set_wakeup_fd(self._previous_fd)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._in.close()
        self._out.close()


@contextmanager
def held_back() -> Iterator[None]:
    """Block signals around a fork: those that arrive in between reach the kernel afterwards, and never the child."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _KERNEL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def leave_signals_to_the_kernel() -> None:
    """Undo the kernel's handling and ignore its signals (child): a terminal signals the group, the kernel stops us."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (*STOP_SIGNALS, *SCALE_SIGNALS):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _KERNEL_SIGNALS)


def _enqueued(_signum: int, _frame: object) -> None:
    """Do nothing: set_wakeup_fd has already put the signal's number into the queue."""
