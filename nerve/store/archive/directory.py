"""ArchiveDirectory: the archive's files, which appear whole or not at all, and the manifest that lists them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from nerve.errors import StoreError
from nerve.store.archive.codec import Stored, measure, open_regular, read_lines, sync, write_lines
from nerve.store.archive.manifest import (
    ArchivedRange,
    FileName,
    ManifestEntry,
    archived_ranges,
    next_name,
    parse_manifest,
)
from nerve.store.error_mapping import disk_failures

MANIFEST = "manifest.jsonl"
_TEMPORARY = ".tmp"


class ArchiveDirectory:
    """The files of the archive and their manifest; writing needs the lock of `held`.

    Raises StoreError for a manifest that can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with disk_failures(folder):
            self._entries, self._manifest_bytes = _read(folder)

    @classmethod
    @contextmanager
    def held(cls, folder: Path) -> Iterator[ArchiveDirectory]:
        """Lock the folder, create it if it is missing, and remove temporary files of an interrupted archiver.

        This and every method raise StoreError for a file that can't be read or written; this one also if another
        archiver holds the lock.
        """
        with disk_failures(folder):
            _make(folder)
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with disk_failures(folder):
                _lock(fd, folder)
                _remove_temporary_files(folder)
            yield cls(folder)
        finally:
            os.close(fd)

    def path(self, name: FileName) -> Path:
        """Return the path of a file."""
        return self._folder / str(name)

    def lines(self, name: FileName) -> Iterator[bytes]:
        """Yield the lines of a file, with their ends, whether it is compressed or not."""
        path = self.path(name)
        with disk_failures(path):
            yield from read_lines(path)

    def measure(self, name: FileName) -> Stored:
        """Return the size and SHA-256 of a file as it is on the disk."""
        path = self.path(name)
        with disk_failures(path):
            return measure(path)

    def archived(self, day: str, log_id: str) -> tuple[ArchivedRange, ...]:
        """Return the ranges of the entries of `day` that are archived."""
        return archived_ranges(self._entries, day, log_id)

    def count(self, log_id: str) -> int:
        """Return the number of files of a log in the manifest."""
        return sum(1 for entry in self._entries if entry.log_id == log_id)

    def next_name(self, day: str, *, compressed: bool = False) -> FileName:
        """Return a name for the next file of `day` that no existing file has."""
        known = (FileName.parse(entry.file) for entry in self._entries)
        return next_name([*(name for name in known if name), *self.strays()], day, compressed=compressed)

    def strays(self) -> list[FileName]:
        """Return the files that are not in the manifest: an archiver completed them, and was then interrupted."""
        known = {entry.file for entry in self._entries}
        with disk_failures(self._folder):
            names = (FileName.parse(path.name) for path in self._folder.iterdir() if path.name not in known)
            return sorted(name for name in names if name)

    def write(self, name: FileName, lines: Iterable[bytes]) -> Stored:
        """Write these lines to a new file, readable by its owner alone; on return it is on the disk under its name."""
        final = self.path(name)
        if final.exists():
            raise StoreError(f"{final} exists, and is not a file of this archive: move it away")
        temporary = final.with_name(final.name + _TEMPORARY)
        with disk_failures(final):
            try:
                with _created(temporary, os.O_WRONLY | os.O_EXCL, "wb") as file:
                    stored = write_lines(file, lines, compressed=name.compressed)
                    _flush(file)
                temporary.rename(final)
            except Exception:
                temporary.unlink(missing_ok=True)  # free its space, in case the disk is full
                raise
            sync(self._folder)
        return stored

    def add(self, entry: ManifestEntry) -> None:
        """Add a file to the manifest; on return its line is on the disk."""
        line = msgspec.json.encode(entry) + b"\n"
        manifest = self._folder / MANIFEST
        with disk_failures(manifest):
            with _created(manifest, os.O_RDWR, "r+b") as file:
                file.truncate(self._manifest_bytes)  # removes an incomplete last line
                file.seek(self._manifest_bytes)
                file.write(line)
                _flush(file)
            sync(self._folder)
        self._entries.append(entry)
        self._manifest_bytes += len(line)


def read_manifest(folder: Path) -> list[ManifestEntry]:
    """Return the entries of the manifest in `folder`, in order; none if there is no manifest yet.

    Raises StoreError if it can't be read.
    """
    with disk_failures(folder):
        return _read(folder)[0]


def _make(folder: Path) -> None:
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync(folder.parent)


def _created(path: Path, flags: int, mode: Literal["wb", "r+b"]) -> BinaryIO:
    return os.fdopen(os.open(path, flags | os.O_CREAT, 0o600), mode)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _read(folder: Path) -> tuple[list[ManifestEntry], int]:
    path = folder / MANIFEST
    try:
        with open_regular(path) as file:
            return parse_manifest(file.read())
    except FileNotFoundError:
        return [], 0
    except ValueError as why:
        raise StoreError(f"{path}: {why}; restore it from a backup, or see `nerve verify`") from None


def _lock(fd: int, folder: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(f"another archiver is running in {folder}: try again when it is done") from None


def _remove_temporary_files(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name.endswith(_TEMPORARY) and FileName.parse(path.name.removesuffix(_TEMPORARY)):
            path.unlink()
