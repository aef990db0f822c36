"""Children for tests: a fake one, whose messages and end the test decides, and the first step of a real one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import count
from typing import Any

from nerve.errors import WireError
from nerve.ipc.channel import Channel
from nerve.processes.child import ChildContext, Role
from nerve.processes.messages import Run, ToChild
from nerve.processes.prefetch import MAX_QUEUED_RUNS

MAX_DESCRIPTORS = 1024

_pids: Iterator[int] = count(1001)


class FakeLink:
    """A link whose other end is the test; `garbage` makes it receive an invalid message."""

    def __init__(self) -> None:
        self.incoming: list[Any] = []
        self.hung_up = False
        self.garbage = False
        self.ended = False
        self.closed = False

    def receive(self) -> list[Any]:
        """Return the messages of the test, as the real one does: those sent before a hang-up come first."""
        if self.ended:
            return []
        if self.garbage:
            raise WireError("a frame of 3 bytes is no message")
        messages, self.incoming = self.incoming, []
        self.ended = self.hung_up
        return messages

    def flush(self) -> bool:
        """Do nothing: there is never anything unsent."""
        return True

    def fileno(self) -> int:
        """Return a descriptor until it is closed."""
        return -1 if self.closed else 77

    def close(self) -> None:
        """Close it."""
        self.ended = self.closed = True


class FakePrefetch:
    """The prefetched runs of a worker: the test decides how many there is room for, and which are taken."""

    def __init__(self) -> None:
        self.waiting: list[Run] = []
        self.put_there: list[Run] = []
        self.capacity = MAX_QUEUED_RUNS
        self.room = 100
        """How many runs the pipe really takes."""

    def put(self, run: Run) -> bool:
        """Queue a run, if there is room."""
        if len(self.waiting) >= self.room:
            return False
        self.waiting.append(run)
        self.put_there.append(run)
        return True

    def take(self) -> Run:
        """Take the next run, as the worker does."""
        return self.waiting.pop(0)

    def take_back(self) -> list[Run]:
        """Return the runs that the worker has not taken."""
        waiting, self.waiting = self.waiting, []
        return waiting


class FakeChild:
    """A child that does nothing unless the test makes it."""

    def __init__(self, role: str = "worker") -> None:
        self.role = Role(role, lambda _context: None)
        self.pid = next(_pids)
        self.link = FakeLink()
        self.prefetch = FakePrefetch()
        self.ready = False
        self.failure: str | None = None
        self.code: int | None = None
        self.trace: str | None = None
        self.received: list[ToChild] = []
        self.signals: list[signal.Signals] = []
        self.joined: list[float] = []
        self.closed = False

    def says(self, *messages: Any) -> None:
        """Send messages to the kernel."""
        self.link.incoming += messages

    def ends(self, code: int, *last_words: Any) -> None:
        """End, after sending some last messages."""
        self.says(*last_words)
        self.link.hung_up = True
        self.code = code

    def send(self, message: ToChild) -> None:
        """Take a message from the kernel."""
        self.received.append(message)

    def signal(self, number: signal.Signals) -> None:
        """Note a signal; it takes effect when the test says so."""
        self.signals.append(number)

    def kill(self) -> None:
        """End at once, if it has not ended yet."""
        self.signals.append(signal.SIGKILL)
        if self.code is None:
            self.ends(-signal.SIGKILL)

    def join(self, timeout: float) -> None:
        """Note the wait for its end."""
        self.joined.append(timeout)

    def reap(self) -> int | None:
        """Return the exit code, or None while it lives."""
        return self.code

    def crash_trace(self) -> str | None:
        """Return its trace once."""
        trace, self.trace = self.trace, None
        return trace

    def close(self) -> None:
        """Close it, which is allowed only after its end."""
        assert self.code is not None
        self.closed = True


def enter(context: ChildContext) -> Channel[ToChild]:
    """Close all descriptors that a forked child inherited, so that it notices the end of the tests; return its link."""
    start = 3
    for kept in sorted((context.link.fileno(), context.crash)):
        os.closerange(start, kept)
        start = kept + 1
    os.closerange(start, MAX_DESCRIPTORS)
    return Channel(context.link, ToChild)
