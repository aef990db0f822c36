"""ArchivedRuns: the runs in the log and its archive, found by scanning in order, since files have no index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Protocol

from nerve.events.model import Log
from nerve.ids import time_of
from nerve.store.filters import Filter, Match
from nerve.store.provenance.logged_runs import entries_wanted
from nerve.store.provenance.run_name import RunName
from nerve.store.provenance.traced_run import read_start
from nerve.store.utc_days import DAY_MS

STARTS = Filter("reflex", "run_start")
REMEMBERED = 100_000
"""Starts before that of a run that are kept by a scan for its cause: most often its earlier causes are among them."""

SIGNALLED = replace(STARTS, matches=(Match("payload.cause", "!=", ("null",)),))


class _Log(Protocol):
    """The queries of a FullLog that runs are found with."""

    def query(self, filter: Filter) -> list[Log]: ...

    def stream(self, filter: Filter) -> Iterator[Log]: ...


class ArchivedRuns:
    """Reads runs from the table and the archive; a RunSource.

    Effects of a run are recorded after it, so one scan from its day on finds them all. Causes are recorded before it:
    each scan for a cause remembers at least REMEMBERED earlier starts, so that one scan finds several causes.
    """

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._caused: dict[str, list[Log]] = {}
        self._causes: dict[str, str | None] = {}

    def find(self, name: str, at_most: int) -> list[str]:
        """Return the ids of up to `at_most` runs that `name` can mean. Raises ValueError."""
        parsed = RunName.parse(name)
        if self._exists(str(parsed)):
            return [str(parsed)]
        starts = (start.ref_id for start in self._log.stream(STARTS))
        return list(islice((run for run in starts if run and parsed.fits(run)), at_most))

    def cause_of(self, run_id: str) -> str | None:
        """Return the run whose signal triggered this one, or None."""
        if run_id not in self._causes:
            self._causes = self._causes_up_to(run_id)
        return self._causes.get(run_id)

    def caused_by(self, runs: Sequence[str]) -> list[Log]:
        """Return the `run_start` of each run that a signal of one of `runs` triggered, in the order of their ids."""
        if unknown := [run for run in runs if run not in self._caused]:
            self._find_effects(unknown)
        return sorted(chain.from_iterable(self._caused[run] for run in runs), key=lambda start: start.id)

    def count_below(self, runs: Sequence[str], at_most: int) -> int:
        """Count `runs` and all direct and indirect effects of theirs, up to `at_most`."""
        seen, level = set(runs), runs
        while level and len(seen) < at_most:
            level = [start.ref_id for start in self.caused_by(level) if start.ref_id and start.ref_id not in seen]
            seen.update(level)
        return min(len(seen), at_most)

    def entries_of(self, runs: Sequence[str], *, own: bool) -> Iterable[Log]:
        """Return starts, ends and errors of `runs` and, with `own`, all their other entries, ascending by id."""
        return self._log.stream(Filter(since=_day_of_first(runs), matches=entries_wanted(runs, own=own)))

    def is_archived(self, run_id: str) -> bool:
        """Return False: the archive is searched, so no entries are anywhere else."""
        del run_id
        return False

    def _exists(self, run_id: str) -> bool:
        near = _starts_near(run_id)
        return near is not None and bool(self._log.query(replace(near, ref_id=run_id, limit=1)))

    def _causes_up_to(self, run_id: str) -> dict[str, str | None]:
        """Return the causes of this run and of the last ones that started before it; empty if its start is missing."""
        near, older, newer = _starts_near(run_id), dict[str, str | None](), dict[str, str | None]()
        for start in self._log.stream(near) if near else ():
            if start.ref_id:
                newer[start.ref_id] = read_start(start).cause
            if start.ref_id == run_id:
                return older | newer
            if len(newer) >= REMEMBERED:
                older, newer = newer, {}
        return {}

    def _find_effects(self, runs: Sequence[str]) -> None:
        """Remember the starts of all direct and indirect effects of `runs`."""
        effects: dict[str, list[Log]] = {run: [] for run in runs}
        for start in self._log.stream(replace(SIGNALLED, since=_day_of_first(runs))):
            cause = read_start(start).cause
            if cause in effects and start.ref_id:
                effects[cause].append(start)
                effects.setdefault(start.ref_id, [])
        self._caused |= effects


def _starts_near(run_id: str) -> Filter | None:
    """Return a filter for the starts within a day of a run's, in case the clock was set; None for an invalid run id."""
    made = time_of(run_id)
    return None if made is None else replace(STARTS, since=made - DAY_MS, until=made + DAY_MS)


def _day_of_first(runs: Sequence[str]) -> int | None:
    """Return a time (unix ms) before all entries of `runs`, even if the clock was set back by an hour."""
    made = [time_of(run) for run in runs]
    valid = [ts for ts in made if ts is not None]
    return min(valid) - DAY_MS if valid and len(valid) == len(made) else None
