"""Ledger: reads the entries of a log in the order of their ids, and reports missing and duplicate ones; pure.

Only its memory of open runs can grow.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from nerve.store.jsonl import to_line, undecoded
from nerve.store.schema import Row
from nerve.store.verification.findings import Findings

_MARKS = {("reflex", "run_start"), ("reflex", "run_complete"), ("system", "start")}


class Origin(Protocol):
    """A file of the archive, or one that may be adopted."""

    @property
    def name(self) -> str:
        """The name of the file."""

    @property
    def is_listed(self) -> bool:
        """True if the file is in the manifest."""


class Seen(NamedTuple):
    """An entry, and the file that it was read from; None for the table."""

    id: int
    origin: Origin | None
    row: Row


class Ledger:
    """The state of reading a log.

    An entry may be in the table and in one file at the same time: it is deleted only after it has been archived.
    `deleted_id` and `deleted_ts` are the greatest id and ts that are in the archive only; `has_gaps`: one is missing.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._last: list[Seen] = []
        self._last_id = 0
        self._open: dict[str, int] = {}
        self.runs = 0
        self.has_gaps = False
        self.deleted_id = 0
        self.deleted_ts = -(2**63)

    @property
    def open_runs(self) -> dict[str, int]:
        """The runs without a `run_complete` and the ids of their `run_start`, in the order of those."""
        return self._open

    def add(self, seen: Seen) -> None:
        """Add the next entry; one that is in several places is added several times."""
        if seen.id == self._last_id:
            self._last.append(seen)
            return
        if seen.id < self._last_id:
            return  # the manifest's entry of a file is wrong, which is reported by its reader
        self._settle()
        self._expect(seen.id)
        self._last, self._last_id = [seen], seen.id
        if seen.row[1:3] in _MARKS:
            self._mark(seen.id, *seen.row[2:4])

    def end(self, last_id: int) -> None:
        """End with the greatest id of the log, which no entry need have."""
        self._settle()
        self._last = []
        self._expect(last_id + 1)

    def _expect(self, id: int) -> None:
        first, last = self._last_id + 1, id - 1
        if first <= last:
            self.has_gaps = True
            where = f"entry {first}" if first == last else f"entries {first} to {last}"
            self._findings.add("gap", where, "missing: neither in the table nor in the archive")

    def _settle(self) -> None:
        """Check the locations of the last entry, once all of them are known."""
        files = [seen.origin for seen in self._last if seen.origin]
        if len(self._last) > 1:
            self._compare(files)
        if files and len(files) == len(self._last):
            self._note_deleted(self._last[0].row, files)

    def _compare(self, files: list[Origin]) -> None:
        listed = [file.name for file in files if file.is_listed]
        if len(listed) > 1:
            self._findings.add("double", f"entry {self._last_id}", f"in {' and in '.join(listed)}")
        if len({to_line(undecoded(seen.row)) for seen in self._last}) > 1:
            places = sorted(seen.origin.name if seen.origin else "the table" for seen in self._last)
            self._findings.add("entry", f"entry {self._last_id}", f"not the same in {' and in '.join(places)}")

    def _note_deleted(self, row: Row, files: list[Origin]) -> None:
        self.deleted_id = row[0]
        self.deleted_ts = max(self.deleted_ts, row[5])
        if not files[0].is_listed and not any(file.is_listed for file in files):
            self._findings.add("file", files[0].name, f"not in the manifest, but the only file with entry {row[0]}")

    def _mark(self, id: int, type: str, run: str | None) -> None:
        if type == "start":
            self._boot(id)
        elif run is None:
            self._findings.add("run", f"entry {id}", f"a {type} without a run")
        elif type == "run_start":
            self.runs += 1
            if run in self._open:
                self._findings.add("run", run, f"two run_start: entries {self._open[run]} and {id}")
            self._open[run] = id
        elif self._open.pop(run, None) is None:
            self._findings.add("run", run, f"entry {id} completes it, though it was not open")

    def _boot(self, id: int) -> None:
        # Runs that an engine leaves open when it dies are completed by the next one before it starts.
        for run, start in self._open.items():
            self._findings.add("run", run, f"no run_complete: open since entry {start}, before the start in entry {id}")
        self._open.clear()
