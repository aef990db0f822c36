"""Recovery: writes to the log what an engine that died has left in its lanes."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from nerve.clock import Clock
from nerve.errors import StoreError, WireError
from nerve.eventqueue import EventReceiver
from nerve.eventqueue.group_commit import MAX_GROUP_EVENTS
from nerve.eventqueue.lane_file import LaneFile, is_held
from nerve.eventqueue.lane_reader import CORRUPT, LaneReader
from nerve.eventqueue.left_behind import lane_paths
from nerve.events import catalog
from nerve.events.model import ErrorDetail, LogEvent

logger = logging.getLogger("nerve.writer")

PRODUCER_SECONDS = 2.0
"""How long recovery waits for the last producers of a dead engine, which the system is about to kill."""

POLL_SECONDS = 0.01


class LaneStore(Protocol):
    """What recovery needs of the log; each method may raise StoreError."""

    @property
    def log_id(self) -> str:
        """The id of the log."""

    def append(self, events: Sequence[LogEvent], positions: Mapping[str, int]) -> None:
        """Commit events together with the positions of their lanes."""

    def position(self, producer: str) -> int:
        """Return the position up to which a lane is committed; 0 if it is not known."""

    def producers(self) -> list[str]:
        """Return the producers whose positions are known."""

    def forget(self, *producers: str) -> None:
        """Delete positions."""


def log_number(log_id: str) -> int:
    """Return the number, never 0, that the lanes of the log with this id have in their headers."""
    return int.from_bytes(hashlib.blake2b(log_id.encode(), digest_size=8).digest(), "big") or 1


def recover(store: LaneStore, folder: Path, clock: Clock, boot_id: str | None = None) -> int:
    """Write the events in left-over lanes to the log and remove the lanes; return the number of events.

    Boots are written one after the other, and the events of a boot in order of time. Lanes of the boot `boot_id`, which
    is running, are ignored. Recovery can be killed at any moment; the next one continues. Raises StoreError if the log
    can't be written; what is not written stays in the lanes.
    """
    count = 0
    for boot in _boots(folder, boot_id):
        count += _Recovery(store, folder, clock).run(boot)
    stale = set(store.producers()) - {path.stem for path in lane_paths(folder)}
    if stale:
        store.forget(*stale)
    return count


def _boots(folder: Path, but: str | None) -> list[list[str]]:
    """Return the producers of each boot but one, ordered by boot: ids start with the time."""
    boots: dict[str, list[str]] = defaultdict(list)
    for path in lane_paths(folder):
        try:
            file = LaneFile(path)
        except WireError:
            boots[""].append(path.stem)  # opening it reports it
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
            remove_lanes(self._receiver, lanes, self._store, self._clock)
            self._commit([], {})
        finally:
            self._receiver.close()
        if count:
            logger.info("recovered %d events from %d lanes of an engine that died", count, len(lanes))
        return count

    def _drain(self) -> int:
        count = 0
        while self._receiver.waiting or self._receiver.has_news:
            self._receiver.drain(MAX_GROUP_EVENTS)
            gathered = self._receiver.take(sys.maxsize, MAX_GROUP_EVENTS)
            self._commit(gathered.events, gathered.positions)
            self._receiver.acknowledge(gathered.positions)
            count += len(gathered.events)
        return count

    def _commit(self, events: Sequence[LogEvent], positions: Mapping[str, int]) -> None:
        events, self._errors = [*events, *self._errors], []
        if events or positions:
            self._store.append(events, positions)

    def _report(self, message: str) -> None:
        self._errors.append(_error(message, self._clock))


def _corrupt_message(lane: LaneReader) -> str:
    """Return what was wrong with a lane and how much of it was lost."""
    return (
        f"the lane of {lane.producer} (pid {lane.pid}) is corrupt: {lane.corrupt}; {lane.unreadable} bytes of "
        "events were not readable, all other events are in the log"
    )


def remove_lanes(receiver: EventReceiver, lanes: Sequence[LaneReader], store: LaneStore, clock: Clock) -> None:
    """Remove drained lanes: first the files, then their positions, so that it can be interrupted at any point.

    A position without a file is ignored; a file without its position would be read again. What could not be read is
    recorded before. Raises StoreError if that is not possible; then nothing is removed.
    """
    corrupt = [lane for lane in lanes if lane.corrupt is not None]
    if corrupt:  # together with a position that says so: each is reported once
        events = [_error(_corrupt_message(lane), clock) for lane in corrupt]
        store.append(events, {lane.producer: CORRUPT for lane in corrupt})
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
    """Make the removal durable before the positions are deleted: a power cut must not restore a file without them."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _error(message: str, clock: Clock) -> LogEvent:
    logger.warning(message)
    return catalog.error(clock.stamp(), "writer", ErrorDetail("wire", message))
