"""Conformance of every RunSource: LoggedRuns, and ArchivedRuns wherever the entries are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.archives import append, archive_before
from support.runs import begun, ended, failed, run_id, said

from nerve.store.provenance.archived_runs import ArchivedRuns
from nerve.store.provenance.logged_runs import LoggedRuns
from nerve.store.provenance.trace import RunSource
from nerve.store.query import open_log

DAY = 86_400
ROOT, LEFT, RIGHT, LEAF, LONE = (run_id(sense, n * DAY) for n, sense in enumerate("abcde"))
"""One run per day: ROOT caused LEFT and RIGHT, LEFT caused LEAF, and LONE has no cause."""

CYCLE = [run_id("cycle", 5 * DAY + n) for n in range(2)]
GONE = run_id("gone", 9 * DAY)

ARCHIVED_DAYS = {"table": None, "full log": None, "partly archived": 25, "archived": 30, "in both": 30}


@pytest.fixture(params=ARCHIVED_DAYS)
def runs(request: pytest.FixtureRequest, db: Path) -> Iterator[RunSource]:
    """The same runs, with their entries in the table, in the archive, or in both."""
    append(db, [begun(ROOT), said(ROOT, {"n": 1}), ended(ROOT)])
    append(db, [begun(LEFT, cause=ROOT, n=DAY), failed(LEFT, n=DAY), ended(LEFT, "error", n=DAY)])
    append(db, [begun(RIGHT, cause=ROOT, n=2 * DAY), ended(RIGHT, n=2 * DAY)])
    append(db, [begun(LEAF, cause=LEFT, n=3 * DAY), ended(LEAF, n=3 * DAY)])
    append(db, [begun(LONE, n=4 * DAY), ended(LONE, n=4 * DAY)])
    append(db, [begun(run, cause=CYCLE[1 - n], n=5 * DAY + n) for n, run in enumerate(CYCLE)])
    append(db, [ended(run, n=5 * DAY + n) for n, run in enumerate(CYCLE)])
    if (days := ARCHIVED_DAYS[request.param]) is not None:
        archive_before(db, days, purge=request.param != "in both")
    with open_log(db, archived=request.param != "table") as log:
        yield log.runs()


def test_source_is_chosen_by_the_log(runs: RunSource, request: pytest.FixtureRequest) -> None:
    """The table is read through indexes; the archive is scanned."""
    assert type(runs) is (LoggedRuns if "[table]" in request.node.name else ArchivedRuns)


@pytest.mark.parametrize(
    ("name", "found"), [(LEAF, {LEAF}), ("d", {LEAF}), (LEAF[:9], {LEAF}), ("x", set()), (GONE, set())]
)
def test_find_returns_the_runs_that_a_name_can_mean(runs: RunSource, name: str, found: set[str]) -> None:
    """A full id, a sense and the beginning of an id find the run."""
    assert set(runs.find(name, 5)) == found


def test_find_returns_at_most_the_requested_number(runs: RunSource) -> None:
    """Two runs have the name."""
    assert len(runs.find("cycle", 1)) == 1
    assert set(runs.find("cycle", 2)) == set(CYCLE)


def test_find_refuses_an_invalid_name(runs: RunSource) -> None:
    """It raises ValueError."""
    with pytest.raises(ValueError, match="is not a valid part of a run id"):
        runs.find("a b", 5)


@pytest.mark.parametrize(
    ("run", "cause"), [(LEAF, LEFT), (LEFT, ROOT), (ROOT, None), (LONE, None), (GONE, None), (CYCLE[0], CYCLE[1])]
)
def test_cause_of_returns_the_run_that_triggered_it(runs: RunSource, run: str, cause: str | None) -> None:
    """It is None for a run without a cause, and for an unknown run, also if it is called again."""
    assert [runs.cause_of(run) for _ in range(2)] == [cause] * 2


@pytest.mark.parametrize(
    ("causes", "effects"),
    [([ROOT], [LEFT, RIGHT]), ([LEFT], [LEAF]), ([LEFT, ROOT], [LEFT, RIGHT, LEAF]), ([LONE, GONE], []), ([], [])],
)
def test_caused_by_returns_the_starts_of_effects_in_order(
    runs: RunSource, causes: list[str], effects: list[str]
) -> None:
    """They are the direct effects of all given runs, by id, whatever was asked for before."""
    runs.caused_by([RIGHT])
    starts = runs.caused_by(causes)
    assert [start.ref_id for start in starts] == effects
    assert all((start.source, start.type) == ("reflex", "run_start") for start in starts)


@pytest.mark.parametrize(
    ("of", "at_most", "count"),
    [([ROOT], 100, 4), ([LEFT, RIGHT], 100, 3), ([ROOT], 2, 2), ([LONE], 100, 1), (CYCLE[:1], 100, 2)],
)
def test_count_below_counts_runs_and_their_effects(runs: RunSource, of: list[str], at_most: int, count: int) -> None:
    """Each run counts once, also in a cycle, and the count stops at its limit."""
    assert runs.count_below(of, at_most) == count


def test_entries_of_returns_starts_ends_and_errors(runs: RunSource) -> None:
    """They are ascending by id; the other entries of the runs are included on request."""
    types = [entry.type for entry in runs.entries_of([ROOT, LEFT], own=False)]
    assert types == ["run_start", "run_complete", "run_start", "error", "run_complete"]
    own = list(runs.entries_of([ROOT], own=True))
    assert [entry.type for entry in own] == ["run_start", "reading", "run_complete"]
    assert [entry.id for entry in own] == [1, 2, 3]


def test_existing_run_is_not_archived(runs: RunSource) -> None:
    """`is_archived` says that entries of that age are not read, so it is false for a run that is found."""
    assert not any(runs.is_archived(run) for run in (ROOT, LEAF, LONE))
