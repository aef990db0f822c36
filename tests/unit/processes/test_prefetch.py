"""Prefetch: each run is taken once, by the worker or by the kernel, whoever is killed meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator

import pytest
from support.pool import run_of, version_of
from support.waiting import wait_until

from nerve.processes.prefetch import Prefetch, take

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps packets apart in a pipe"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

MANY = 2_000


@pytest.fixture
def prefetch() -> Iterator[Prefetch]:
    """Give one, and close it."""
    prefetch = Prefetch()
    yield prefetch
    prefetch.close()


def test_runs_are_taken_in_their_order_each_once(prefetch: Prefetch) -> None:
    """With all that they carry; then there is nothing."""
    runs = [run_of("disk", 1, version_of("d")), run_of("load", 2)]
    assert [prefetch.put(run) for run in runs] == [True, True]
    assert [take(prefetch.theirs), take(prefetch.theirs), take(prefetch.theirs)] == [*runs, None]


def test_what_is_taken_back_is_gone(prefetch: Prefetch) -> None:
    """What the worker has taken is not given back; what is taken back the worker never sees."""
    for number in range(3):
        prefetch.put(run_of("a", number))
    assert take(prefetch.theirs) == run_of("a", 0)
    assert prefetch.take_back() == [run_of("a", 1), run_of("a", 2)]
    assert take(prefetch.theirs) is None
    assert prefetch.take_back() == []


def test_a_run_that_is_too_large_is_refused(prefetch: Prefetch) -> None:
    """It is not cut off, and what comes after it is put there."""
    assert not prefetch.put(run_of("a", 1, version_of("d" * 4_096)))
    assert prefetch.take_back() == []
    assert prefetch.put(run_of("a", 2))
    assert take(prefetch.theirs) == run_of("a", 2)


def test_a_full_one_refuses_and_keeps_what_it_has(prefetch: Prefetch) -> None:
    """The kernel never waits for a worker."""
    number = 0
    while prefetch.put(run_of("a", number)):
        number += 1
    assert number > 16
    assert len(prefetch.take_back()) == number
    assert prefetch.put(run_of("a", 0))


def test_when_the_kernel_is_gone_there_is_nothing_to_take() -> None:
    """The worker hears of the end by its link; here it must only not fail."""
    prefetch = Prefetch()
    end = os.dup(prefetch.theirs)
    prefetch.close()
    assert take(end) is None
    os.close(end)


def _taking(end: int, taken: int) -> None:
    """Take runs for ever, and write each one's number to a pipe (child)."""
    while True:
        run = take(end)
        if run:
            os.write(taken, int(run.run_id.partition("/")[2]).to_bytes(4, "big"))


def test_a_killed_worker_costs_at_most_the_run_that_it_had(prefetch: Prefetch) -> None:
    """Both take as fast as they can, until the worker is killed: no run is lost but that one, and none is doubled."""
    reading, writing = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=_taking, args=(prefetch.theirs, writing), daemon=True)
    child.start()
    os.close(writing)
    by_kernel: list[str] = []
    for number in range(MANY):
        wait_until(lambda number=number: prefetch.put(run_of("a", number)), "the worker has made room")
        if number % 7 == 0:
            by_kernel += [run.run_id for run in prefetch.take_back()]
        if number == MANY // 2:
            child.kill()
            child.join()
        if number >= MANY // 2:
            by_kernel += [run.run_id for run in prefetch.take_back()]
    with os.fdopen(reading, "rb") as pipe:
        numbers = pipe.read()
    by_worker = [f"a/{int.from_bytes(numbers[at : at + 4], 'big')}" for at in range(0, len(numbers), 4)]
    taken = by_worker + by_kernel
    assert by_worker
    assert by_kernel
    assert len(taken) == len(set(taken)) >= MANY - 1
