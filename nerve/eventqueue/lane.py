"""The producer's end of a lane: it publishes frames, and never blocks."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import msgspec

from nerve.errors import WireError
from nerve.eventqueue.lane_file import (
    HEAD,
    HEADER_BYTES,
    IN_FILE,
    MAX_BODY,
    NEVER,
    NOTIFY_AT,
    PID,
    TAIL,
    UNFINISHED,
    WAKE_AT,
    LaneFile,
)
from nerve.eventqueue.wakeup import Wakeup
from nerve.events.model import LogEvent

LOW_32 = 2**32 - 1

encode = msgspec.msgpack.Encoder().encode

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE}


def pack(events: Sequence[LogEvent]) -> bytes:
    """Encode events as the body of one frame. Raises WireError if that is more than MAX_BODY bytes."""
    body = encode(events)
    if len(body) > MAX_BODY:
        raise WireError(f"events of {len(body)} bytes are too large to send at once (at most {MAX_BODY})")
    return body


class Lane:
    """The producer's end of a mapped ring. A position counts bytes since the lane was created, and only grows.

    A frame is one word (the length, and a CRC-32 in the upper half) and the body, padded to 8 bytes. The CRC is seeded
    with the frame's position, so a frame that an earlier lap left in the ring is never valid in a later one. Storing
    the new head publishes a frame: a producer that is killed before that has published nothing of it.
    """

    def __init__(self, path: Path, wakeup: Wakeup) -> None:
        """Map the lane, in the process that publishes in it. Raises OSError and WireError."""
        self._file = LaneFile(path, hold=True)
        self._wakeup = wakeup
        self._words, self._ring_words, self._map = self._file.words, self._file.ring_words, self._file.map
        self._capacity = self._file.capacity
        self._mask = self._capacity - 1
        self._size = HEADER_BYTES + self._capacity
        self._largest = self._capacity // 2
        self._head = self._words[HEAD]
        self._limit = self._words[TAIL] + self._capacity
        self._in_file = 0
        self._words[PID] = os.getpid()

    @property
    def head(self) -> int:
        """The position up to which frames are published."""
        return self._head

    @property
    def tail(self) -> int:
        """The position up to which frames are committed."""
        return self._words[TAIL]

    @property
    def settled(self) -> bool:
        """Everything published is committed."""
        return self._words[TAIL] >= self._head

    def publish(self, body: bytes) -> bool:
        """Publish a body made by `pack`. Return True if it now survives every process, False if the ring is full."""
        head, length = self._head, len(body)
        if length > self._largest:
            return self._publish_in_file(body)
        end = head + 8 + (length + 7 & -8)
        if end > self._limit and not self._has_room(end):
            return False
        at = head & self._mask
        start = HEADER_BYTES + at + 8
        stop = start + length
        self._ring_words[at >> 3] = crc32(body, head & LOW_32) << 32 | length
        if stop <= self._size:
            self._map[start:stop] = body
        else:
            first = self._size - start
            self._map[start : self._size] = body[:first]
            self._map[HEADER_BYTES : HEADER_BYTES + length - first] = body[first:]
        self._words[HEAD] = self._head = end
        if end > self._words[WAKE_AT]:
            self._wake()
        return True

    def request_room(self) -> None:
        """Wake the writer, because this producer waits for space in the ring."""
        if self._words[WAKE_AT] != NEVER:
            self._wake()

    def notify_at(self, position: int) -> None:
        """Have the writer notify the kernel when it has committed up to `position`; NEVER for no notification."""
        self._words[NOTIFY_AT] = position

    def keep_from_children(self) -> None:
        """Keep the mapping out of the children that this process forks."""
        self._file.keep_from_children()

    def close(self) -> None:
        """Unmap the lane; published frames stay in its file. May be called twice."""
        self._file.close()

    def _wake(self) -> None:
        self._words[WAKE_AT] = NEVER
        self._wakeup.send()

    def _has_room(self, end: int) -> bool:
        """Return True if a frame that ends at `end` fits, after reading the tail again.

        A body in a file counts as a full ring until it is committed, so each producer has at most one of them.
        """
        tail = self._words[TAIL]
        if tail < self._in_file:
            return False
        self._limit = tail + self._capacity
        return end <= self._limit

    def _publish_in_file(self, body: bytes) -> bool:
        head = self._head
        if not self._has_room(head + 8):
            return False
        path = self._file.body_path(head)
        unfinished = path.with_suffix(UNFINISHED)
        try:
            with open(unfinished, "wb", opener=_private) as file:
                file.write(body)
            unfinished.rename(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            if error.errno in _FULL_DISK:
                return False
            raise
        self._ring_words[(head & self._mask) >> 3] = crc32(body, head & LOW_32) << 32 | IN_FILE | len(body)
        self._words[HEAD] = self._head = self._limit = self._in_file = head + 8
        self._wake()
        return True


def _private(path: str, flags: int) -> int:
    """Open a file that only its owner can read."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
