"""What a worker does next: what came by its link, and what was put where it looks, in the order of the kernel."""

from __future__ import annotations

import socket
import sys
from collections import deque
from collections.abc import Iterator

import msgspec
import pytest
from support.pool import run_of

from nerve.interruption import Interrupter
from nerve.messages import Finish, FromChild, Look, Ready, Run, ToChild
from nerve.prefetch import Prefetch
from nerve.wire import Channel
from workers.compute import ComputeWorker

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
        self.worker._heard = deque()
        self.worker._serve = self._note  # type: ignore[method-assign]
        self.done: list[str] = []
        self.last: str | None = None

    def _note(self, run: Run) -> bool:
        self.done.append(run.run_id)
        return run.run_id != self.last

    def put(self, number: int, after: int = 0) -> None:
        """Put a run where the worker looks, after so many that come by the link."""
        assert self.prefetch.put(msgspec.structs.replace(run_of("a", number), after=after))

    def serve(self) -> list[str]:
        """Let the worker do all there is, and give what it has done."""
        self.worker.serve()
        assert self.link.receive() == [Ready()]
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


def test_it_looks_when_it_is_told_to(bench: Bench) -> None:
    """And does all that is there, in order."""
    for number in range(3):
        bench.put(number)
    for message in (Look(), Look(), run_of("a", 3), Finish()):
        bench.link.send(message)
    assert bench.serve() == ["a/0", "a/1", "a/2", "a/3"]


def test_it_leaves_alone_what_it_was_not_told_of(bench: Bench) -> None:
    """The kernel may still take it back."""
    bench.put(0)
    bench.link.send(Finish())
    assert bench.serve() == []
    assert [run.run_id for run in bench.prefetch.take_back()] == ["a/0"]


def test_what_was_sent_by_the_link_before_comes_first(bench: Bench) -> None:
    """Though the worker finds the later run first, since it has not read its link yet."""
    bench.put(1, after=1)
    bench.put(2, after=1)
    for message in (Look(), run_of("a", 0), Look(), Finish()):
        bench.link.send(message)
    assert bench.serve() == ["a/0", "a/1", "a/2"]


@pytest.mark.parametrize("last", ["a/0", "a/1"])
def test_after_a_run_that_left_no_memory_it_does_nothing_more(bench: Bench, last: str) -> None:
    """Whichever way that run came; what it has not begun is there for the kernel to take back."""
    bench.last = last
    for number in (1, 2):
        bench.put(number, after=1)
    for message in (Look(), run_of("a", 0), Look(), Finish()):
        bench.link.send(message)
    assert bench.serve()[-1] == last


def test_a_worker_whose_kernel_is_gone_begins_nothing(bench: Bench) -> None:
    """What the kernel would have sent before will never come."""
    bench.put(1, after=1)
    bench.link.send(Look())
    bench.link.close()
    bench.worker.serve()
    assert bench.done == []
