"""Interrupting a compute: inside it, at most once per run, and never in nerve's own code around it."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
from support.interrupters import installed_interrupter

from nerve.runtime.interruption import Interrupter, Interruption

# The default method is an alarm, which the interrupter needs for itself.
pytestmark = pytest.mark.timeout(60, method="thread")

SOON = 0.02
LONG = 30.0


@pytest.fixture
def interrupter() -> Iterator[Interrupter]:
    """An interrupter that handles the signals of this process."""
    with installed_interrupter() as interrupter:
        yield interrupter


def spin() -> None:
    """Loop forever, without any call."""
    while True:
        pass


def raise_stop() -> None:
    """Send the signal that the kernel sends to stop a run."""
    signal.raise_signal(signal.SIGUSR1)


def assert_nothing_pending(interrupter: Interrupter) -> None:
    """Check that neither the timer, nor a signal, nor the end of a block raises an interruption."""
    interrupter.rest()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    signal.raise_signal(signal.SIGALRM)
    raise_stop()
    with interrupter:
        interrupter.check()
    interrupter.check()


@pytest.mark.parametrize(
    "hang", [spin, lambda: time.sleep(LONG), lambda: queue.Queue[int]().get(), lambda: threading.Event().wait(LONG)]
)
def test_a_timeout_interrupts_a_compute_wherever_it_hangs(interrupter: Interrupter, hang: Callable[[], object]) -> None:
    """Even a loop without calls, a sleep, and waits for locks are interrupted."""
    with pytest.raises(Interruption) as caught:
        interrupter.run(hang, SOON)
    assert caught.value.reason == interrupter.reason == "timeout"
    assert_nothing_pending(interrupter)


def test_the_kernels_stop_interrupts_a_run(interrupter: Interrupter) -> None:
    """The reason is `stopped` then."""

    def compute() -> None:
        raise_stop()
        spin()

    with pytest.raises(Interruption):
        interrupter.run(compute, LONG)
    assert interrupter.reason == "stopped"
    assert_nothing_pending(interrupter)


def test_a_run_that_ends_in_time_is_not_interrupted(interrupter: Interrupter) -> None:
    """Its result is returned, and nothing is pending."""
    assert interrupter.run(lambda: 42, LONG) == 42
    assert interrupter.reason is None
    assert_nothing_pending(interrupter)


def test_an_exception_of_the_compute_is_raised_as_it_is(interrupter: Interrupter) -> None:
    """It ends the run, so nothing is pending."""
    with pytest.raises(ZeroDivisionError):
        interrupter.run(lambda: 1 // 0, LONG)
    assert interrupter.reason is None
    assert_nothing_pending(interrupter)


def test_except_exception_does_not_catch_an_interruption(interrupter: Interrupter) -> None:
    """A compute that survives all its errors is interrupted, too."""

    def compute() -> None:
        while True:
            try:
                spin()
            except Exception:  # noqa: BLE001, S112 - this is what is tested
                continue

    with pytest.raises(Interruption):
        interrupter.run(compute, SOON)


def test_a_compute_that_catches_its_interruption_is_not_interrupted_again(interrupter: Interrupter) -> None:
    """Its result is returned, but the reason says that it was too late."""
    caught: list[BaseException] = []

    def compute() -> str:
        try:
            spin()
        except BaseException as error:  # noqa: BLE001 - this is what is tested
            caught.append(error)
        raise_stop()
        signal.raise_signal(signal.SIGALRM)
        return "late"

    assert interrupter.run(compute, SOON) == "late"
    assert len(caught) == 1
    assert interrupter.reason == "timeout"
    assert_nothing_pending(interrupter)


def test_an_interruption_does_not_affect_the_next_run(interrupter: Interrupter) -> None:
    """Its reason is cleared, and it can be interrupted again."""
    with pytest.raises(Interruption):
        interrupter.run(spin, SOON)
    assert interrupter.run(lambda: "fine", LONG) == "fine"
    assert interrupter.reason is None
    with pytest.raises(Interruption):
        interrupter.run(spin, SOON)


def test_signals_between_runs_are_ignored(interrupter: Interrupter) -> None:
    """Nerve's own code is never interrupted, even if a signal comes late."""
    assert_nothing_pending(interrupter)
    assert interrupter.run(lambda: "fine", LONG) == "fine"
    assert_nothing_pending(interrupter)


def test_an_interruption_in_a_protected_block_is_raised_at_its_end(interrupter: Interrupter) -> None:
    """In nested blocks it is the end of the outermost one; of two interruptions, the first counts."""
    passed: list[str] = []

    def compute() -> None:
        with interrupter:
            with interrupter:
                raise_stop()
                passed.append("inner")
            signal.raise_signal(signal.SIGALRM)
            passed.append("outer")
        passed.append("after")

    with pytest.raises(Interruption):
        interrupter.run(compute, LONG)
    assert passed == ["inner", "outer"]
    assert interrupter.reason == "stopped"
    assert_nothing_pending(interrupter)


def test_a_caught_interruption_is_not_raised_again_by_the_next_block(interrupter: Interrupter) -> None:
    """Only the first of three blocks raises one."""
    caught: list[str] = []

    def compute() -> None:
        for _ in range(3):
            try:
                with interrupter:
                    raise_stop()
            except Interruption as error:
                caught.append(error.reason)

    interrupter.run(compute, LONG)
    assert caught == ["stopped"]


