"""A worker's side of its link to the kernel: the order in which it performs its runs; inside a worker."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable

from nerve.ipc.channel import Channel
from nerve.processes.messages import Finish, Ready, Run, RunResult, ToChild
from nerve.processes.prefetch import take


class WorkerLink:
    """Receives runs and reports their results.

    Runs come by the link, and through the prefetch pipe (the descriptor `prefetched`; None if there is none). A run
    from the pipe can overtake those that the kernel sent by the link before it: its `after` says how many there are.
    `before_wait` is called before the worker sleeps.
    """

    def __init__(self, link: Channel[ToChild], prefetched: int | None, before_wait: Callable[[], None]) -> None:
        self._link = link
        self._prefetched = prefetched
        self._before_wait = before_wait
        self._received: deque[ToChild] = deque()
        self._performed_from_link = 0
        self._held_back: Run | None = None
        """A run from the pipe that has to wait for runs from the link."""
        self._out_of_memory = False
        self._poller = select.poll()
        for descriptor in (link.fileno(), prefetched):
            if descriptor is not None:
                self._poller.register(descriptor, select.POLLIN)

    def ready(self) -> None:
        """Tell the kernel that this worker takes runs."""
        self._link.send(Ready())

    def next_run(self) -> Run | None:
        """Wait for the next run; None when the worker has to end: it was told to, is alone, or has no memory left."""
        while not self._out_of_memory:
            if self._received:
                return self._next_from_link()
            if self._link.ended:
                break
            if run := self._next_from_pipe():
                return run
            self._wait()
        return None

    def report(self, result: RunResult) -> None:
        """Send a result, and return once it is out of this process: its run must not count as open any longer."""
        self._out_of_memory = result.out_of_memory
        self._link.send(result)
        self._link.flush_all()

    def _next_from_link(self) -> Run | None:
        match self._received.popleft():
            case Run() as run:
                self._performed_from_link += 1
                return run
            case Finish():
                return None
            case message:
                raise TypeError(f"the kernel sent a worker a {type(message).__name__}")

    def _next_from_pipe(self) -> Run | None:
        run = self._held_back
        if run is None and self._prefetched is not None:
            run = take(self._prefetched)
        if run is None or run.after <= self._performed_from_link:
            self._held_back = None
            return run
        self._held_back = run
        return None

    def _wait(self) -> None:
        """Sleep until there is something to receive; with a run held back, only the link matters."""
        self._before_wait()
        if self._held_back:
            self._received += self._link.wait(None)
        elif any(descriptor == self._link.fileno() for descriptor, _event in self._poller.poll()):
            self._received += self._link.receive()
