"""The runs in the log's table, each found through an index: what a causal tree is made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nerve.events.model import Log
from nerve.ids import time_of
from nerve.store.filters import Filter, Match
from nerve.store.provenance.traced_run import read_start
from nerve.store.table.reader import LogReader


class LoggedRuns:
    """Reads runs from the table; what has moved to the archive is not seen, but known to be there."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._archived_before = int(reader.meta("watermark_ts") or 0)

    def find(self, name: str, at_most: int) -> list[str]:
        """Give the ids of up to `at_most` runs that `name` can mean, newest first; ValueError for no part of an id."""
        return self._reader.find_runs(name, at_most)

    def cause_of(self, run_id: str) -> str | None:
        """Give the run whose signal has fired this one; None where there is none, or where its start is not there."""
        start = next(iter(self._reader.query(Filter("reflex", "run_start", run_id, limit=1))), None)
        return read_start(start).cause if start else None

    def caused_by(self, runs: Sequence[str]) -> list[Log]:
        """Give the `run_start` of each run that a signal of one of `runs` has fired, in the order of their id."""
        return self._reader.caused_by(runs)

    def count_below(self, runs: Sequence[str], at_most: int) -> int:
        """Count `runs` and all that came of them, directly or not; stops at `at_most`."""
        return self._reader.count_caused(runs, at_most)

    def entries_of(self, runs: Sequence[str], *, own: bool) -> Iterable[Log]:
        """Give starts, ends and errors of `runs` and, with `own`, all else that they have logged, ascending by id."""
        return self._reader.stream(Filter(matches=entries_wanted(runs, own=own)))

    def is_archived(self, run_id: str) -> bool:
        """Tell whether the entries of a run of that age have moved to the archive."""
        made = time_of(run_id)
        return made is not None and made < self._archived_before


def entries_wanted(runs: Sequence[str], *, own: bool) -> tuple[Match, ...]:
    """Ask for starts, ends and errors of `runs` and, with `own`, for all else that they have logged."""
    of_runs = Match("ref", "=", tuple(runs))
    return (of_runs,) if own else (of_runs, Match("source", "=", ("reflex", "system")))
