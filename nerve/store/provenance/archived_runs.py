"""The runs in the log with its archive: as LoggedRuns has them, but gone through in order, for files have no index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, islice

from nerve.events.model import Log
from nerve.ids import time_of
from nerve.store.filters import Filter, Match
from nerve.store.full_log import FullLog
from nerve.store.provenance.logged_runs import entries_wanted
from nerve.store.provenance.traced_run import read_start
from nerve.store.table.run_lookup import RunName
from nerve.store.utc_days import DAY_MS

STARTS = Filter("reflex", "run_start")
REMEMBERED = 100_000
"""So many starts before that of a run are kept when it is looked for: most often its causes are among them."""

SIGNALLED = replace(STARTS, matches=(Match("payload.cause", "!=", ("null",)),))


class ArchivedRuns:
    """Reads runs from the table and the archive.

    What came of a run is recorded after it, so one pass from the day of the run on finds all of it. What caused it is
    recorded before it: each pass that looks for a cause goes back by REMEMBERED starts at least.
    """

    def __init__(self, log: FullLog) -> None:
        self._log = log
        self._caused: dict[str, list[Log]] = {}
        self._causes: dict[str, str | None] = {}

    def find(self, name: str, at_most: int) -> list[str]:
        """Give the ids of up to `at_most` runs that `name` can mean; ValueError for no part of an id."""
        wanted = RunName.parse(name)
        if self._is_there(str(wanted)):
            return [str(wanted)]
        starts = (start.ref_id for start in self._log.stream(STARTS))
        return list(islice((run for run in starts if run and wanted.fits(run)), at_most))

    def cause_of(self, run_id: str) -> str | None:
        """Give the run whose signal has fired this one; None where there is none, or where its start is not there."""
        if run_id not in self._causes:
            self._causes = self._causes_up_to(run_id)
        return self._causes.get(run_id)

    def caused_by(self, runs: Sequence[str]) -> list[Log]:
        """Give the `run_start` of each run that a signal of one of `runs` has fired, in the order of their id."""
        if unknown := [run for run in runs if run not in self._caused]:
            self._look_for_all_below(unknown)
        return sorted(chain.from_iterable(self._caused[run] for run in runs), key=lambda start: start.id)

    def count_below(self, runs: Sequence[str], at_most: int) -> int:
        """Count `runs` and all that came of them, directly or not; stops at `at_most`."""
        seen, level = set(runs), runs
        while level and len(seen) < at_most:
            level = [start.ref_id for start in self.caused_by(level) if start.ref_id and start.ref_id not in seen]
            seen.update(level)
        return min(len(seen), at_most)

    def entries_of(self, runs: Sequence[str], *, own: bool) -> Iterable[Log]:
        """Give starts, ends and errors of `runs` and, with `own`, all else that they have logged, ascending by id."""
        return self._log.stream(Filter(since=_day_of_first(runs), matches=entries_wanted(runs, own=own)))

    def is_archived(self, run_id: str) -> bool:
        """Tell that nothing is anywhere else: the archive has been looked through."""
        del run_id
        return False

    def _is_there(self, run_id: str) -> bool:
        near = _starts_near(run_id)
        return near is not None and bool(self._log.query(replace(near, ref_id=run_id, limit=1)))

    def _causes_up_to(self, run_id: str) -> dict[str, str | None]:
        """Give the cause of each run that started before this one, if not long before, and its own; of none without."""
        near, older, newer = _starts_near(run_id), dict[str, str | None](), dict[str, str | None]()
        for start in self._log.stream(near) if near else ():
            if start.ref_id:
                newer[start.ref_id] = read_start(start).cause
            if start.ref_id == run_id:
                return older | newer
            if len(newer) >= REMEMBERED:
                older, newer = newer, {}
        return {}

    def _look_for_all_below(self, runs: Sequence[str]) -> None:
        fresh: dict[str, list[Log]] = {run: [] for run in runs}
        for start in self._log.stream(replace(SIGNALLED, since=_day_of_first(runs))):
            cause = read_start(start).cause
            if cause in fresh and start.ref_id:
                fresh[cause].append(start)
                fresh.setdefault(start.ref_id, [])
        self._caused |= fresh


def _starts_near(run_id: str) -> Filter | None:
    """Ask for the starts of the days about a run, even if the clock was set; None for what is no run id of ours."""
    made = time_of(run_id)
    return None if made is None else replace(STARTS, since=made - DAY_MS, until=made + DAY_MS)


def _day_of_first(runs: Sequence[str]) -> int | None:
    """Give the moment, in unix ms, before which there is nothing of `runs`, even if the clock was set back an hour."""
    made = [time_of(run) for run in runs]
    known = [ts for ts in made if ts is not None]
    return min(known) - DAY_MS if known and len(known) == len(made) else None
