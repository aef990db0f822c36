"""EventReceiver: the writer's end of the event queue, a lane per producer and nothing shared between them."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter, itemgetter
from pathlib import Path

from nerve.clock import Clock
from nerve.errors import WireError
from nerve.eventqueue.lane_file import HEAD, LOG, SUFFIX, TAIL, LaneFile
from nerve.eventqueue.lane_reader import CORRUPT, Batch, LaneReader
from nerve.events.model import LogEvent

logger = logging.getLogger("nerve.writer")

_place_of = itemgetter(0)
_events_of: Callable[[Batch], list[LogEvent]] = itemgetter(3)

ASIDE = ".aside"
"""The suffix of a file that was among the lanes and is not read: its bytes are kept for whoever wants to look."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What one commit holds: events in order of time, and where each producer then stands."""

    events: list[LogEvent]
    positions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LaneBacklog:
    """What one lane holds that is not committed: bytes, and the age of the oldest event in ms."""

    producer: str
    pid: int
    bytes: int
    age_ms: float


class EventReceiver:
    """Reads all lanes, and tells their producers what is committed.

    `log` names the log: a lane that belongs to another one is put aside. `position` gives a producer's position in it.
    `report` is called with a sentence about each lane that makes no sense, once.
    """

    def __init__(
        self, folder: Path, log: int, position: Callable[[str], int], clock: Clock, report: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._log = log
        self._position = position
        self._clock = clock
        self._report = report
        self._lanes: dict[str, LaneReader] = {}
        self._waiting: list[Batch] = []
        self._events = 0

    @property
    def lanes(self) -> list[LaneReader]:
        """The lanes that are open."""
        return list(self._lanes.values())

    @property
    def waiting(self) -> int:
        """How many events have been read and wait for the next commit."""
        return self._events

    @property
    def has_news(self) -> bool:
        """Something is published that has not been read."""
        return any(lane.has_news for lane in self._lanes.values())

    @property
    def is_pressed(self) -> bool:
        """A producer waits for room, or is about to."""
        return any(lane.is_pressed for lane in self._lanes.values())

    @property
    def uncommitted(self) -> int:
        """The bytes in all lanes that are published and not committed."""
        return sum(lane.uncommitted for lane in self._lanes.values())

    def open(self, producer: str) -> LaneReader | None:
        """Open the lane of a producer; None where there is none that can be read, which is reported."""
        if producer in self._lanes:
            return self._lanes[producer]
        path = self._folder / f"{producer}{SUFFIX}"
        try:
            file = LaneFile(path)
        except FileNotFoundError:
            return None
        except WireError as error:
            self._put_aside(path, str(error))
            return None
        position = self._position(producer)
        if position == CORRUPT:  # it was reported, and its writer died before it had removed the file
            file.close()
            file.remove()
            return None
        if file.producer != producer or file.words[LOG] not in (0, self._log):
            file.close()
            self._put_aside(path, "it belongs to another log")
            return None
        lane = LaneReader(file, self._first_position(file, position))
        file.words[LOG] = self._log
        self._lanes[producer] = lane
        return lane

    def drain(self) -> None:
        """Read everything that is published, so that what is taken next is complete up to the moment before."""
        for lane in self._lanes.values():
            batches = lane.read(self._clock)
            self._waiting += batches
            self._events += sum(map(len, map(_events_of, batches)))

    def take(self, cutoff: int, max_events: int) -> Gathered:
        """Take the batches stamped at or before `cutoff` (monotonic ns), the earliest first, up to about `max_events`.

        With a cutoff from before the last `drain`, no event is taken without those that caused it: a cause was
        published before its effect was stamped, so it has been read, in whatever order the heads were, and its place
        is before that of its effect. The events are given in order of time.
        """
        self._waiting.sort(key=_place_of)
        count = bisect_right(self._waiting, cutoff, key=_place_of)
        if self._events > max_events:
            sizes = accumulate(map(len, map(_events_of, self._waiting[:count])))
            count = min(count, 1 + sum(1 for size in sizes if size < max_events))
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        events = [event for batch in taken for event in batch[3]]
        positions = {lane.producer: end for _place, lane, end, _events in taken}
        self._events -= len(events)
        events.sort(key=attrgetter("mono"))
        return Gathered(events, positions)

    def acknowledge(self, positions: Mapping[str, int]) -> bool:
        """Tell each producer how far it is committed; True when the kernel wants to be told, too."""
        told = [self._lanes[producer].acknowledge(position) for producer, position in positions.items()]
        return any(told)

    def backlog(self) -> list[LaneBacklog]:
        """Return what each lane holds; reads what is published."""
        self.drain()
        now = self._clock.stamp().mono
        oldest: dict[LaneReader, int] = {}
        for _place, lane, _end, events in self._waiting:
            oldest.setdefault(lane, events[0].mono)
        return [
            LaneBacklog(lane.producer, lane.pid, lane.uncommitted, max(0.0, (now - oldest.get(lane, now)) / 1e6))
            for lane in self._lanes.values()
        ]

    def sleep(self) -> None:
        """Have whoever publishes next wake the writer."""
        for lane in self._lanes.values():
            lane.wake_at(0)

    def gather(self) -> None:
        """Have the writer woken up before a producer must wait for room."""
        for lane in self._lanes.values():
            lane.wake_when_pressed()

    def wake(self) -> None:
        """Have nobody wake the writer."""
        for lane in self._lanes.values():
            lane.let_sleep()

    def ended(self) -> list[LaneReader]:
        """Return the lanes whose producers are gone, and of which everything that can be read is committed."""
        return [lane for lane in self._lanes.values() if lane.gone and lane.is_drained]

    def remove(self, lanes: Iterable[LaneReader]) -> None:
        """Remove lanes and their files."""
        for lane in lanes:
            del self._lanes[lane.producer]
            lane.remove()

    def close(self) -> None:
        """Close every lane; the files stay."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()
        self._waiting.clear()

    def _first_position(self, file: LaneFile, position: int) -> int:
        """Return where to begin: behind what the log has, and never before what its producer was told it has."""
        tail = file.words[TAIL]
        if position < tail <= file.words[HEAD]:
            self._report(
                f"the log is older than the lane of {file.producer}: {tail - position} bytes of events that had been "
                "committed to it are not in it"
            )
            return tail
        return position

    def _put_aside(self, path: Path, reason: str) -> None:
        aside = path.with_suffix(ASIDE)
        try:
            size = path.stat().st_size
            path.rename(aside)
        except OSError as error:
            logger.warning("%s can't be put aside: %s", path, error)
            return
        self._report(f"{path.name} is not read ({reason}): its {size} bytes are kept in {aside}")
