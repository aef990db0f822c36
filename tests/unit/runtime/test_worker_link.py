"""WorkerLink: runs from the link and runs from the prefetch pipe come out in the order of the kernel."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest
from support.pool import run_of

from nerve.ipc.channel import Channel
from nerve.processes.messages import ArchiveNow, Finish, FromChild, Ready, RunResult, ToChild
from nerve.processes.prefetch import Prefetch
from nerve.runtime.worker_link import WorkerLink

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps packets apart in a pipe")


class Kernel:
    """The kernel's ends of a worker's link and pipe, and the worker's side of them, which is tested."""

    def __init__(self, ours: Channel[FromChild], theirs: Channel[ToChild], prefetch: Prefetch) -> None:
        self.link = ours
        self._prefetch = prefetch
        self.waits = 0
        self.worker = WorkerLink(theirs, prefetch.theirs, self._count_wait)

    def send(self, *numbers: int) -> None:
        """Send runs by the link."""
        for number in numbers:
            self.link.send(run_of("a", number))

    def put(self, number: int, *, after: int) -> None:
        """Put a run into the pipe that comes after this many from the link."""
        assert self._prefetch.put(msgspec.structs.replace(run_of("a", number), after=after))

    def performed(self, count: int) -> list[str]:
        """Return the ids of the worker's next runs."""
        runs = [self.worker.next_run() for _ in range(count)]
        return [run.run_id for run in runs if run]

    def _count_wait(self) -> None:
        self.waits += 1


def result_of(run_id: str) -> RunResult:
    """Return the result of a run that went well."""
    return RunResult(run_id=run_id, status="ok", duration_ms=1.0)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A kernel with one worker."""
    ours, theirs = socket.socketpair()
    with (
        closing(Channel[FromChild](ours, FromChild)) as our_link,
        closing(Channel[ToChild](theirs, ToChild)) as their_link,
        closing(Prefetch()) as prefetch,
    ):
        yield Kernel(our_link, their_link, prefetch)


def test_a_run_from_the_pipe_waits_for_the_runs_sent_by_the_link_before_it(kernel: Kernel) -> None:
    """The worker may find the pipe's packet first; its `after` says what comes before it."""
    kernel.put(1, after=1)
    kernel.put(2, after=1)
    kernel.send(0)
    assert kernel.performed(3) == ["a/0", "a/1", "a/2"]
    kernel.send(3)
    kernel.put(4, after=2)
    assert kernel.performed(2) == ["a/3", "a/4"]


def test_a_run_is_taken_from_the_pipe_without_waiting(kernel: Kernel) -> None:
    """A worker that finds its next run there does not sleep in between."""
    kernel.send(0)
    kernel.put(1, after=1)
    assert kernel.performed(1) == ["a/0"]
    waits = kernel.waits
    assert kernel.performed(1) == ["a/1"]
    assert kernel.waits == waits


def test_a_run_that_is_put_into_the_pipe_wakes_a_sleeping_worker(kernel: Kernel) -> None:
    """The worker sleeps on the link and the pipe alike."""
    kernel.worker = WorkerLink(kernel.worker._link, kernel.worker._prefetched, lambda: kernel.put(1, after=0))
    assert kernel.performed(1) == ["a/1"]


def test_a_worker_that_is_told_to_finish_has_no_next_run(kernel: Kernel) -> None:
    """Runs that were sent before still come first."""
    kernel.send(0)
    kernel.link.send(Finish())
    assert kernel.performed(2) == ["a/0"]


def test_a_worker_whose_kernel_has_gone_has_no_next_run(kernel: Kernel) -> None:
    """A run that waits for others from the link would wait forever."""
    kernel.put(1, after=1)
    kernel.link.close()
    assert kernel.worker.next_run() is None


def test_runs_that_a_gone_kernel_has_sent_still_come(kernel: Kernel) -> None:
    """The end of the link comes after everything that was sent by it."""
    kernel.send(0, 1)
    kernel.link.close()
    assert kernel.performed(3) == ["a/0", "a/1"]


@pytest.mark.parametrize("last", ["a/0", "a/1"])
def test_a_run_that_left_no_memory_is_the_last(kernel: Kernel, last: str) -> None:
    """Whichever way it came; the kernel can take back what is left in the pipe."""
    kernel.send(0)
    kernel.put(1, after=1)
    kernel.put(2, after=1)
    while (run := kernel.worker.next_run()) and run.run_id != last:
        kernel.worker.report(result_of(run.run_id))
    kernel.worker.report(msgspec.structs.replace(result_of(last), out_of_memory=True))
    assert kernel.worker.next_run() is None
    assert [run.run_id for run in kernel._prefetch.take_back()][-1] == "a/2"


def test_the_kernel_receives_ready_and_then_the_results(kernel: Kernel) -> None:
    """A result is in the kernel's socket when `report` returns."""
    kernel.worker.ready()
    kernel.worker.report(result_of("a/0"))
    assert kernel.link.receive() == [Ready(), result_of("a/0")]


def test_a_message_that_is_not_for_a_worker_is_an_error(kernel: Kernel) -> None:
    """It is a fault in the kernel, which must not go unnoticed."""
    kernel.link.send(ArchiveNow(1.0, vacuum=False))
    with pytest.raises(TypeError, match="sent a worker a ArchiveNow"):
        kernel.worker.next_run()
