"""The archive's folder and its files, held against what the manifest says of them."""

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
    """What there is to check in the folder; `readable` tells whether the manifest could be read each time."""

    def __init__(self, folder: Path, log_id: str, findings: Findings) -> None:
        self.readable = True
        self.others: list[FileCheck] = []
        """The files of other logs: what they hold has nothing to do with this one."""

        self._log_id = log_id
        self._findings = findings
        self._files = ArchivedFiles(folder, None)
        self._shelf = ArchiveDirectory(folder)
        # They are listed before the manifest is read for arrivals: what it names meanwhile is no stray then.
        strays = self._shelf.strays() if folder.is_dir() else []
        self._strays = {str(name): FileCheck(self._shelf, name, None, findings) for name in strays}
        self._known: int | None = None

    def arrivals(self) -> Sequence[tuple[int, FileCheck]]:
        """Give the files of this log that were not given before, each with its first id (0 where nobody knows)."""
        entries = self._manifest()
        arrived = [(entry.first_id, check) for entry in entries[self._known or 0 :] if (check := self._named(entry))]
        if self._known is None:
            arrived += [(0, check) for check in self._strays.values()]
        self._known = len(entries)
        return arrived

    @property
    def files(self) -> int:
        """How many files the manifest names."""
        return self._known or 0

    def entries(self) -> list[ManifestEntry]:
        """Give what the manifest says by now of the files of this log."""
        return [entry for entry in self._manifest() if entry.log_id == self._log_id]

    def strays(self) -> list[str]:
        """Name the files that the manifest has not come to name."""
        return [name for name, check in self._strays.items() if not check.counts]

    def _manifest(self) -> Sequence[ManifestEntry]:
        try:
            return self._files.entries()
        except StoreError as why:
            if self.readable:
                self._findings.add("manifest", "the archive", str(why))
            self.readable = False
            return []

    def _named(self, entry: ManifestEntry) -> FileCheck | None:
        """Take in what the manifest says of a file; gives it, if it is of this log and was not given as a stray."""
        stray = self._strays.get(entry.file)
        if stray and entry.log_id == self._log_id:
            stray.entry = entry
            return None
        check = FileCheck(self._shelf, name_of(entry), entry, self._findings)
        if entry.log_id == self._log_id:
            return check
        self._strays.pop(entry.file, None)
        self.others.append(check)
        return None


class FileCheck:
    """Checks a file while its entries are gone through; `entry` is None as long as the manifest doesn't name it."""

    def __init__(
        self, shelf: ArchiveDirectory, name: FileName, entry: ManifestEntry | None, findings: Findings
    ) -> None:
        self.entry = entry
        self._shelf = shelf
        self._name = name
        self._findings = findings
        self._start, self._end = day_start(name.day), day_end(name.day)
        self._rows = self._first_id = self._last_id = 0

    @property
    def name(self) -> str:
        """Its name."""
        return str(self._name)

    @property
    def counts(self) -> bool:
        """Whether the manifest names it."""
        return self.entry is not None

    def seen(self) -> Generator[Seen, None, None]:
        """Give the entries that are sound, in the order of their id, and say what is wrong with the file."""
        path = self._shelf.path(self._name)
        if not path.exists():
            self._found("missing, though the manifest names it")
            return
        try:
            changed = self._has_changed()
            yield from self._entries()
        except StoreError as why:
            self._found(str(why).removeprefix(f"{path} "))
        else:
            self._compare(changed=changed)

    def _entries(self) -> Iterator[Seen]:
        damaged = 0
        for number, line in enumerate(self._shelf.lines(self._name), 1):
            self._rows = number
            if damaged > MAX_DAMAGED_LINES:
                self._found("damaged: it is not read any further", number)
                return
            try:
                row = row_of(line)
                msgspec.json.decode(row[4])
            except (ValueError, RecursionError) as why:
                self._found(f"damaged: {why}", number)
                damaged += 1
                continue
            if not self._belongs(row):
                self._found(f"entry {row[0]} (ts {row[5]}) doesn't belong there, after entry {self._last_id}", number)
                continue
            self._first_id = self._first_id or row[0]
            self._last_id = row[0]
            yield Seen(row[0], self, row)

    def _belongs(self, row: Row) -> bool:
        return bool(row[0] > self._last_id and self._start <= row[5] < self._end)

    def _has_changed(self) -> bool:
        """Compare the file as it is stored with the manifest."""
        entry = self.entry
        if entry is None:
            return False
        stored = self._shelf.measure(self._name)
        if stored.bytes != entry.bytes:
            self._found(f"changed: it has {stored.bytes} bytes, the manifest says {entry.bytes}")
        elif stored.sha256 != entry.sha256:
            self._found(f"changed: its SHA-256 is {stored.sha256}, the manifest says {entry.sha256}")
        return stored != (entry.bytes, entry.sha256)

    def _compare(self, *, changed: bool) -> None:
        """Compare what was read with the manifest, unless the file has changed: all has been said then."""
        entry = self.entry
        if entry is None or changed:
            return
        for what, found, told in (
            ("rows", self._rows, entry.rows),
            ("first id", self._first_id, entry.first_id),
            ("last id", self._last_id, entry.last_id),
        ):
            if found != told:
                self._findings.add("manifest", self.name, f"its {what} is {found}, the manifest says {told}")

    def _found(self, what: str, line: int | None = None) -> None:
        self._findings.add("file", self.name if line is None else f"{self.name}, line {line}", what)
