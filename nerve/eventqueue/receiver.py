"""EventReceiver: the writer's end of the event queue, one lane per producer and nothing shared between them."""

from __future__ import annotations

import logging
import sys
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

FIRST_READ_BYTES, READ_BYTES = 8 * 1024, 256 * 1024
"""How much of a lane is read at once: at first, to see how old its events are, and when its turn comes."""

ASIDE = ".aside"
"""The suffix of a file among the lanes that can't be read: it is renamed and kept."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The content of one commit: events sorted by time, and the position that each of their lanes then has."""

    events: list[LogEvent]
    positions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LaneBacklog:
    """The uncommitted content of one lane: its size in bytes, and the age of its oldest event in ms."""

    producer: str
    pid: int
    bytes: int
    age_ms: float


class EventReceiver:
    """Reads all lanes and acknowledges what is committed.

    `log` is the number of the log; a lane that belongs to another log is set aside. `position` returns the position up
    to which the log has a producer's events. `report` is called with one sentence for each file that is set aside.
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
        self._complete_until = sys.maxsize

    @property
    def lanes(self) -> list[LaneReader]:
        """The open lanes."""
        return list(self._lanes.values())

    @property
    def waiting(self) -> int:
        """The number of events that are read and wait for a commit."""
        return self._events

    @property
    def has_news(self) -> bool:
        """There are published frames to be read."""
        return any(lane.has_news for lane in self._lanes.values())

    @property
    def is_pressed(self) -> bool:
        """A producer will soon have to wait for space, or already does."""
        return any(lane.is_pressed for lane in self._lanes.values())

    @property
    def uncommitted(self) -> int:
        """The number of bytes that are published and not committed, in all lanes."""
        return sum(lane.uncommitted for lane in self._lanes.values())

    def open(self, producer: str) -> LaneReader | None:
        """Open the lane of a producer, or return it if it is open. Return None if there is no such lane to be read."""
        if producer in self._lanes:
            return self._lanes[producer]
        path = self._folder / f"{producer}{SUFFIX}"
        try:
            file = LaneFile(path)
        except FileNotFoundError:
            return None
        except WireError as error:
            self._set_aside(path, str(error))
            return None
        position = self._position(producer)
        if position == CORRUPT:  # drained and reported; that writer died before it removed the file
            file.close()
            file.remove()
            return None
        if file.producer != producer or file.words[LOG] not in (0, self._log):
            file.close()
            self._set_aside(path, "it belongs to another log")
            return None
        lane = LaneReader(file, self._first_position(file, position))
        file.words[LOG] = self._log
        self._lanes[producer] = lane
        return lane

    def drain(self, enough: int = sys.maxsize) -> None:
        """Read what is published: all of it or, if that is more than `enough` events, its earliest part.

        So a writer that finds a large backlog commits the first group soon, and needs memory for little more than that.
        """
        lanes = self._lanes.values()
        for lane in lanes:
            lane.look()
            if lane.corrupt is not None and lane.has_news:
                self._add(lane.salvage(self._clock))
            elif lane.is_behind and not lane.has_waiting:
                self._add(lane.read(self._clock, FIRST_READ_BYTES))
        while behind := [lane for lane in lanes if lane.is_behind]:
            first = min(behind, key=attrgetter("place"))
            self._complete_until = first.place
            if self._events >= enough and self._count(first.place) >= enough:
                return
            self._add(first.read(self._clock, READ_BYTES))
        self._complete_until = sys.maxsize

    def take(self, cutoff: int, max_events: int) -> Gathered:
        """Take the frames made at or before `cutoff` (monotonic ns), the earliest first, up to about `max_events`.

        Frames are left out if earlier ones have not been read yet. If `cutoff` was read before the last `drain`, no
        event is taken without the events that caused it. A cause is published before its effect is made, so if the
        effect was made before the cutoff, the drain has seen the cause, in whatever order it read the heads; and the
        cause sorts before the effect.
        """
        self._waiting.sort(key=_place_of)
        count = bisect_right(self._waiting, min(cutoff, self._complete_until), key=_place_of)
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
        """Free each ring up to its committed position. Return True if the kernel is to be notified."""
        notify = [self._lanes[producer].acknowledge(position) for producer, position in positions.items()]
        return any(notify)

    def backlog(self) -> list[LaneBacklog]:
        """Return the uncommitted content of each lane; reads the first frames where none are waiting."""
        self.drain(0)
        now = self._clock.stamp().mono
        oldest: dict[LaneReader, int] = {}
        for _place, lane, _end, events in self._waiting:
            oldest.setdefault(lane, events[0].mono)
        return [
            LaneBacklog(lane.producer, lane.pid, lane.uncommitted, max(0.0, (now - oldest.get(lane, now)) / 1e6))
            for lane in self._lanes.values()
        ]

    def wake_on_publish(self) -> None:
        """Have the next producer that publishes wake the writer."""
        for lane in self._lanes.values():
            lane.wake_on_publish()

    def wake_when_pressed(self) -> None:
        """Have a producer wake the writer before it has to wait for space."""
        for lane in self._lanes.values():
            lane.wake_when_pressed()

    def ended(self) -> list[LaneReader]:
        """Return the lanes whose producers are gone and whose readable frames are all committed."""
        return [lane for lane in self._lanes.values() if lane.gone and lane.is_drained]

    def remove(self, lanes: Iterable[LaneReader]) -> None:
        """Close lanes and remove their files."""
        for lane in lanes:
            del self._lanes[lane.producer]
            lane.remove()

    def close(self) -> None:
        """Close every lane; their files stay."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()
        self._waiting.clear()

    def _add(self, batches: list[Batch]) -> None:
        self._waiting += batches
        self._events += sum(map(len, map(_events_of, batches)))

    def _count(self, until: int) -> int:
        """Count the events that are read and not later than `until`."""
        return sum(len(events) for place, _lane, _end, events in self._waiting if place <= until)

    def _first_position(self, file: LaneFile, position: int) -> int:
        """Return the position to start at: that of the log, or the lane's tail if the log is older than the lane."""
        tail = file.words[TAIL]
        if position < tail <= file.words[HEAD]:
            self._report(
                f"the log is older than the lane of {file.producer}: {tail - position} bytes of events had been "
                "committed and are not in it any more (was it restored from a backup?)"
            )
            return tail
        return position

    def _set_aside(self, path: Path, reason: str) -> None:
        aside = path.with_suffix(ASIDE)
        try:
            size = path.stat().st_size
            path.rename(aside)
        except OSError as error:
            logger.warning("%s can't be renamed: %s", path, error)
            return
        self._report(f"{path.name} is not read ({reason}): its {size} bytes are kept in {aside}")
