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
from nerve.eventqueue.lane_file import HEAD, IN_FILE, MAX_BODY, NEVER, PID, TAIL, TELL_AT, WAKE_AT, LaneFile
from nerve.events.model import LogEvent

REREAD_SECONDS = 0.02
"""How long a frame that does not match its checksum is read again: on some CPUs a head can be seen before its frame."""

REREAD_PAUSE_SECONDS = 0.001

GARBLED = -1
"""The position, in the log, of a lane that has been found to be garbled and reported: nothing more is read from it."""

_decode = msgspec.msgpack.Decoder(Annotated[list[LogEvent], msgspec.Meta(min_length=1)]).decode

_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


Batch = tuple[int, "LaneReader", int, list[LogEvent]]
"""One frame: its place in time (monotonic ns), its lane, the position behind it, and its events."""


class LaneReader:
    """One lane, from the position that is committed on.

    `gone`: its producer has ended, and publishes nothing more. `garbled`: the reason why it is read no further.
    """

    def __init__(self, file: LaneFile, position: int) -> None:
        """Read from `position`, which is that of the log."""
        self._file = file
        self._words = file.words
        self.producer = file.producer
        self.gone = False
        self.garbled: str | None = None
        self.position = position
        self.committed = position
        self._place = 0
        self._bodies: deque[tuple[int, Path]] = deque()
        if self._words[TAIL] < position:
            self._words[TAIL] = position
        if not 0 <= self._head - position <= file.capacity:
            self.garbled = f"its head ({self._head}) does not fit its position in the log ({position})"

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
        return self._words[HEAD] != self.position and self.garbled is None

    @property
    def is_pressed(self) -> bool:
        """So much is not committed that the producer is about to wait, or already does."""
        return 2 * self.uncommitted >= self._file.capacity or bool(self._bodies)

    @property
    def uncommitted(self) -> int:
        """The bytes that are published and not committed, as far as the head can be believed."""
        return min(max(0, self._head - self.committed), self._file.capacity)

    @property
    def is_drained(self) -> bool:
        """Everything that can be read is committed."""
        return self.committed == self.position and not self.has_news

    def read(self, clock: Clock) -> list[Batch]:
        """Return what was published since the last call.

        It stops before the first frame that makes no sense, and then the lane is garbled.
        """
        head, position = self._head, self.position
        if head == position or self.garbled is not None:
            return []
        if not position < head <= self.committed + self._file.capacity or head % 8:
            self.garbled = f"its head went from {position} to {head}"
            return []
        now = clock.stamp().mono  # after the head: nothing that is read was made later
        batches = self._parse(head, now)
        if self.position < head:
            self._read_again(head, now, batches)
        return batches

    def acknowledge(self, position: int) -> bool:
        """Let the producer go on behind what is committed; True when the kernel wants to be told."""
        self.committed = position
        self._words[TAIL] = position
        while self._bodies and self._bodies[0][0] <= position:
            self._bodies.popleft()[1].unlink(missing_ok=True)
        if self._words[TELL_AT] > position:
            return False
        self._words[TELL_AT] = NEVER
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

    def _parse(self, head: int, now: int) -> list[Batch]:
        """Read frames up to `head`, or up to the first that makes no sense."""
        data = memoryview(self._file.read(self.position, head))
        words = data.cast("Q")
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
        return batches

    def _body_in_file(self, position: int, length: int) -> memoryview:
        path = self._file.body_path(position)
        if length > MAX_BODY or path.stat().st_size != length:
            raise WireError("the file of its body has another size")
        body = memoryview(path.read_bytes())
        self._bodies.append((position + 8, path))
        return body

    def _read_again(self, head: int, now: int, batches: list[Batch]) -> None:
        """Read on where a frame made no sense, for a while; then the lane is garbled."""
        until = time.monotonic() + REREAD_SECONDS
        while self.position < head and time.monotonic() < until:
            time.sleep(REREAD_PAUSE_SECONDS)
            batches += self._parse(head, now)
        if self.position < head:
            self.garbled = f"the frame at {self.position} does not match its checksum, or is not made of events"
