"""Signals: queued by their handlers, taken by a loop, blocked around forks, and ignored by the kernel's children."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from nerve.processes.signals import STOP_SIGNALS, SignalQueue, held_back, leave_signals_to_the_kernel

# Test runners may have threads; what is forked here touches none of their locks.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

WATCHED = (*STOP_SIGNALS, signal.SIGCHLD)


@pytest.fixture
def signals() -> Iterator[SignalQueue]:
    """Return a queue of the kernel's signals, closed afterwards."""
    signals = SignalQueue(WATCHED)
    yield signals
    signals.close()


def readable(signals: SignalQueue) -> bool:
    """Return True if a selector would wake up."""
    return bool(select.select([signals], [], [], 0)[0])


def in_child(work: Callable[[], int]) -> int:
    """Run `work` in a forked child; return its result, or minus the signal that killed it."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_signals_are_taken_in_the_order_of_their_arrival(signals: SignalQueue) -> None:
    """Each wakes the selector, and all are taken at once."""
    assert not readable(signals)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
        signal.raise_signal(number)
    assert readable(signals)
    assert signals.take() == [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP]
    assert not readable(signals)
    assert signals.take() == []


def test_a_signal_only_enqueues(signals: SignalQueue) -> None:
    """It has no effect until the loop takes it."""
    for _ in range(3):
        signal.raise_signal(signal.SIGINT)
    assert set(signals.take()) == {signal.SIGINT}


def test_a_flood_of_signals_neither_blocks_nor_raises(signals: SignalQueue) -> None:
    """A queue that is not read fills up; its signals are kept, and once they are taken the next one arrives."""
    for _ in range(100_000):
        signal.raise_signal(signal.SIGCHLD)
    assert set(signals.take()) == {signal.SIGCHLD}
    signal.raise_signal(signal.SIGTERM)
    assert signals.take() == [signal.SIGTERM]


def test_a_signal_wakes_a_selector_that_waits(signals: SignalQueue) -> None:
    """A loop that sleeps wakes up at once."""
    timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert select.select([signals], [], [], 30)[0]
    timer.join()
    assert signals.take() == [signal.SIGTERM]


def test_closing_restores_the_handlers_and_the_wake_up_descriptor() -> None:
    """Also when one queue was made while another one was open."""
    before = [signal.getsignal(number) for number in WATCHED]
    outer = SignalQueue([signal.SIGTERM])
    inner = SignalQueue(WATCHED)
    signal.raise_signal(signal.SIGTERM)
    assert inner.take() == [signal.SIGTERM]
    inner.close()
    signal.raise_signal(signal.SIGTERM)
    assert outer.take() == [signal.SIGTERM]
    outer.close()
    assert [signal.getsignal(number) for number in WATCHED] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_signals_that_are_held_back_arrive_afterwards(signals: SignalQueue) -> None:
    """Also when the fork in between failed."""

    def fail() -> None:
        signal.raise_signal(signal.SIGTERM)
        assert signals.take() == []
        raise OSError("no fork today")

    with pytest.raises(OSError, match="no fork today"), held_back():
        fail()
    assert signals.take() == [signal.SIGTERM]


def test_holding_back_restores_the_signal_mask() -> None:
    """A signal that was blocked before is blocked afterwards, and no other."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    with held_back():
        assert set(STOP_SIGNALS) <= signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.pthread_sigmask(signal.SIG_SETMASK, before) == before | {signal.SIGHUP}


def test_a_child_forked_while_held_back_never_gets_the_kernel_s_signals(signals: SignalQueue) -> None:
    """A signal to the process group reaches the kernel's queue; the child ignores it, and can't write to that queue."""

    def child() -> int:
        os.kill(os.getpid(), signal.SIGTERM)  # still held back
        leave_signals_to_the_kernel()
        for number in (*STOP_SIGNALS, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD):
            signal.raise_signal(number)
        return 7

    with held_back():
        signal.raise_signal(signal.SIGHUP)
        assert in_child(child) == 7
    assert set(signals.take()) == {signal.SIGHUP, signal.SIGCHLD}


def test_a_child_reacts_to_all_other_signals(signals: SignalQueue) -> None:
    """They have their default action, and the child can wait for children of its own."""

    def killed() -> int:
        leave_signals_to_the_kernel()
        signal.raise_signal(signal.SIGUSR1)
        return 0

    def parent() -> int:
        leave_signals_to_the_kernel()
        return in_child(lambda: 5)

    assert in_child(killed) == -signal.SIGUSR1
    assert in_child(parent) == 5


def test_a_child_has_no_signal_blocked(signals: SignalQueue) -> None:
    """So that the processes that it starts have none blocked either."""

    def child() -> int:
        leave_signals_to_the_kernel()
        return len(signal.pthread_sigmask(signal.SIG_BLOCK, []))

    with held_back():
        assert in_child(child) == 0
