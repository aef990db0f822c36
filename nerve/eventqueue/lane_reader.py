"""The writer's end of a lane: it reads what is published, and believes nothing of it."""

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
"""How long a frame that does not match its checksum is read again: on some CPUs a head can be seen before its frame."""

REREAD_PAUSE_SECONDS = 0.001

CORRUPT = -1
"""The position, in the log, of a lane that has been found to be corrupt and reported: nothing more is read from it."""

_decode = msgspec.msgpack.Decoder(Annotated[list[LogEvent], msgspec.Meta(min_length=1)]).decode

_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


Batch = tuple[int, "LaneReader", int, list[LogEvent]]
"""One frame: its place in time (monotonic ns), its lane, the position behind it, and its events."""


class LaneReader:
    """One lane, from the position that is committed on.

    `gone`: its producer has ended, and publishes nothing more. `corrupt`: the reason why the lane makes no sense.
    Nothing more is read of such a lane until its producer is gone; then every frame is that is still sound, and
    `unreadable` counts the bytes that are not.
    """

    def __init__(self, file: LaneFile, position: int) -> None:
        """Read from `position`, which is that of the log."""
        self._file = file
        self._words = file.words
        self.producer = file.producer
        self.gone = False
        self.corrupt: str | None = None
        self.unreadable: int | None = None
        self.position = position
        self.committed = position
        self._last_end = position
        self._place = 0
        self._bodies: deque[tuple[int, Path]] = deque()
        if self._words[TAIL] < position:
            self._words[TAIL] = position
        if not 0 <= self._head - position <= file.capacity:
            self.corrupt = f"its head ({self._head}) does not fit its position in the log ({position})"

    @property
    def path(self) -> Path:
        """The file of the lane."""
        return self._file.path

    @property
    def boot_id(self) -> str:
        """The boot that made the lane."""
        return self._file.boot_id

    @property
    def pid(self) -> int:
        """The process that publishes in it; 0 before there is one."""
        return self._words[PID]

    @property
    def has_news(self) -> bool:
        """Something is published that has not been read."""
        if self.corrupt is not None:
            return self.gone and self.unreadable is None
        return self._words[HEAD] != self.position

    @property
    def is_drained(self) -> bool:
        """Everything that can be read is committed."""
        return not self.has_news and self.committed >= self._last_end

    @property
    def is_pressed(self) -> bool:
        """So much is not committed that the producer is about to wait, or already does."""
        return 2 * self.uncommitted >= self._file.capacity or bool(self._bodies)

    @property
    def uncommitted(self) -> int:
        """The bytes that are published and not committed, as far as the head can be believed."""
        return min(max(0, self._head - self.committed), self._file.capacity)

    def read(self, clock: Clock) -> list[Batch]:
        """Return what was published since the last call.

        It stops before the first frame that makes no sense, and then the lane is corrupt.
        """
        if self.corrupt is not None:
            return self._salvage(clock) if self.has_news else []
        head, position = self._head, self.position
        if head == position:
            return []
        if not position < head <= self.committed + self._file.capacity or head % 8:
            self.corrupt = f"its head went from {position} to {head}"
            return []
        now = clock.stamp().mono  # after the head: nothing that is read was made later
        batches = self._parse(self._copy(head), now)
        if self.position < head:
            self._read_again(head, now, batches)
        return batches

    def acknowledge(self, position: int) -> bool:
        """Let the producer go on behind what is committed; True when the kernel wants to be told."""
        self.committed = position
        self._words[TAIL] = position
        while self._bodies and self._bodies[0][0] <= position:
            self._bodies.popleft()[1].unlink(missing_ok=True)
        if self._words[NOTIFY_AT] > position:
            return False
        self._words[NOTIFY_AT] = NEVER
        return True

    def wake_at(self, beyond: int) -> None:
        """Have the producer wake the writer once it has published more than `beyond` bytes that are not read yet."""
        self._words[WAKE_AT] = self.position + beyond

    def wake_when_pressed(self) -> None:
        """Have the producer wake the writer before it has to wait for room."""
        self._words[WAKE_AT] = self.committed + self._file.capacity // 2

    def let_sleep(self) -> None:
        """Have the producer not wake the writer."""
        self._words[WAKE_AT] = NEVER

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
        """Return what is between here and a position: a copy, which nobody else can change."""
        return self._file.read(self.position, stop)

    def _parse(self, data: bytes, now: int) -> list[Batch]:
        """Read the frames of a copy that ends where reading is to, up to the first that makes no sense."""
        words = memoryview(data).cast("Q")
        size, offset, at, place = len(data), 0, self.position, self._place
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
                # Stamps may be out of order (threads race for the lane, and any clock may join), frames never are.
                stamp = events[-1].mono
                if stamp > place:
                    place = min(stamp, now)
                batches.append((place, self, end, events))
                offset += end - at
                at = end
        except (*_UNDECODABLE, WireError, OSError):
            pass  # the position tells how far it went
        self.position, self._place = at, place
        if batches:
            self._last_end = at
        return batches

    def _body_in_file(self, position: int, length: int) -> bytes:
        path = self._file.body_path(position)
        if length > MAX_BODY or path.stat().st_size != length:
            raise WireError("the file of its body has another size")
        body = path.read_bytes()
        self._bodies.append((position + 8, path))
        return body

    def _read_again(self, head: int, now: int, batches: list[Batch]) -> None:
        """Read on where a frame made no sense, for a while; then the lane is corrupt."""
        until = time.monotonic() + REREAD_SECONDS
        while self.position < head and time.monotonic() < until:
            time.sleep(REREAD_PAUSE_SECONDS)
            batches += self._parse(self._copy(head), now)
        if self.position < head:
            self.corrupt = f"the frame at {self.position} does not match its checksum, or is not made of events"

    def _salvage(self, clock: Clock) -> list[Batch]:
        """Read every sound frame of a corrupt lane: a checksum holds for one position only, so each is known again.

        Where the head makes no sense, it is looked for in the whole ring.
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
