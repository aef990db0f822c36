"""Children of tests: one without a process, whose words and end the test decides, and what a real one does first."""

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

MAX_DESCRIPTORS = 1024

_pids: Iterator[int] = count(1001)


class FakeLink:
    """A link whose other end is the test."""

    def __init__(self) -> None:
        self.incoming: list[Any] = []
        self.hung_up = False
        self.garbage = False
        self.ended = False
        self.closed = False

    def receive(self) -> list[Any]:
        """Give what the test has put there, as the real one does: what came before a hang-up comes first."""
        if self.ended:
            return []
        if self.garbage:
            raise WireError("a frame of 3 bytes is no message")
        messages, self.incoming = self.incoming, []
        self.ended = self.hung_up
        return messages

    def flush(self) -> bool:
        """Have nothing to send."""
        return True

    def fileno(self) -> int:
        """Have a descriptor until it is closed."""
        return -1 if self.closed else 77

    def close(self) -> None:
        """Be closed."""
        self.ended = self.closed = True


class FakePrefetch:
    """What a worker finds when it is done: the test decides how much there is room for, and what it has taken."""

    def __init__(self) -> None:
        self.waiting: list[Run] = []
        self.put_there: list[Run] = []
        self.room = 100

    def put(self, run: Run) -> bool:
        """Take a run, if there is room."""
        if len(self.waiting) >= self.room:
            return False
        self.waiting.append(run)
        self.put_there.append(run)
        return True

    def take(self) -> Run:
        """Be the worker that takes the next one."""
        return self.waiting.pop(0)

    def take_back(self) -> list[Run]:
        """Give back what the worker has not taken."""
        waiting, self.waiting = self.waiting, []
        return waiting


class FakeChild:
    """A child that does nothing by itself."""

    def __init__(self, role: str = "worker", now: float = 0.0) -> None:
        self.role = Role(role, lambda _context: None)
        self.started = now
        self.pid = next(_pids)
        self.link = FakeLink()
        self.prefetch = FakePrefetch()
        self.ready = False
        self.failure: str | None = None
        self.code: int | None = None
        self.trace: str | None = None
        self.told: list[ToChild] = []
        self.signals: list[signal.Signals] = []
        self.joined: list[float] = []
        self.closed = False

    def says(self, *messages: Any) -> None:
        """Send messages to the kernel."""
        self.link.incoming += messages

    def ends(self, code: int, *last_words: Any) -> None:
        """End, after some last words."""
        self.says(*last_words)
        self.link.hung_up = True
        self.code = code

    def send(self, message: ToChild) -> None:
        """Be told something; a dead child is deaf."""
        self.told.append(message)

    def signal(self, number: signal.Signals) -> None:
        """Get a signal; it takes effect when the test says so."""
        self.signals.append(number)

    def kill(self) -> None:
        """End at once, if it has not ended yet."""
        self.signals.append(signal.SIGKILL)
        if self.code is None:
            self.ends(-signal.SIGKILL)

    def join(self, timeout: float) -> None:
        """Be waited for; the hang-up of its link has been enough for a good end, unless it is stubborn."""
        self.joined.append(timeout)

    def reap(self) -> int | None:
        """Give the exit code, if it has ended."""
        return self.code

    def crash_trace(self) -> str | None:
        """Give what it wrote where it hung, once."""
        trace, self.trace = self.trace, None
        return trace

    def close(self) -> None:
        """Be let go of; only a child that has ended may be."""
        assert self.code is not None
        self.closed = True


def enter(context: ChildContext) -> Channel[ToChild]:
    """Close all that a forked child has inherited, so that it sees the tests' end; gives its link."""
    start = 3
    for kept in sorted((context.link.fileno(), context.crash)):
        os.closerange(start, kept)
        start = kept + 1
    os.closerange(start, MAX_DESCRIPTORS)
    return Channel(context.link, ToChild)
