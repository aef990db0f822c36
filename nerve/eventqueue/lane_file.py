"""The file of a lane: a header page and a ring, mapped into memory by the producer and by the writer.

The header starts with the lane's identity (magic, capacity, boot, producer, and their checksum), which never changes.
Each value that changes is one aligned 8-byte word in a cache line of its own, and is written by a single store.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import zlib
from pathlib import Path

from nerve.errors import WireError

SUFFIX = ".lane"
UNFINISHED = ".new"
"""The suffix of a file that is being written. One that is left over holds nothing that was published."""

LANE_BYTES = 1024 * 1024
"""The size of a worker's ring in bytes, a power of two: how much it can have logged that is not committed."""

HEADER_BYTES = 4096
NEVER = 2**64 - 1
"""A position that no lane reaches."""

MAX_BODY = 64 * 1024 * 1024
"""The largest body of a frame, in bytes."""

IN_FILE = 2**31
"""The bit of a frame's length that says that the body is in a file beside the lane."""

HEAD, TAIL, WAKE_AT, NOTIFY_AT, LOG, PID = range(128, 128 + 6 * 8, 8)
"""Indexes of the header's words.

Positions: frames are published up to HEAD (stored by the producer) and committed up to TAIL (stored by the writer). The
producer wakes the writer when it publishes beyond WAKE_AT. The writer notifies the kernel when it has committed up to
NOTIFY_AT. LOG is the number of the log that the lane belongs to, PID the producer's process.
"""

_IDENTITY = struct.Struct("<8sQ64s128s")
_MAGIC = b"nervlane"
_BLOCK = bytes(256 * 1024)


def create_lane_file(path: Path, producer: str, boot_id: str, capacity: int = LANE_BYTES) -> None:
    """Create the file of a lane and reserve its space by writing every block.

    Raises OSError if there is not enough space; no file is left behind.
    """
    unfinished = path.with_suffix(UNFINISHED)
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write_zeros(descriptor, HEADER_BYTES + capacity)
        identity = _IDENTITY.pack(_MAGIC, capacity, boot_id.encode(), producer.encode())
        os.pwrite(descriptor, identity + struct.pack("<I", zlib.crc32(identity)), 0)
        os.pwrite(descriptor, struct.pack("=Q", NEVER), NOTIFY_AT * 8)
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _write_zeros(descriptor: int, size: int) -> None:
    written = 0
    while written < size:
        written += os.write(descriptor, _BLOCK[: size - written])


class LaneFile:
    """A mapped lane file: `map` is the whole file, `words` are the words of its header, `ring` is the rest."""

    def __init__(self, path: Path, *, hold: bool = False) -> None:
        """Map a lane; with `hold`, keep a shared lock on the file until this process and its forks have unmapped it.

        Raises OSError if the file can't be opened, and WireError if it is not a complete lane.
        """
        self.path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            header = os.pread(descriptor, _IDENTITY.size + 4, 0)
            self.capacity, self.boot_id, self.producer = _identity(header, size)
            if hold:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            self.map = mmap.mmap(descriptor, size)  # keeps the file open, and so the lock
        finally:
            os.close(descriptor)
        self._view = memoryview(self.map)
        self.words = self._view[:HEADER_BYTES].cast("Q")
        self.ring = self._view[HEADER_BYTES:]
        self.ring_words = self.ring.cast("Q")

    def keep_from_children(self) -> None:
        """Keep the mapping out of the children that this process forks, if the system can do that."""
        if hasattr(mmap, "MADV_DONTFORK"):
            self.map.madvise(mmap.MADV_DONTFORK)

    def read(self, start: int, stop: int) -> bytes:
        """Return a copy of the bytes between two positions that are at most one capacity apart."""
        at, size = start & (self.capacity - 1), stop - start
        first = bytes(self.ring[at : at + size])
        return first if len(first) == size else first + bytes(self.ring[: size - len(first)])

    def body_path(self, position: int) -> Path:
        """Return the path of the body of the frame at `position`, if that body has a file of its own."""
        return self.path.with_name(f"{self.path.stem}.{position}.body")

    def close(self) -> None:
        """Unmap the file; may be called twice."""
        for view in (self.ring_words, self.ring, self.words, self._view):
            view.release()
        self.map.close()

    def remove(self) -> None:
        """Remove the files of frame bodies, then the lane's file; existing mappings stay valid."""
        for body in self.path.parent.glob(f"{self.path.stem}.*.*"):
            body.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def is_held(path: Path) -> bool:
    """Return True if a producer has this lane mapped."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _identity(header: bytes, size: int) -> tuple[int, str, str]:
    """Return capacity, boot id and producer from the header of a file of `size` bytes. Raises WireError."""
    body, checksum = header[: _IDENTITY.size], header[_IDENTITY.size :]
    if len(checksum) != 4 or zlib.crc32(body) != struct.unpack("<I", checksum)[0]:
        raise WireError("its header does not match its checksum")
    magic, capacity, boot_id, producer = _IDENTITY.unpack(body)
    if magic != _MAGIC or capacity & (capacity - 1) or not 0 < capacity <= MAX_BODY:
        raise WireError("it is not a lane of this version of nerve")
    if size != HEADER_BYTES + capacity:
        raise WireError(f"it has {size} bytes instead of {HEADER_BYTES + capacity}")
    return capacity, boot_id.rstrip(b"\0").decode(errors="replace"), producer.rstrip(b"\0").decode(errors="replace")
