"""The bytes of an archive file: lines as they are, or compressed with zstd; the end of its name tells which."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

from nerve.errors import StoreError

ZSTD_SUFFIX = ".zst"

_READ_LEAST, _READ_MOST = 128, 64 * 1024
_EXPANDED_BYTES = 1024 * 1024  # what is read at once should grow to no more: lines that are much alike hardly take room
_HASH_BYTES = 1024 * 1024

SYNC_BYTES = 4 * 1024 * 1024
"""So much is written before it is brought to the disk: with much more at once, others' commits would wait for it."""


class Stored(NamedTuple):
    """A file as it is on the disk, compressed or not: its size in bytes, and the SHA-256 of them (`sha256sum`)."""

    bytes: int
    sha256: str


def write_lines(file: BinaryIO, lines: Iterable[bytes], *, compressed: bool) -> Stored:
    """Write lines, one or many at a time, to a file, and tell what has been stored.

    On return most of it is on the disk, and the rest is for the caller to bring there.
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
    """Give the lines of a file, each with its end; StoreError where what is compressed is damaged or cut short."""
    with path.open("rb") as file:
        if path.suffix == ZSTD_SUFFIX:
            yield from _split(_decompressed(file, path))
        else:
            yield from file


def measure(path: Path) -> Stored:
    """Tell what is stored in a file."""
    size, digest = 0, hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_HASH_BYTES):
            size += len(data)
            digest.update(data)
    return Stored(size, digest.hexdigest())


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
        raise StoreError(f"{path} is damaged: it {'goes on after' if frame.eof else 'stops before'} its end")


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest
