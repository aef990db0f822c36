"""Recovery: what an engine that died has left in its lanes is written to the log, before anything else is."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nerve.clock import Clock
from nerve.errors import StoreError, WireError
from nerve.eventqueue import EventReceiver
from nerve.eventqueue.group_commit import MAX_GROUP_EVENTS
from nerve.eventqueue.lane_file import HEAD, SUFFIX, TAIL, LaneFile, is_held
from nerve.eventqueue.lane_reader import CORRUPT, LaneReader
from nerve.events import catalog
from nerve.events.model import ErrorDetail, LogEvent

logger = logging.getLogger("nerve.writer")

PRODUCER_SECONDS = 2.0
"""How long recovery waits for the last producers of a dead engine to end: the system is about to kill them."""

POLL_SECONDS = 0.01


class LaneStore(Protocol):
    """The log, as far as lanes go; each of these may raise StoreError."""

    @property
    def log_id(self) -> str:
        """The id of the log, in hex digits."""

    def append(self, events: Sequence[LogEvent], positions: Mapping[str, int]) -> None:
        """Commit events, and with them how far the lanes of their producers have been read."""

    def position(self, producer: str) -> int:
        """Return how far a lane is committed."""

    def producers(self) -> list[str]:
        """Return the producers whose position is known."""

    def forget(self, *producers: str) -> None:
        """Forget the positions of lanes whose files are gone."""


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What waits in the lanes of an engine that does not run: how many lanes hold how many bytes."""

    lanes: int
    bytes: int


def left_behind(folder: Path) -> LeftBehind:
    """Return what the lanes in a folder hold that is not committed, as far as they can be read; changes nothing.

    Nothing is left behind by an engine that runs: its writer is about to take it.
    """
    found = []
    for path in lane_paths(folder):
        if is_held(path):
            return LeftBehind(0, 0)
        try:
            file = LaneFile(path)
        except (WireError, OSError):
            continue
        found.append(min(max(0, file.words[HEAD] - file.words[TAIL]), file.capacity))
        file.close()
    return LeftBehind(sum(1 for size in found if size), sum(found))


def lane_paths(folder: Path) -> list[Path]:
    """Return the files of a folder that have the name of a lane."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def log_number(log_id: str) -> int:
    """Return the log's id as the number of 8 bytes that its lanes bear: never 0."""
    return int.from_bytes(hashlib.blake2b(log_id.encode(), digest_size=8).digest(), "big") or 1


def recover(store: LaneStore, folder: Path, clock: Clock, boot_id: str | None = None) -> int:
    """Write what is left in the lanes, boot by boot and in order of stamps, and remove them; returns the events.

    The lanes of `boot_id`, the engine that runs, are left alone. A start that is killed in the middle of this goes on
    from there the next time. Raises StoreError where the log can't be written: then the rest stays in the lanes.
    """
    count = 0
    for boot in _boots(folder, boot_id):
        count += _Recovery(store, folder, clock).run(boot)
    stale = set(store.producers()) - {path.stem for path in lane_paths(folder)}
    if stale:
        store.forget(*stale)
    return count


def _boots(folder: Path, but: str | None) -> list[list[str]]:
    """Return the producers of each boot, the earliest boot first: its id begins with its time."""
    boots: dict[str, list[str]] = defaultdict(list)
    for path in lane_paths(folder):
        try:
            file = LaneFile(path)
        except WireError:
            boots[""].append(path.stem)  # the receiver finds the same, and reports it
            continue
        boots[file.boot_id].append(path.stem)
        file.close()
    return [producers for boot, producers in sorted(boots.items()) if boot != but]


class _Recovery:
    """Drains the lanes of one boot."""

    def __init__(self, store: LaneStore, folder: Path, clock: Clock) -> None:
        self._store = store
        self._folder = folder
        self._clock = clock
        self._errors: list[LogEvent] = []
        self._receiver = EventReceiver(folder, log_number(store.log_id), store.position, clock, self._report)

    def run(self, producers: Iterable[str]) -> int:
        try:
            lanes = [lane for producer in producers if (lane := self._receiver.open(producer))]
            _await_end(lanes, self._clock)
            for lane in lanes:
                lane.gone = True
            count = self._drain()
            remove_lanes(self._receiver, lanes, self._store, self._report_corrupt)
            self._commit([], {})
        finally:
            self._receiver.close()
        if count:
            logger.info("recovered %d events from %d lanes of an engine that died", count, len(lanes))
        return count

    def _drain(self) -> int:
        count = 0
        self._receiver.drain()
        while self._receiver.waiting or self._receiver.has_news:
            gathered = self._receiver.take(sys.maxsize, MAX_GROUP_EVENTS)
            self._commit(gathered.events, gathered.positions)
            self._receiver.acknowledge(gathered.positions)
            count += len(gathered.events)
            self._receiver.drain()
        return count

    def _commit(self, events: Sequence[LogEvent], positions: Mapping[str, int]) -> None:
        events, self._errors = [*events, *self._errors], []
        if events or positions:
            self._store.append(events, positions)

    def _report(self, message: str) -> None:
        self._errors.append(_error(message, self._clock))

    def _report_corrupt(self, lanes: Sequence[LaneReader]) -> None:
        report_corrupt(lanes, self._store, self._clock)


def report_corrupt(lanes: Sequence[LaneReader], store: LaneStore, clock: Clock) -> None:
    """Record, with the position that says so, that these lanes can't be read further; a lane is reported once."""
    store.append([_error(corrupt_message(lane), clock) for lane in lanes], {lane.producer: CORRUPT for lane in lanes})


def corrupt_message(lane: LaneReader) -> str:
    """Say what was found in a lane, and how much of it can't be read."""
    return (
        f"the lane of {lane.producer} (pid {lane.pid}) made no sense: {lane.corrupt}; {lane.unreadable} bytes of "
        "events were not readable, all others are in the log"
    )


def remove_lanes(
    receiver: EventReceiver,
    lanes: Sequence[LaneReader],
    store: LaneStore,
    report: Callable[[Sequence[LaneReader]], None],
) -> None:
    """Remove drained lanes, then their positions: in an order that does no harm wherever it is cut short.

    A position without a file means nothing; a file without its position would be read again.
    """
    corrupt = [lane for lane in lanes if lane.corrupt is not None]
    if corrupt:
        report(corrupt)
    if not lanes:
        return
    folder = lanes[0].path.parent
    producers = [lane.producer for lane in lanes]
    try:
        receiver.remove(lanes)
        _sync_folder(folder)
        store.forget(*producers)
    except (OSError, StoreError) as error:
        logger.warning("the positions of lanes are kept until the next start: %s", error)


def _await_end(lanes: Iterable[LaneReader], clock: Clock) -> None:
    until = clock.now() + PRODUCER_SECONDS
    while any(is_held(lane.path) for lane in lanes) and clock.now() < until:
        time.sleep(POLL_SECONDS)


def _sync_folder(folder: Path) -> None:
    """Make the removal survive a power cut, before the positions are forgotten: else a file could come back alone."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _error(message: str, clock: Clock) -> LogEvent:
    logger.warning(message)
    return catalog.error(clock.stamp(), "writer", ErrorDetail("wire", message))