def test_a_protected_block_that_fails_does_not_lose_the_interruption(interrupter: Interrupter) -> None:
    """A compute that catches the block's error, and loops forever, is interrupted."""

    def compute() -> None:
        while True:
            try:
                with interrupter:
                    time.sleep(0.001)
                    int("the block's own error")
            except ValueError:
                continue

    with pytest.raises(Interruption) as caught:
        interrupter.run(compute, SOON)
    assert isinstance(caught.value.__context__, ValueError)
    assert_nothing_pending(interrupter)


def test_check_raises_a_pending_interruption_inside_a_block(interrupter: Interrupter) -> None:
    """So a block that waits can be left where nothing is half done; the next run has protected blocks again."""
    checks: list[int] = []

    def compute() -> None:
        with interrupter, interrupter:
            while True:
                time.sleep(0.001)
                checks.append(1)
                interrupter.check()

    for _ in range(2):
        checks.clear()
        with pytest.raises(Interruption):
            interrupter.run(compute, SOON)
        assert checks
        assert_nothing_pending(interrupter)


def test_other_threads_are_never_interrupted_inside_a_protected_block(interrupter: Interrupter) -> None:
    """A block in another thread neither raises an interruption nor defers that of the compute."""
    inside, failures = threading.Event(), []
    done = threading.Event()

    def other() -> None:
        try:
            with interrupter:
                inside.set()
                while not done.wait(0.001):
                    interrupter.check()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    with pytest.raises(Interruption):
        interrupter.run(spin, SOON)
    done.set()
    thread.join()
    assert not failures


def test_deliver_may_take_on_an_interruption_of_an_asynchronous_run(interrupter: Interrupter) -> None:
    """If it returns True nothing is raised, and if not, the interruption is; it is cleared after each run."""
    delivered: list[str] = []

    def compute(*, takes: bool) -> str:
        def deliver(frame: FrameType | None) -> bool:
            assert frame
            delivered.append(frame.f_code.co_name)
            return takes

        interrupter.deliver = deliver
        raise_stop()
        return "went on"

    assert interrupter.run(lambda: compute(takes=True), LONG) == "went on"
    assert interrupter.reason == "stopped"
    with pytest.raises(Interruption):
        interrupter.run(lambda: compute(takes=False), LONG)
    assert interrupter.run(lambda: "fine", LONG) == "fine"
    assert delivered == ["raise_stop", "raise_stop"]
    assert interrupter.deliver is None


@pytest.mark.parametrize("microseconds", [50, 200])
def test_a_timeout_at_the_end_of_a_run_is_not_raised_after_it(interrupter: Interrupter, microseconds: int) -> None:
    """Of thousands of runs about as long as their timeout, each ends in time or is interrupted."""
    outcomes = {"in time": 0, "interrupted": 0}

    length = 0

    def compute() -> None:
        end = time.perf_counter_ns() + length
        while time.perf_counter_ns() < end:
            pass

    for attempt in range(2000):
        length = microseconds * 1000 + (attempt % 100 - 50) * 300
        try:
            interrupter.run(compute, microseconds / 1e6)
        except Interruption:
            outcomes["interrupted"] += 1
            assert interrupter.reason == "timeout"
        else:
            outcomes["in time"] += 1
            assert interrupter.reason is None
        for _ in range(50):  # a late interruption would be raised here
            pass
    assert all(outcomes.values())
    assert_nothing_pending(interrupter)


def test_stops_at_random_moments_never_cut_a_protected_block(interrupter: Interrupter) -> None:
    """A thread keeps stopping short runs that consist of protected blocks; none is raised between the runs."""
    halves: list[int] = []
    stopped = 0
    over = threading.Event()

    def fire() -> None:
        while not over.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.0001)

    def compute() -> None:
        for _ in range(200):
            with interrupter:
                halves.append(1)
                halves.append(2)

    thread = threading.Thread(target=fire)
    thread.start()
    try:
        while stopped < 100:
            try:
                interrupter.run(compute, LONG)
            except Interruption:
                stopped += 1
    finally:
        over.set()
        thread.join()
    assert halves == [1, 2] * (len(halves) // 2)
    assert_nothing_pending(interrupter)


class Swallowing:
    """An object that is interrupted while it is freed: Python ignores exceptions raised there."""

    def __del__(self) -> None:
        raise_stop()


def test_an_interruption_that_python_ignores_is_raised_again(interrupter: Interrupter) -> None:
    """A compute that is freeing an object at that moment is interrupted a little later."""

    def compute() -> None:
        Swallowing()
        spin()

    with pytest.raises(Interruption) as caught:
        interrupter.run(compute, LONG)
    assert caught.value.reason == interrupter.reason == "stopped"
    assert_nothing_pending(interrupter)


def test_a_late_alarm_of_the_previous_run_is_ignored(interrupter: Interrupter) -> None:
    """It may arrive when the next run has just begun, whose time is not over."""
    interrupter.run(lambda: None, 0.001)
    assert interrupter.run(lambda: signal.raise_signal(signal.SIGALRM), 100) is None
    assert interrupter.reason is None
    interrupter.rest()


def test_an_alarm_that_a_compute_sets_for_itself_ends_with_its_run(interrupter: Interrupter) -> None:
    """Its handler runs neither between the runs nor in the next run, which has its own timeout."""
    received: list[int] = []

    def compute() -> None:
        signal.signal(signal.SIGALRM, lambda number, _frame: received.append(number))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)

    interrupter.run(compute, 100)
    received.clear()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    with pytest.raises(Interruption):
        interrupter.run(spin, SOON)
    assert received == []
