"""The archive, read: its files' entries, as the rows that they were."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from nerve.errors import StoreError
from nerve.store.archive.directory import MANIFEST, ArchiveDirectory, read_manifest
from nerve.store.archive.manifest import FileName, ManifestEntry
from nerve.store.archive.row_filter import RowFilter
from nerve.store.filters import Filter
from nerve.store.jsonl import row_of
from nerve.store.schema import Row
from nerve.store.utc_days import day_end, day_start


class ArchivedFiles:
    """The files in the archive's folder, which may not be there yet; an archiver may be at work in it.

    `log_id` names the log whose files matter; None stands for all. Every method raises StoreError, with one line, for
    what can't be read.
    """

    def __init__(self, folder: Path, log_id: str | None) -> None:
        self._folder = folder
        self._log_id = log_id
        self._shelf = ArchiveDirectory(folder)
        self._entries: list[ManifestEntry] = []
        self._print: tuple[int, ...] | None = None

    def entries(self) -> Sequence[ManifestEntry]:
        """Give what the manifest holds now; what it held before comes first, in the same order."""
        found = self._fingerprint()
        if found != self._print:
            entries = read_manifest(self._folder)
            for entry in entries:
                self._check(entry)
            self._entries = [entry for entry in entries if self._log_id in (None, entry.log_id)]
            self._print = found
        return self._entries

    def rows(self, entry: ManifestEntry, judge: RowFilter) -> Generator[Row, None, None]:
        """Give the rows of a file that are wanted, in the order of their id; it is open from the first to the last."""
        name = name_of(entry)
        if not self._shelf.path(name).exists():
            raise StoreError(f"{self._shelf.path(name)} is missing: see `nerve verify`")
        for number, line in enumerate(self._shelf.lines(name), 1):
            if number > entry.rows:
                raise StoreError(f"{self._shelf.path(name)} is damaged: it goes on after its {entry.rows} entries")
            if not judge.may_want(line):
                continue
            try:
                row = row_of(line)
            except ValueError as why:
                place = f"{self._shelf.path(name)}, line {number}"
                raise StoreError(f"{place} is damaged ({why}): see `nerve verify`") from None
            if judge.wants(row):
                yield row

    def _check(self, entry: ManifestEntry) -> None:
        try:
            name_of(entry)
        except ValueError as why:
            raise StoreError(f"{self._folder / MANIFEST} {why}: restore it from a backup") from None

    def _fingerprint(self) -> tuple[int, ...]:
        try:
            status = (self._folder / MANIFEST).stat()
        except OSError:  # what is wrong with it is told when it is read
            return ()
        return status.st_ino, status.st_size, status.st_mtime_ns


def archive_of(db: Path) -> Path:
    """Give the folder where a workspace keeps the archive of the log at `db`."""
    return db.absolute().parent / "archive" / "logs"


def may_hold(entry: ManifestEntry, wanted: Filter) -> bool:
    """Tell, by its day and its ids alone, whether a file can have anything that `wanted` asks for."""
    after_id, until_id = wanted.after_id or 0, wanted.until_id
    return (
        (wanted.since is None or wanted.since < day_end(entry.day))
        and (wanted.until is None or wanted.until >= day_start(entry.day))
        and entry.last_id > after_id
        and (until_id is None or entry.first_id <= until_id)
    )


def name_of(entry: ManifestEntry) -> FileName:
    """Give the name of a file; ValueError when that is none of ours, such as one that leads out of the folder."""
    name = FileName.parse(entry.file)
    if name is None or name.day != entry.day:
        raise ValueError(f"names {entry.file[:80]!r} for {entry.day[:40]!r}, which is no file of an archive")
    return name
