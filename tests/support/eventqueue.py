"""The writer's end of the event queue with a log in memory, driven step by step by a test."""

from __future__ import annotations

import itertools
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nerve.clock import Clock, Stamp
from nerve.eventqueue import EventReceiver, Gathered, Lane, Wakeup
from nerve.eventqueue.lane import pack
from nerve.eventqueue.lane_file import SUFFIX, create_lane_file
from nerve.events.model import LogEvent

BOOT = "01a2308a50f976a4a9cb473485765cec"
LOG_NUMBER = 7
"""The log that lanes of tests belong to."""


@contextmanager
def short_folder() -> Iterator[Path]:
    """Give a folder for sockets, whose paths must be short; it is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="nv-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def listen(address: Path) -> socket.socket:
    """Listen as the kernel does for the writer, so that a dead writer's successor has the same socket."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(address))
    listener.listen(128)
    return listener


def event(name: str, mono: int = 1, payload: str = "null") -> LogEvent:
    """Make an event that its `name` (in the column type) identifies."""
    return LogEvent("sense", name, None, payload, 1_700_000_000_000, mono)


def names(events: Sequence[LogEvent]) -> list[str]:
    """The names of events, in order."""
    return [event.type for event in events]


class CountingClock:
    """A clock that goes on by one with each look at it: no two moments are the same."""

    def __init__(self) -> None:
        self._ticks = itertools.count(1)

    def now(self) -> float:
        """The next moment, in seconds."""
        return next(self._ticks) / 1e9

    def stamp(self) -> Stamp:
        """The next moment."""
        tick = next(self._ticks)
        return Stamp(tick, tick)


class MemoryLog:
    """What outlives a writer: the committed events and, with them, the positions of their producers."""

    def __init__(self) -> None:
        self.commits: list[list[LogEvent]] = []
        self.positions: dict[str, int] = {}

    @property
    def events(self) -> list[LogEvent]:
        """All committed events, in order."""
        return [event for commit in self.commits for event in commit]

    def append(self, events: Sequence[LogEvent], positions: Mapping[str, int]) -> None:
        """Commit."""
        self.commits.append(list(events))
        self.positions.update(positions)

    def position(self, producer: str) -> int:
        """How far a producer's lane is committed."""
        return self.positions.get(producer, 0)

    def forget(self, *producers: str) -> None:
        """Forget producers."""
        for producer in producers:
            self.positions.pop(producer, None)


class Producer:
    """A process that logs, without the process: its lane is a file, and the lane outlives it."""

    def __init__(self, folder: Path, wakeup: Wakeup, name: str = "p", capacity: int = 64 * 1024) -> None:
        self.name = name
        self.path = folder / f"{name}{SUFFIX}"
        create_lane_file(self.path, name, BOOT, capacity)
        self.lane = Lane(self.path, wakeup)

    def publish(self, *events: LogEvent) -> bool:
        """Publish events as one batch; False where there is no room."""
        return self.lane.publish(pack(list(events)))

    @property
    def words(self) -> memoryview:
        """The numbers of the lane's header."""
        return self.lane._file.words

    @property
    def ring(self) -> memoryview:
        """The bytes of the lane's ring."""
        return self.lane._file.ring

    def die(self) -> None:
        """End as a SIGKILL ends a process: what is published stays."""
        self.lane.close()


class StepWriter:
    """A writer that does what the test says, when it says so; it can die at any point, and its successor takes over."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self.log = MemoryLog()
        self.reports: list[str] = []
        self.wakeup = Wakeup()
        self.start()

    def start(self) -> None:
        """Begin as a new process does: with the lanes and the log, and nothing else."""
        self.receiver = EventReceiver(self.folder, LOG_NUMBER, self.log.position, self.clock, self.reports.append)

    def producer(self, name: str = "p", capacity: int = 64 * 1024) -> Producer:
        """Make a producer whose lane is open."""
        made = Producer(self.folder, self.wakeup, name, capacity)
        self.receiver.open(name)
        return made

    def gather(self, max_events: int = 1_000_000) -> Gathered:
        """Take what the next commit would hold."""
        cutoff = self.clock.stamp().mono
        self.receiver.drain()
        return self.receiver.take(cutoff, max_events)

    def commit(self, max_events: int = 1_000_000, *, acknowledge: bool = True) -> Gathered:
        """Commit once, and acknowledge, if the writer is to live that long."""
        gathered = self.gather(max_events)
        self.log.append(gathered.events, gathered.positions)
        if acknowledge:
            self.receiver.acknowledge(gathered.positions)
        return gathered

    def restart(self) -> None:
        """Lose all memory, as a killed process does, and open the lanes that are there again."""
        self.receiver.close()
        self.start()
        for path in self.folder.glob(f"*{SUFFIX}"):
            self.receiver.open(path.stem)

    def close(self) -> None:
        """Die for good."""
        self.receiver.close()
        self.wakeup.close()


class Call:
    """A call in a thread of its own."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(function, arguments), daemon=True)
        self._thread.start()

    def _run(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
        try:
            self._outcome = function(*arguments)
        except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
            self._error = error

    @property
    def blocked(self) -> bool:
        """It has not returned yet."""
        return self._thread.is_alive()

    def result(self) -> Any:
        """Wait for its end, and give what it gave, or raise what it raised."""
        self._thread.join(10)
        assert not self.blocked
        if self._error:
            raise self._error
        return self._outcome
