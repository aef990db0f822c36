"""Prefetch: each run is taken once, by the worker or by the kernel, even if the worker is killed meanwhile."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import select
import sys
from collections.abc import Iterator

import pytest
from support.pool import run_of, version_of
from support.waiting import wait_until

from nerve.processes.prefetch import MAX_QUEUED_RUNS, PAGE_BYTES, Prefetch, take

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps packets apart in a pipe"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

MANY = 2_000


@pytest.fixture
def prefetch() -> Iterator[Prefetch]:
    """Return an empty one, closed afterwards."""
    prefetch = Prefetch()
    yield prefetch
    prefetch.close()


def test_runs_are_taken_in_order_and_once(prefetch: Prefetch) -> None:
    """Each arrives as it was put; then there is none."""
    runs = [run_of("disk", 1, version_of("d")), run_of("load", 2)]
    assert [prefetch.put(run) for run in runs] == [True, True]
    assert [take(prefetch.theirs), take(prefetch.theirs), take(prefetch.theirs)] == [*runs, None]


def test_runs_that_the_kernel_takes_back_are_gone(prefetch: Prefetch) -> None:
    """The worker never sees them; a run that the worker has taken can't be taken back."""
    for number in range(3):
        prefetch.put(run_of("a", number))
    assert take(prefetch.theirs) == run_of("a", 0)
    assert prefetch.take_back() == [run_of("a", 1), run_of("a", 2)]
    assert take(prefetch.theirs) is None
    assert prefetch.take_back() == []


def test_a_run_that_is_too_large_for_a_packet_is_refused(prefetch: Prefetch) -> None:
    """It is not cut in two, and the next run is queued."""
    assert not prefetch.put(run_of("a", 1, version_of("d" * 4_096)))
    assert prefetch.take_back() == []
    assert prefetch.put(run_of("a", 2))
    assert take(prefetch.theirs) == run_of("a", 2)


def test_a_full_pipe_refuses_a_run_without_blocking(prefetch: Prefetch) -> None:
    """It keeps the runs that it has, and takes further ones when there is room."""
    number = 0
    while prefetch.put(run_of("a", number)):
        number += 1
    assert len(prefetch.take_back()) == number
    assert prefetch.put(run_of("a", 0))


def test_the_capacity_is_what_fits_behind_the_current_run(prefetch: Prefetch) -> None:
    """The current run may still lie in the pipe, so it holds one run more than can be queued."""
    assert prefetch.capacity == MAX_QUEUED_RUNS
    assert all(prefetch.put(run_of("a", number)) for number in range(prefetch.capacity + 1))


def test_a_pipe_that_can_not_grow_has_less_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's share of pipe memory is limited; what fits then is measured, not assumed."""
    control = fcntl.fcntl

    def refuse_to_grow(fd: int, command: int, *argument: int) -> int:
        if command == fcntl.F_SETPIPE_SZ:
            control(fd, command, 4 * PAGE_BYTES)
            raise PermissionError(1, "Operation not permitted")
        return control(fd, command, *argument)

    monkeypatch.setattr(fcntl, "fcntl", refuse_to_grow)
    prefetch = Prefetch()
    assert prefetch.capacity == 3
    assert [prefetch.put(run_of("a", number)) for number in range(5)] == [True] * 4 + [False]
    prefetch.close()


def test_there_is_nothing_to_take_when_the_kernel_is_gone() -> None:
    """The worker notices the end by its link; taking must just not fail."""
    prefetch = Prefetch()
    end = os.dup(prefetch.theirs)
    prefetch.close()
    assert take(end) is None
    os.close(end)


def _taking(end: int, taken: int) -> None:
    """Take runs until killed, and write the number of each to a pipe (child)."""
    while True:
        run = take(end)
        if run:
            os.write(taken, int(run.run_id.partition("/")[2]).to_bytes(4, "big"))


def test_a_killed_worker_costs_at_most_the_run_that_it_had(prefetch: Prefetch) -> None:
    """Both take runs until the worker is killed: no other run is lost, and none is taken twice."""
    reading, writing = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=_taking, args=(prefetch.theirs, writing), daemon=True)
    child.start()
    os.close(writing)
    by_kernel: list[str] = []
    assert prefetch.put(run_of("a", MANY))
    wait_until(lambda: select.select([reading], [], [], 0)[0], "the worker takes runs")
    for number in range(MANY):
        wait_until(lambda number=number: prefetch.put(run_of("a", number)), "there is room")
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
    assert len(taken) == len(set(taken)) >= MANY  # of MANY + 1
