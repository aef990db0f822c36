"""The bytes of an archive file: plain lines, or lines compressed with zstd; the suffix of its name says which."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

from nerve.errors import StoreError

ZSTD_SUFFIX = ".zst"

MAX_LINE_BYTES = 64 * 1024**2
"""No line that nerve writes is longer, since no message between its processes is."""

_READ_LEAST, _READ_MOST = 128, 2 * 1024  # a byte can become 32 KB: 64 MB at once at most
_EXPANDED_BYTES = 1024 * 1024  # target size of one read after decompression: repetitive lines expand a lot
_HASH_BYTES = 1024 * 1024

SYNC_BYTES = 4 * 1024 * 1024
"""Bytes written between two syncs: with many more, commits of other processes would wait for the disk."""


class Stored(NamedTuple):
    """A file as it is on the disk, compressed or not: its size in bytes, and their SHA-256 (as of `sha256sum`)."""

    bytes: int
    sha256: str


def write_lines(file: BinaryIO, lines: Iterable[bytes], *, compressed: bool) -> Stored:
    """Write lines, one or many at a time, to a file, and return its size and SHA-256.

    On return most of the file is on the disk; the caller must sync the rest.
    """
    size, unsynced, digest = 0, 0, hashlib.sha256()
    for data in _compressed(lines) if compressed else lines:
        file.write(data)
        size += len(data)
        unsynced += len(data)
        digest.update(data)
        if unsynced >= SYNC_BYTES:
            file.flush()
            os.fsync(file.fileno())
            unsynced = 0
    return Stored(size, digest.hexdigest())


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, with their ends.

    Raises StoreError if the file is not a regular one, if a line is longer than any that nerve writes, or if a
    compressed file is damaged or truncated.
    """
    with open_regular(path) as file:
        if path.suffix == ZSTD_SUFFIX:
            yield from _split(_decompressed(file, path), path)
        else:
            while line := file.readline(MAX_LINE_BYTES + 1):
                _check_length(len(line), path)
                yield line


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it; raises StoreError if it is something else, such as a named pipe, which would block."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise StoreError(f"{path} is not a regular file: move it away, and restore the file from a backup")
    return os.fdopen(fd, "rb")


def measure(path: Path) -> Stored:
    """Return the size and SHA-256 of a file."""
    size, digest = 0, hashlib.sha256()
    with open_regular(path) as file:
        while data := file.read(_HASH_BYTES):
            size += len(data)
            digest.update(data)
    return Stored(size, digest.hexdigest())


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _compressed(lines: Iterable[bytes]) -> Iterator[bytes]:
    frame = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    for line in lines:
        if data := frame.compress(line):
            yield data
    yield frame.flush()


def _decompressed(file: BinaryIO, path: Path) -> Iterator[bytes]:
    frame, size = zstandard.ZstdDecompressor().decompressobj(), _READ_LEAST
    while not frame.eof and (data := file.read(size)):
        try:
            expanded = frame.decompress(data)
        except zstandard.ZstdError as why:
            raise StoreError(f"{path} is damaged: {why}") from None
        yield expanded
        size = max(size // 2, _READ_LEAST) if len(expanded) > _EXPANDED_BYTES else min(size * 2, _READ_MOST)
    if not frame.eof or frame.unused_data or file.read(1):
        raise StoreError(f"{path} is damaged: it {'continues after' if frame.eof else 'stops before'} its end")


def _split(chunks: Iterable[bytes], path: Path) -> Iterator[bytes]:
    begun: list[bytes] = []  # of a line whose end has not come yet
    length = 0
    for chunk in chunks:
        first, newline, others = chunk.partition(b"\n")
        begun.append(first)
        length += len(first)
        _check_length(length, path)
        if newline:
            yield b"".join((*begun, newline))
            *whole, rest = others.split(b"\n")
            for line in whole:
                yield line + b"\n"
            begun, length = [rest], len(rest)
    if length:
        yield b"".join(begun)


def _check_length(length: int, path: Path) -> None:
    if length > MAX_LINE_BYTES:
        raise StoreError(f"{path} is damaged: it has a line of more than {MAX_LINE_BYTES // 1024**2} MB")
