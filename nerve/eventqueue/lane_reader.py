"""The writer's end of a lane: it reads what is published, and trusts none of it."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Annotated
from zlib import crc32

import msgspec

from nerve.clock import Clock
from nerve.errors import WireError
from nerve.eventqueue.lane import LOW_32
from nerve.eventqueue.lane_file import HEAD, IN_FILE, MAX_BODY, NEVER, NOTIFY_AT, PID, TAIL, WAKE_AT, LaneFile
from nerve.events.model import LogEvent

REREAD_SECONDS = 0.02
"""How long a frame with a wrong checksum is read again: on some CPUs the head can become visible before the frame."""

REREAD_PAUSE_SECONDS = 0.001

CORRUPT = -1
"""The position that the log has of a corrupt lane that is drained and reported: nothing more is read from it."""

_decode = msgspec.msgpack.Decoder(Annotated[list[LogEvent], msgspec.Meta(min_length=1)]).decode

_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


Batch = tuple[int, "LaneReader", int, list[LogEvent]]
"""One frame: its time for sorting (monotonic ns), its lane, the position at its end, and its events."""


class LaneReader:
    """Reads one lane from its committed position on.

    `gone` is True once the producer has exited, and so publishes nothing more. `corrupt` says why the lane can't be
    read, None while it can. A corrupt lane is not read until its producer is gone; then each frame that is still intact
    is read, and `unreadable` is the number of bytes in between. `place` is the time of the last frame that was read:
    those that follow are not earlier.
    """

    def __init__(self, file: LaneFile, position: int) -> None:
        """Start at `position`, up to which the log has the lane's events."""
        self._file = file
        self._words = file.words
        self.producer = file.producer
        self.gone = False
        self.corrupt: str | None = None
        self.unreadable: int | None = None
        self.position = position
        self.committed = position
        self.place = 0
        self._last_end = self._target = position
        self._bodies: deque[tuple[int, Path]] = deque()
        if self._words[TAIL] < position:
            self._words[TAIL] = position
        if not 0 <= self._head - position <= file.capacity:
            self.corrupt = f"its head is {self._head}, but the log has its events up to {position}"

    @property
    def path(self) -> Path:
        """The file of the lane."""
        return self._file.path

    @property
    def boot_id(self) -> str:
        """The boot that created the lane."""
        return self._file.boot_id

    @property
    def pid(self) -> int:
        """The producer's process id; 0 if it has not started yet."""
        return self._words[PID]

    @property
    def has_news(self) -> bool:
        """There are published frames to be read."""
        if self.corrupt is not None:
            return self.gone and self.unreadable is None
        return self._words[HEAD] != self.position

    @property
    def is_drained(self) -> bool:
        """Every readable frame is committed."""
        return not self.has_news and not self.has_waiting

    @property
    def is_pressed(self) -> bool:
        """So much is uncommitted that the producer will soon have to wait for space."""
        return 2 * self.uncommitted >= self._file.capacity or bool(self._bodies)

    @property
    def uncommitted(self) -> int:
        """The number of bytes that are published and not committed, at most the capacity."""
        return min(max(0, self._head - self.committed), self._file.capacity)

    def look(self) -> None:
        """Note up to which position frames are published now, or set `corrupt`."""
        head = self._head
        if self.corrupt is not None or head == self.position:
            return
        if self.position < head <= self.committed + self._file.capacity and head % 8 == 0:
            self._target = head
        else:
            self.corrupt = f"its head changed from {self.position} to {head}"

    @property
    def is_behind(self) -> bool:
        """There are frames to be read that were published before the last `look`."""
        return self.position < self._target and self.corrupt is None

    @property
    def has_waiting(self) -> bool:
        """Frames were read that are not committed."""
        return self.committed < self._last_end

    def read(self, clock: Clock, most_bytes: int) -> list[Batch]:
        """Return the next frames, about `most_bytes` bytes but at least one; set `corrupt` if it can't be read."""
        now = clock.stamp().mono  # after reading the head: no event in these frames was made later
        batches = self._parse(self._copy(min(self._target, self.position + most_bytes)), now)
        if not batches:  # the next frame is larger, or can't be read
            batches = self._parse(self._copy(self._target), now)
        return batches or self._read_again(now)

    def salvage(self, clock: Clock) -> list[Batch]:
        """Read the intact frames of a corrupt lane: a checksum is valid at one position only, so they can be found.

        If the head is wrong as well, search the whole ring.
        """
        first, furthest = self.position, self.committed + self._file.capacity
        head = self._head if first <= self._head <= furthest and self._head % 8 == 0 else furthest
        data, now, unreadable = self._copy(head), clock.stamp().mono, 0
        batches: list[Batch] = []
        while self.position < head:
            batches += self._parse(data[self.position - first :], now)
            if self.position < head:
                self.position += 8
                unreadable += 8
        self.unreadable = unreadable
        return batches

    def acknowledge(self, position: int) -> bool:
        """Free the ring up to `position`, which is committed. Return True if the kernel is to be notified."""
        self.committed = position
        self._words[TAIL] = position
        while self._bodies and self._bodies[0][0] <= position:
            self._bodies.popleft()[1].unlink(missing_ok=True)
        if self._words[NOTIFY_AT] > position:
            return False
        self._words[NOTIFY_AT] = NEVER
        return True

    def wake_on_publish(self) -> None:
        """Have the producer wake the writer with its next frame."""
        self._words[WAKE_AT] = self.position

    def wake_when_pressed(self) -> None:
        """Have the producer wake the writer when half of the ring is uncommitted."""
        self._words[WAKE_AT] = self.committed + self._file.capacity // 2

    def close(self) -> None:
        """Unmap the lane."""
        self._file.close()

    def remove(self) -> None:
        """Close the lane and remove its files."""
        self._file.close()
        self._file.remove()

    @property
    def _head(self) -> int:
        return self._words[HEAD]

    def _copy(self, stop: int) -> bytes:
        """Return a copy of the unread bytes before `stop`, which the producer can't change any more."""
        return self._file.read(self.position, stop)

    def _parse(self, data: bytes, now: int) -> list[Batch]:
        """Decode frames of `data`, which starts at the current position, until its end or the first unreadable one."""
        words = memoryview(data).cast("Q")
        size, offset, at, place = len(data), 0, self.position, self.place
        batches: list[Batch] = []
        try:
            while offset < size:
                word = words[offset >> 3]
                length = word & LOW_32
                if length < IN_FILE:
                    stop = offset + 8 + length
                    if not length or stop > size:
                        break
                    body = data[offset + 8 : stop]
                    end = at + 8 + (length + 7 & -8)
                else:
                    body = self._body_in_file(at, length - IN_FILE)
                    end = at + 8
                if crc32(body, at & LOW_32) != word >> 32:
                    break
                events = _decode(body)
                # Threads race for the lane, so times may be out of order; the frames' order must be kept.
                stamp = events[-1].mono
                if stamp > place:
                    place = min(stamp, now)
                batches.append((place, self, end, events))
                offset += end - at
                at = end
        except (*_UNDECODABLE, WireError, OSError):
            pass  # the caller sees from the position that not everything was read
        self.position, self.place = at, place
        if batches:
            self._last_end = at
        return batches

    def _body_in_file(self, position: int, length: int) -> bytes:
        path = self._file.body_path(position)
        if length > MAX_BODY or path.stat().st_size != length:
            raise WireError("the file of the body has another size")
        body = path.read_bytes()
        self._bodies.append((position + 8, path))
        return body

    def _read_again(self, now: int) -> list[Batch]:
        """Try an unreadable frame again for REREAD_SECONDS, then set `corrupt`."""
        until = time.monotonic() + REREAD_SECONDS
        while time.monotonic() < until:
            time.sleep(REREAD_PAUSE_SECONDS)
            batches = self._parse(self._copy(self._target), now)
            if batches:
                return batches
        self.corrupt = f"the frame at {self.position} has a wrong checksum or does not contain events"
        return []
