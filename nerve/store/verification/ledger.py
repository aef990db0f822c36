"""Ledger: goes through the entries of a log in the order of their id, and notes what is missing or twice; pure.

It remembers the runs that are open, and nothing else that grows with the log.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from nerve.store.jsonl import to_line, undecoded
from nerve.store.schema import Row
from nerve.store.verification.findings import Findings

_MARKS = {("reflex", "run_start"), ("reflex", "run_complete"), ("system", "start")}


class Origin(Protocol):
    """A file of the archive, or what may become one."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def counts(self) -> bool:
        """Whether the manifest names it."""


class Seen(NamedTuple):
    """An entry, and where it was seen; the table has no origin."""

    id: int
    origin: Origin | None
    row: Row


class Ledger:
    """What has been seen of a log so far.

    An entry may be in the table and in one file at a time: it is deleted only after it has been archived. `gone_id` and
    `gone_ts` are the greatest of entries that are in the archive alone; `has_gaps` tells whether any entry is missing.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._last: list[Seen] = []
        self._last_id = 0
        self._open: dict[str, int] = {}
        self.runs = 0
        self.has_gaps = False
        self.gone_id = 0
        self.gone_ts = -(2**63)

    @property
    def open_runs(self) -> dict[str, int]:
        """The runs without a `run_complete`, with the id of their `run_start`, in the order of it."""
        return self._open

    def take(self, seen: Seen) -> None:
        """Go on to an entry; what was seen in several places comes several times."""
        if seen.id == self._last_id:
            self._last.append(seen)
            return
        if seen.id < self._last_id:
            return  # a file whose manifest entry is wrong, which is damage that its reader tells
        self._settle()
        self._expect(seen.id)
        self._last, self._last_id = [seen], seen.id
        if seen.row[1:3] in _MARKS:
            self._mark(seen.id, *seen.row[2:4])

    def end(self, last_id: int) -> None:
        """End with the id that was given last, in whatever entry."""
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
        """Judge where the last entry is, all of its places being known."""
        files = [seen.origin for seen in self._last if seen.origin]
        if len(self._last) > 1:
            self._compare(files)
        if files and len(files) == len(self._last):
            self._note_gone(self._last[0].row, files)

    def _compare(self, files: list[Origin]) -> None:
        counting = [file.name for file in files if file.counts]
        if len(counting) > 1:
            self._findings.add("double", f"entry {self._last_id}", f"in {' and in '.join(counting)}")
        if len({to_line(undecoded(seen.row)) for seen in self._last}) > 1:
            places = sorted(seen.origin.name if seen.origin else "the table" for seen in self._last)
            self._findings.add("entry", f"entry {self._last_id}", f"not the same in {' and in '.join(places)}")

    def _note_gone(self, row: Row, files: list[Origin]) -> None:
        self.gone_id = row[0]
        self.gone_ts = max(self.gone_ts, row[5])
        if not files[0].counts and not any(file.counts for file in files):
            self._findings.add("file", files[0].name, f"not in the manifest, but alone in having entry {row[0]}")

    def _mark(self, id: int, type: str, run: str | None) -> None:
        if type == "start":
            self._boot(id)
        elif run is None:
            self._findings.add("run", f"entry {id}", f"a {type} of no run")
        elif type == "run_start":
            self.runs += 1
            if run in self._open:
                self._findings.add("run", run, f"two run_start: entries {self._open[run]} and {id}")
            self._open[run] = id
        elif self._open.pop(run, None) is None:
            self._findings.add("run", run, f"entry {id} completes it, though it was not open then")

    def _boot(self, id: int) -> None:
        # What an engine leaves open when it dies, the next one completes before it starts.
        for run, start in self._open.items():
            self._findings.add("run", run, f"no run_complete: open since entry {start}, before the start in entry {id}")
        self._open.clear()
