"""LoggedRuns: the runs in the log's table, each found through an index; a RunSource."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from nerve.events.model import Log
from nerve.ids import time_of
from nerve.store.filters import Filter, Match
from nerve.store.provenance.traced_run import read_start


class _Table(Protocol):
    """The queries of a LogReader that runs are found with."""

    def meta(self, key: str) -> str | None: ...

    def query(self, filter: Filter) -> list[Log]: ...

    def stream(self, filter: Filter) -> Iterator[Log]: ...

    def find_runs(self, name: str, at_most: int) -> list[str]: ...

    def caused_by(self, runs: Sequence[str]) -> list[Log]: ...

    def count_caused(self, runs: Sequence[str], at_most: int) -> int: ...


class LoggedRuns:
    """Reads runs from the table; entries that have moved to the archive are not read, but known to be there."""

    def __init__(self, reader: _Table) -> None:
        self._reader = reader
        self._archived_before = int(reader.meta("watermark_ts") or 0)

    def find(self, name: str, at_most: int) -> list[str]:
        """Return the ids of up to `at_most` runs that `name` can mean, newest first. Raises ValueError."""
        return self._reader.find_runs(name, at_most)

    def cause_of(self, run_id: str) -> str | None:
        """Return the run whose signal triggered this one, or None."""
        start = next(iter(self._reader.query(Filter("reflex", "run_start", run_id, limit=1))), None)
        return read_start(start).cause if start else None

    def caused_by(self, runs: Sequence[str]) -> list[Log]:
        """Return the `run_start` of each run that a signal of one of `runs` triggered, in the order of their ids."""
        return self._reader.caused_by(runs)

    def count_below(self, runs: Sequence[str], at_most: int) -> int:
        """Count `runs` and all direct and indirect effects of theirs, up to `at_most`."""
        return self._reader.count_caused(runs, at_most)

    def entries_of(self, runs: Sequence[str], *, own: bool) -> Iterable[Log]:
        """Return starts, ends and errors of `runs` and, with `own`, all their other entries, ascending by id."""
        return self._reader.stream(Filter(matches=entries_wanted(runs, own=own)))

    def is_archived(self, run_id: str) -> bool:
        """Return True if the entries of a run of that age have moved to the archive."""
        made = time_of(run_id)
        return made is not None and made < self._archived_before


def entries_wanted(runs: Sequence[str], *, own: bool) -> tuple[Match, ...]:
    """Return the matches for starts, ends and errors of `runs` and, with `own`, for all their other entries."""
    of_runs = Match("ref", "=", tuple(runs))
    return (of_runs,) if own else (of_runs, Match("source", "=", ("reflex", "system")))
