"""Interrupting a compute: always inside it, at most once a run, and never in the machinery around it."""

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
    """Give an interrupter that has taken over the signals."""
    with installed_interrupter() as interrupter:
        yield interrupter


def spin() -> None:
    """Never return, and never call anything."""
    while True:
        pass


def raise_stop() -> None:
    """Do what the kernel does when it stops."""
    signal.raise_signal(signal.SIGUSR1)


def assert_quiet(interrupter: Interrupter) -> None:
    """Check that no interruption is left: neither an armed timer, nor anything that a signal or a block would raise."""
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
def test_a_timeout_interrupts_wherever_the_compute_hangs(interrupter: Interrupter, hang: Callable[[], object]) -> None:
    """A loop without a call, a sleep, and waits on locks all end soon after the timeout."""
    started = time.monotonic()
    with pytest.raises(Interruption) as caught:
        interrupter.run(hang, SOON)
    assert SOON <= time.monotonic() - started < LONG / 2
    assert caught.value.reason == interrupter.reason == "timeout"
    assert_quiet(interrupter)


def test_the_kernel_s_stop_interrupts_too(interrupter: Interrupter) -> None:
    """SIGUSR1 ends a run as stopped."""

    def compute() -> None:
        raise_stop()
        spin()

    with pytest.raises(Interruption):
        interrupter.run(compute, LONG)
    assert interrupter.reason == "stopped"
    assert_quiet(interrupter)


def test_a_run_in_time_is_left_alone(interrupter: Interrupter) -> None:
    """The result comes back, and the timer is off."""
    assert interrupter.run(lambda: 42, LONG) == 42
    assert interrupter.reason is None
    assert_quiet(interrupter)


def test_a_compute_s_own_exception_comes_through(interrupter: Interrupter) -> None:
    """What a compute raises is its own affair, and disarms the timer as well."""
    with pytest.raises(ZeroDivisionError):
        interrupter.run(lambda: 1 // 0, LONG)
    assert interrupter.reason is None
    assert_quiet(interrupter)


def test_except_exception_does_not_swallow_it(interrupter: Interrupter) -> None:
    """The usual catch-all of a careful compute lets it by."""

    def compute() -> None:
        while True:
            try:
                spin()
            except Exception:  # noqa: BLE001, S112 - this is what is tested
                continue

    with pytest.raises(Interruption):
        interrupter.run(compute, SOON)


def test_what_swallows_everything_is_interrupted_once_and_still_counts_as_late(interrupter: Interrupter) -> None:
    """A bare except gets away with its result, but not with the reason: the run was too late."""
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
    assert_quiet(interrupter)


def test_the_next_run_starts_afresh(interrupter: Interrupter) -> None:
    """Neither reason nor pending interruption outlive their run."""
    with pytest.raises(Interruption):
        interrupter.run(spin, SOON)
    assert interrupter.run(lambda: "fine", LONG) == "fine"
    assert interrupter.reason is None
    with pytest.raises(Interruption):
        interrupter.run(spin, SOON)


def test_a_signal_between_runs_is_ignored(interrupter: Interrupter) -> None:
    """The machinery is never interrupted, not even when a signal comes late."""
    assert_quiet(interrupter)
    assert interrupter.run(lambda: "fine", LONG) == "fine"
    assert_quiet(interrupter)


def test_a_protected_block_ends_before_it_is_interrupted(interrupter: Interrupter) -> None:
    """What arrives inside any depth of blocks is raised at the end of the outermost, exactly once."""
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
    assert_quiet(interrupter)


def test_a_swallowed_interruption_of_a_block_is_not_raised_by_the_next(interrupter: Interrupter) -> None:
    """Once is once, also when it was deferred."""
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


def test_a_block_that_fails_does_not_lose_the_interruption(interrupter: Interrupter) -> None:
    """A compute that swallows the block's own error, and goes on for ever, is interrupted all the same."""

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
    assert_quiet(interrupter)


def test_check_raises_in_the_middle_of_a_block_that_waits(interrupter: Interrupter) -> None:
    """A block that waits for something can give up where nothing is half done, and its depth is right afterwards."""
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
        assert_quiet(interrupter)


def test_other_threads_may_use_the_guard_and_are_never_interrupted(interrupter: Interrupter) -> None:
    """Interruptions are the main thread's; a block elsewhere neither raises one, nor defers the compute's own."""
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


def test_an_asynchronous_run_may_have_it_delivered_instead(interrupter: Interrupter) -> None:
    """Where `deliver` takes it, nothing is raised; where it doesn't, all is as ever; a run's is gone after it."""
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
def test_a_timeout_at_the_very_end_never_escapes_from_the_run(interrupter: Interrupter, microseconds: int) -> None:
    """Of thousands of runs as long as their timeout, each ends in time or is interrupted, and that is all."""
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
        for _ in range(50):  # room for one that comes late
            pass
    assert all(outcomes.values())
    assert_quiet(interrupter)


def test_stops_at_random_moments_hit_either_the_run_or_nothing(interrupter: Interrupter) -> None:
    """A thread fires stops at a loop of short runs full of protected blocks: no block is cut, and depths stay right."""
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
    assert_quiet(interrupter)


class Swallowing:
    """An object whose end is interrupted: Python ignores whatever is raised there."""

    def __del__(self) -> None:
        raise_stop()


def test_an_interruption_that_python_ignores_comes_again(interrupter: Interrupter) -> None:
    """A compute that is just freeing an object does not get away with it."""

    def compute() -> None:
        Swallowing()
        spin()

    with pytest.raises(Interruption) as caught:
        interrupter.run(compute, LONG)
    assert caught.value.reason == interrupter.reason == "stopped"
    assert_quiet(interrupter)


def test_the_alarm_of_the_run_before_interrupts_nothing(interrupter: Interrupter) -> None:
    """It may come at the very moment at which the next run begins, which has time left."""
    interrupter.run(lambda: None, 0.001)
    assert interrupter.run(lambda: signal.raise_signal(signal.SIGALRM), 100) is None
    assert interrupter.reason is None
    interrupter.rest()


def test_an_alarm_that_a_compute_has_set_for_itself_ends_with_it(interrupter: Interrupter) -> None:
    """Its handler must not run in another's run, nor in between, and the next run has its own timeout again."""
    heard: list[int] = []

    def compute() -> None:
        signal.signal(signal.SIGALRM, lambda number, _frame: heard.append(number))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)

    interrupter.run(compute, 100)
    heard.clear()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    with pytest.raises(Interruption):
        interrupter.run(spin, SOON)
    assert heard == []
