"""What a worker does next: what came by its link, and what was put where it looks, in the order of the kernel."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterator

import msgspec
import pytest
from support.pool import run_of

from nerve.ipc.channel import Channel
from nerve.processes.messages import Finish, FromChild, Run, ToChild
from nerve.processes.prefetch import Prefetch
from nerve.runtime.interruption import Interrupter
from nerve.workers.compute import ComputeWorker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps packets apart in a pipe")


class Bench:
    """A worker that performs nothing, and its kernel."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.link: Channel[FromChild] = Channel(ours, FromChild)
        self.prefetch = Prefetch()
        self.worker = object.__new__(ComputeWorker)
        self.worker._link = Channel(theirs, ToChild)
        self.worker._prefetched = self.prefetch.theirs
        self.worker._linked = 0
        self.worker._interrupter = Interrupter()
        self.worker._poller = select.poll()
        for descriptor in (theirs.fileno(), self.prefetch.theirs):
            self.worker._poller.register(descriptor, select.POLLIN)
        self.worker._serve = self._note  # type: ignore[method-assign]
        self.done: list[str] = []
        self.last: str | None = None

    def _note(self, run: Run) -> bool:
        self.done.append(run.run_id)
        return run.run_id != self.last

    def put(self, number: int, after: int = 0) -> None:
        """Put a run where the worker looks, after so many that come by the link."""
        assert self.prefetch.put(msgspec.structs.replace(run_of("a", number), after=after))

    def serve_until(self, count: int) -> list[str]:
        """Let the worker go on until it has done so many runs, and give these."""
        while len(self.done) < count:
            assert self.worker._serve_next()
        return self.done

    def close(self) -> None:
        """Close everything."""
        self.prefetch.close()
        self.link.close()
        self.worker._link.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Give a worker that performs nothing."""
    bench = Bench()
    yield bench
    bench.close()


def test_what_is_put_there_and_what_is_sent_is_done_in_order(bench: Bench) -> None:
    """Whichever of the two the worker finds first: each packet says what comes before it."""
    bench.put(1, after=1)
    bench.put(2, after=1)
    bench.link.send(run_of("a", 0))
    assert bench.serve_until(3) == ["a/0", "a/1", "a/2"]
    bench.link.send(run_of("a", 3))
    bench.put(4, after=2)
    assert bench.serve_until(5)[3:] == ["a/3", "a/4"]


def test_it_is_woken_up_by_what_is_put_there(bench: Bench) -> None:
    """It may have fallen asleep while the kernel put it there."""
    bench.link.send(run_of("a", 0))
    assert bench.serve_until(1) == ["a/0"]
    bench.put(1, after=1)
    assert bench.serve_until(2) == ["a/0", "a/1"]


def test_it_ends_when_it_is_told_to(bench: Bench) -> None:
    """There is nothing left then that it could do."""
    bench.link.send(Finish())
    bench.worker.serve()
    assert bench.done == []


@pytest.mark.parametrize("last", ["a/0", "a/1"])
def test_after_a_run_that_left_no_memory_it_does_nothing_more(bench: Bench, last: str) -> None:
    """Whichever way that run came; what it has not begun is there for the kernel to take back."""
    bench.last = last
    for number in (1, 2):
        bench.put(number, after=1)
    bench.link.send(run_of("a", 0))
    bench.worker.serve()
    assert bench.done[-1] == last


def test_a_worker_whose_kernel_is_gone_begins_nothing(bench: Bench) -> None:
    """What the kernel would have sent before will never come."""
    bench.put(1, after=1)
    bench.link.close()
    bench.worker.serve()
    assert bench.done == []
