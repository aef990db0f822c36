"""Checking the archive's folder and its files against the manifest."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import msgspec

from nerve.errors import StoreError
from nerve.store.archive.directory import ArchiveDirectory
from nerve.store.archive.manifest import FileName, ManifestEntry
from nerve.store.archive.reader import ArchivedFiles, name_of
from nerve.store.jsonl import row_of
from nerve.store.schema import Row
from nerve.store.utc_days import day_end, day_start
from nerve.store.verification.findings import Findings
from nerve.store.verification.ledger import Seen

MAX_DAMAGED_LINES = 1000
"""Damaged lines of a file after which it is not read any further: there may be billions."""


class ArchiveCheck:
    """The files in the folder to check; `readable` is False once the manifest could not be read."""

    def __init__(self, folder: Path, log_id: str, findings: Findings) -> None:
        self.readable = True
        self.others: list[FileCheck] = []
        """The files of other logs: their entries are independent of this log's."""

        self._log_id = log_id
        self._findings = findings
        self._files = ArchivedFiles(folder, None)
        self._directory = ArchiveDirectory(folder)
        # Listed before the manifest is read for arrivals: files that it lists by then are not strays.
        strays = self._directory.strays() if folder.is_dir() else []
        self._strays = {str(name): FileCheck(self._directory, name, None, findings) for name in strays}
        self._entries_seen: int | None = None

    def arrivals(self) -> Sequence[tuple[int, FileCheck]]:
        """Return the files of this log that were not returned before, each with its first id (0 if unknown)."""
        entries = self._manifest()
        arrived = [
            (entry.first_id, check)
            for entry in entries[self._entries_seen or 0 :]
            if (check := self._note_entry(entry))
        ]
        if self._entries_seen is None:
            arrived += [(0, check) for check in self._strays.values()]
        self._entries_seen = len(entries)
        return arrived

    @property
    def files(self) -> int:
        """The number of files in the manifest."""
        return self._entries_seen or 0

    def entries(self) -> list[ManifestEntry]:
        """Return the manifest's current entries of this log."""
        return [entry for entry in self._manifest() if entry.log_id == self._log_id]

    def strays(self) -> list[str]:
        """Return the files that are still not in the manifest."""
        return [name for name, check in self._strays.items() if not check.is_listed]

    def _manifest(self) -> Sequence[ManifestEntry]:
        try:
            return self._files.entries()
        except StoreError as why:
            if self.readable:
                self._findings.add("manifest", "the archive", str(why))
            self.readable = False
            return []

    def _note_entry(self, entry: ManifestEntry) -> FileCheck | None:
        """Note an entry of the manifest; return its file if it is of this log, and was not returned as a stray."""
        stray = self._strays.get(entry.file)
        if stray and entry.log_id == self._log_id:
            stray.entry = entry
            return None
        check = FileCheck(self._directory, name_of(entry), entry, self._findings)
        if entry.log_id == self._log_id:
            return check
        self._strays.pop(entry.file, None)
        self.others.append(check)
        return None


class FileCheck:
    """Checks a file while its entries are read; `entry` is None as long as it is not in the manifest."""

    def __init__(
        self, directory: ArchiveDirectory, name: FileName, entry: ManifestEntry | None, findings: Findings
    ) -> None:
        self.entry = entry
        self._directory = directory
        self._name = name
        self._findings = findings
        self._start, self._end = day_start(name.day), day_end(name.day)
        self._rows = self._first_id = self._last_id = 0

    @property
    def name(self) -> str:
        """The name of the file."""
        return str(self._name)

    @property
    def is_listed(self) -> bool:
        """True if the file is in the manifest."""
        return self.entry is not None

    def seen(self) -> Generator[Seen, None, None]:
        """Yield the undamaged entries, in the order of their ids, and report the damage in the file."""
        path = self._directory.path(self._name)
        if not path.exists():
            self._report("missing, though the manifest lists it")
            return
        try:
            changed = self._has_changed()
            yield from self._entries()
        except StoreError as why:
            self._report(str(why).removeprefix(f"{path} "))
        else:
            self._compare(changed=changed)

    def _entries(self) -> Iterator[Seen]:
        damaged = 0
        for number, line in enumerate(self._directory.lines(self._name), 1):
            self._rows = number
            if damaged > MAX_DAMAGED_LINES:
                self._report("damaged: it is not read any further", number)
                return
            try:
                row = row_of(line)
                msgspec.json.decode(row[4])
            except (ValueError, RecursionError) as why:
                self._report(f"damaged: {why}", number)
                damaged += 1
                continue
            if not self._belongs(row):
                self._report(f"entry {row[0]} (ts {row[5]}) doesn't belong there, after entry {self._last_id}", number)
                continue
            self._first_id = self._first_id or row[0]
            self._last_id = row[0]
            yield Seen(row[0], self, row)

    def _belongs(self, row: Row) -> bool:
        return bool(row[0] > self._last_id and self._start <= row[5] < self._end)

    def _has_changed(self) -> bool:
        """Return True, and report it, if the file on the disk is not the one in the manifest."""
        entry = self.entry
        if entry is None:
            return False
        stored = self._directory.measure(self._name)
        if stored.bytes != entry.bytes:
            self._report(f"changed: it has {stored.bytes} bytes, the manifest says {entry.bytes}")
        elif stored.sha256 != entry.sha256:
            self._report(f"changed: its SHA-256 is {stored.sha256}, the manifest says {entry.sha256}")
        return stored != (entry.bytes, entry.sha256)

    def _compare(self, *, changed: bool) -> None:
        """Compare the entries with the manifest, unless the file has changed, which has been reported then."""
        entry = self.entry
        if entry is None or changed:
            return
        for what, found, listed in (
            ("rows", self._rows, entry.rows),
            ("first id", self._first_id, entry.first_id),
            ("last id", self._last_id, entry.last_id),
        ):
            if found != listed:
                self._findings.add("manifest", self.name, f"its {what} is {found}, the manifest says {listed}")

    def _report(self, what: str, line: int | None = None) -> None:
        self._findings.add("file", self.name if line is None else f"{self.name}, line {line}", what)
