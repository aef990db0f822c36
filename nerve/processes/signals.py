"""Signals: their handlers only enqueue them, the kernel's loop acts on them, and children leave them to the kernel."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SCALE_SIGNALS = {signal.SIGTTIN: 1, signal.SIGTTOU: -1}
"""The change of the number of workers that each signal asks for."""

_KERNEL_SIGNALS = (*STOP_SIGNALS, *SCALE_SIGNALS, signal.SIGCHLD)
_before_fork = threading.local()


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
    """Replace the kernel's handling (child): a terminal signals the group, and the kernel stops its children.

    A handler is used, because an ignored signal would stay ignored in every program that a compute starts. What was
    ignored when the engine was started, as by `nohup`, stays ignored.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (*STOP_SIGNALS, *SCALE_SIGNALS):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _left_to_the_kernel)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _KERNEL_SIGNALS)
    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_as_in_plain_python)


def _block() -> None:
    """Block these signals around a fork: one that a compute sends to the new process at once must not be lost."""
    _before_fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _KERNEL_SIGNALS)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _before_fork.mask)


def _as_in_plain_python() -> None:
    """Undo the handling of this process in a process that it has forked; handlers of the compute's own stay."""
    faulthandler.unregister(signal.SIGUSR2)
    for number in (*STOP_SIGNALS, *SCALE_SIGNALS):
        if signal.getsignal(number) is _left_to_the_kernel:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
    _unblock()


def _left_to_the_kernel(_signum: int, _frame: object) -> None:
    """Do nothing: only the kernel acts on this signal."""


def _enqueued(_signum: int, _frame: object) -> None:
    """Do nothing: set_wakeup_fd has already put the signal's number into the queue."""
