"""Reading the archive: the entries of its files, as table rows."""

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
    """The files in the archive's folder, which need not exist yet; an archiver may be writing to it.

    `log_id` selects the files of one log; None selects all. Every method raises StoreError, with one line, for a file
    that can't be read.
    """

    def __init__(self, folder: Path, log_id: str | None) -> None:
        self._folder = folder
        self._log_id = log_id
        self._directory = ArchiveDirectory(folder)
        self._entries: list[ManifestEntry] = []
        self._last_fingerprint: tuple[int, ...] | None = None

    def entries(self) -> Sequence[ManifestEntry]:
        """Return the current entries of the manifest; earlier results are a prefix of later ones."""
        fingerprint = self._fingerprint()
        if fingerprint != self._last_fingerprint:
            entries = read_manifest(self._folder)
            for entry in entries:
                self._check(entry)
            self._entries = [entry for entry in entries if self._log_id in (None, entry.log_id)]
            self._last_fingerprint = fingerprint
        return self._entries

    def rows(self, entry: ManifestEntry, row_filter: RowFilter) -> Generator[Row, None, None]:
        """Yield the rows of a file that match, in the order of their ids; the file is open from first to last."""
        name = name_of(entry)
        path = self._directory.path(name)
        if not path.exists():
            raise StoreError(f"{path} is missing; see `nerve verify`")
        for number, line in enumerate(self._directory.lines(name), 1):
            if number > entry.rows:
                raise StoreError(f"{path} is damaged: it continues after its {entry.rows} entries")
            if not row_filter.may_match(line):
                continue
            try:
                row = row_of(line)
            except ValueError as why:
                raise StoreError(f"{path}, line {number} is damaged ({why}); see `nerve verify`") from None
            if row_filter.matches(row):
                yield row

    def _check(self, entry: ManifestEntry) -> None:
        try:
            name_of(entry)
        except ValueError as why:
            raise StoreError(f"{self._folder / MANIFEST} {why}; restore it from a backup") from None

    def _fingerprint(self) -> tuple[int, ...]:
        try:
            status = (self._folder / MANIFEST).stat()
        except OSError:  # reading it reports the reason
            return ()
        return status.st_ino, status.st_size, status.st_mtime_ns


def archive_of(db: Path) -> Path:
    """Return the folder in which a workspace keeps the archive of the log at `db`."""
    return db.absolute().parent / "archive" / "logs"


def may_hold(entry: ManifestEntry, filter: Filter) -> bool:
    """Return False if, by its day and its ids, a file can't contain a match."""
    after_id, until_id = filter.after_id or 0, filter.until_id
    return (
        (filter.since is None or filter.since < day_end(entry.day))
        and (filter.until is None or filter.until >= day_start(entry.day))
        and entry.last_id > after_id
        and (until_id is None or entry.first_id <= until_id)
    )


def name_of(entry: ManifestEntry) -> FileName:
    """Return the name of a file. Raises ValueError for an invalid one, such as one that leads out of the folder."""
    name = FileName.parse(entry.file)
    if name is None or name.day != entry.day:
        raise ValueError(f"names {entry.file[:80]!r} for {entry.day[:40]!r}, which is not an archive file")
    return name
