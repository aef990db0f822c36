"""Signals: queued by their handlers, taken by a loop, kept away from forks, and left to the kernel by its children."""

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
    """Give a queue of the kernel's signals, closed afterwards."""
    signals = SignalQueue(WATCHED)
    yield signals
    signals.close()


def readable(signals: SignalQueue) -> bool:
    """Tell whether a selector would wake up."""
    return bool(select.select([signals], [], [], 0)[0])


def in_child(work: Callable[[], int]) -> int:
    """Run `work` in a forked child; gives what it returned, or minus the signal that killed it."""
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
    """Nothing is raised, and nothing happens, until the loop takes it."""
    for _ in range(3):
        signal.raise_signal(signal.SIGINT)
    assert set(signals.take()) == {signal.SIGINT}


def test_a_flood_of_signals_neither_blocks_nor_raises(signals: SignalQueue) -> None:
    """A queue that nobody reads fills up; what it holds is still there afterwards, and the next is heard."""
    for _ in range(100_000):
        signal.raise_signal(signal.SIGCHLD)
    assert set(signals.take()) == {signal.SIGCHLD}
    signal.raise_signal(signal.SIGTERM)
    assert signals.take() == [signal.SIGTERM]


def test_a_signal_interrupts_a_wait_of_the_selector(signals: SignalQueue) -> None:
    """A loop that sleeps for long wakes up at once."""
    timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert select.select([signals], [], [], 30)[0]
    timer.join()
    assert signals.take() == [signal.SIGTERM]


def test_closing_gives_everything_back() -> None:
    """Handlers and the wake-up descriptor are again what they were."""
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


def test_what_arrives_while_held_back_arrives_afterwards(signals: SignalQueue) -> None:
    """The kernel misses nothing, also when what it did meanwhile failed."""

    def fail() -> None:
        signal.raise_signal(signal.SIGTERM)
        assert signals.take() == []
        raise OSError("no fork today")

    with pytest.raises(OSError, match="no fork today"), held_back():
        fail()
    assert signals.take() == [signal.SIGTERM]


def test_holding_back_restores_what_was_blocked_before() -> None:
    """A signal that was blocked stays so; one that wasn't, doesn't."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    with held_back():
        assert set(STOP_SIGNALS) <= signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.pthread_sigmask(signal.SIG_SETMASK, before) == before | {signal.SIGHUP}


def test_a_child_born_while_held_back_never_sees_the_kernel_s_signals(signals: SignalQueue) -> None:
    """What hits the group around the fork is the kernel's; the child ignores it, and the queue is not the child's."""

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


def test_a_child_obeys_what_is_not_the_kernel_s_business(signals: SignalQueue) -> None:
    """Other signals do what they always did, and its own children's ends are waited for in peace."""

    def killed() -> int:
        leave_signals_to_the_kernel()
        signal.raise_signal(signal.SIGUSR1)
        return 0

    def parent() -> int:
        leave_signals_to_the_kernel()
        return in_child(lambda: 5)

    assert in_child(killed) == -signal.SIGUSR1
    assert in_child(parent) == 5


def test_a_child_has_nothing_blocked(signals: SignalQueue) -> None:
    """What it starts in turn begins with an ordinary mask."""

    def child() -> int:
        leave_signals_to_the_kernel()
        return len(signal.pthread_sigmask(signal.SIG_BLOCK, []))

    with held_back():
        assert in_child(child) == 0
