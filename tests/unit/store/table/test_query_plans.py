"""Query plans: SQLite scans the table only if no condition can use an index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from support.entries import NOON, completed, event, started

from nerve.store.filters import Filter, parse_matches
from nerve.store.table import queries, readonly
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter


class Explained:
    """The plans of all queries by readers that are opened from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plans: list[str] = []
        plans = self.plans

        class Explaining(sqlite3.Connection):
            """A connection that first explains each query, with its values."""

            def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
                if sql not in ("BEGIN", "COMMIT") and "sqlite_sequence" not in sql:
                    plan = super().execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
                    plans.append("\n".join(detail for *_, detail in plan))
                return super().execute(sql, parameters)

        monkeypatch.setattr(readonly.sqlite3, "connect", partial(sqlite3.connect, factory=Explaining))
        monkeypatch.setattr(queries, "RECENT", 0)

    @property
    def scans(self) -> list[str]:
        """The steps that scan the table logs."""
        steps = [step for plan in self.plans for step in plan.split("\n")]
        return [step for step in steps if step.startswith("SCAN") and not step.startswith("SCAN json_each")]


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch, writer: LogWriter) -> Explained:
    """Record the plans of all queries."""
    return Explained(monkeypatch)


@pytest.fixture
def reader(db: Path, writer: LogWriter, explained: Explained) -> Iterator[LogReader]:
    """A reader of a log with a few entries of each kind."""
    for n in range(20):
        run = f"cpu/{n}"
        writer.append([started(run, cause="disk/1"), event(ref_id=run), completed(run, "error"), event("start")], {})
        writer.append([event("error", source="system", ref_id=None, ts=NOON + n), event("old", ts=n)], {})
    with LogReader(db) as opened:
        opened.last_id()
        explained.plans.clear()  # those of the checks in a first read
        yield opened


NARROWED = [
    Filter(source="reflex"),
    Filter(type="run_start"),
    Filter(source="reflex", type="run_complete"),
    Filter(ref_id="cpu/3"),
    Filter(ref_id="cpu/3", source="reflex", type="run_start", since=NOON),
    Filter(sense="cpu"),
    Filter(sense="cpu", source="reflex", type="run_complete"),
    Filter(errors=True),
    Filter(errors=True, sense="cpu"),
    Filter(errors=True, ref_id="cpu/3"),
    Filter(since=NOON + 3),
    Filter(until=NOON - 1),
    Filter(since=3, until=NOON - 1, source="sense"),
    Filter(after_id=100),
    Filter(after_id=3, until_id=10, source="sense"),
    Filter(matches=parse_matches(["source=reflex", "source=system"])),
    Filter(matches=parse_matches(["type!=run_start"])),
    Filter(matches=parse_matches(["type~=^run_", "payload.status=error"])),
    Filter(matches=parse_matches(["ref=cpu/1", "ref=cpu/2"])),
    Filter(matches=parse_matches(["sense=cpu", "sense=disk"])),
]


@pytest.mark.parametrize("limit", [None, 5])
@pytest.mark.parametrize("filter", NARROWED, ids=repr)
def test_narrow_filter_never_scans_the_table(
    reader: LogReader, explained: Explained, filter: Filter, limit: int | None
) -> None:
    """Every query on the way uses an index, or a range of ids."""
    reader.query(replace(filter, limit=limit))
    list(reader.stream(filter))
    assert explained.plans
    assert explained.scans == []


PARTS: list[dict[str, Any]] = [
    {"source": "reflex"},
    {"type": "run_complete"},
    {"ref_id": "cpu/3"},
    {"sense": "cpu"},
    {"since": NOON + 3},
    {"until": NOON + 9},
    {"after_id": 100},
    {"errors": True},
    {"matches": parse_matches(["payload.status!=ok"])},
    {"matches": parse_matches(["type~=run", "sense!=disk"])},
]


@pytest.mark.parametrize("parts", [*combinations(PARTS, 2), *combinations(PARTS, 3)], ids=repr)
def test_combined_narrow_filters_never_scan_the_table(
    reader: LogReader, explained: Explained, parts: tuple[dict[str, Any], ...]
) -> None:
    """Every combination uses the index of one of its conditions."""
    combined = Filter(**{name: value for part in parts for name, value in part.items()})
    reader.query(replace(combined, limit=5))
    reader.query(combined)
    list(reader.stream(combined))
    assert explained.plans
    assert explained.scans == []


def test_match_in_the_payload_scans_the_table(reader: LogReader, explained: Explained) -> None:
    """It scans from the newest row on, and stops at the limit."""
    assert len(reader.query(Filter(limit=2, matches=parse_matches(["payload.status=error"])))) == 2
    assert explained.scans == ["SCAN t1"]


@pytest.mark.parametrize(
    ("filter", "index"),
    [
        (Filter(ref_id="cpu/3"), "logs_ref_id (ref_id=? AND rowid>?"),
        (Filter(sense="cpu"), "COVERING INDEX logs_ref_id (ref_id>? AND ref_id<?)"),
        (Filter(source="reflex", type="run_start"), "COVERING INDEX logs_source_type (source=? AND type=? AND rowid>?"),
        (Filter(source="reflex"), "COVERING INDEX logs_source_type (source=? AND type=? AND rowid>?"),
        (Filter(errors=True), "logs_errors (<expr>=? AND rowid>?"),
        (Filter(until=NOON - 1), "COVERING INDEX logs_ts (ts<?)"),
    ],
    ids=repr,
)
def test_filter_uses_its_index(reader: LogReader, explained: Explained, filter: Filter, index: str) -> None:
    """The index is used up to its last column and the id, so that a page costs what it contains."""
    list(reader.stream(replace(filter, after_id=2)))
    assert index in "\n".join(explained.plans)


@pytest.mark.parametrize(
    "filter", [Filter(limit=3), Filter(source="reflex", limit=3), Filter(errors=True, limit=3), Filter(ref_id="x")]
)
def test_newest_matches_are_found_without_sorting(reader: LogReader, explained: Explained, filter: Filter) -> None:
    """The index yields them in the order of their ids."""
    reader.query(filter)
    assert "TEMP B-TREE" not in "\n".join(explained.plans)


def test_newest_entries_of_a_frequent_sense_are_found_by_a_scan(
    reader: LogReader, explained: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan goes back as far as the share of the sense suggests; the index is in the order of run ids."""
    monkeypatch.setattr(queries, "RECENT", 10)
    everything = reader.query(Filter(sense="cpu"))
    explained.plans.clear()
    assert reader.query(Filter(sense="cpu", limit=30)) == everything[-30:]
    assert explained.plans == ["SEARCH t1 USING INTEGER PRIMARY KEY (rowid>?)"] * 2


@pytest.mark.parametrize("filter", [Filter(sense="disk", limit=3), Filter(sense="cpu", until=NOON, limit=50)], ids=repr)
def test_rare_matches_are_found_by_an_index_after_one_scan(
    reader: LogReader, explained: Explained, monkeypatch: pytest.MonkeyPatch, filter: Filter
) -> None:
    """The newest rows are scanned once; with a period too, whose entries may be older."""
    monkeypatch.setattr(queries, "RECENT", 10)
    reader.query(filter)
    assert [plan for plan in explained.plans if plan.startswith("SEARCH t1 USING INTEGER PRIMARY KEY (rowid>?)")] == [
        explained.plans[0]
    ]
    assert "logs_ref_id" in explained.plans[-1]


def test_effects_of_runs_are_found_by_an_index(reader: LogReader, explained: Explained) -> None:
    """The index has the cause of each `run_start`."""
    assert len(reader.caused_by(["disk/1", "none/2"])) == 20
    assert "USING INDEX logs_cause (<expr>=?)" in explained.plans[0]
    assert explained.scans == []


def test_run_is_found_by_a_part_of_its_id_through_an_index(reader: LogReader, explained: Explained) -> None:
    """The beginning takes a few steps; the last digits take a scan of the covering index."""
    assert reader.find_runs("cpu/", 2) == ["cpu/9", "cpu/8"]
    assert reader.find_runs("cpu/…9", 50) == ["cpu/9", "cpu/19"]
    assert reader.find_runs("7", 50) == ["cpu/7"]
    assert explained.scans == []
    assert [plan for plan in explained.plans if "COVERING INDEX logs_ref_id" not in plan] == []


def test_effects_of_a_run_are_counted_by_an_index(reader: LogReader, explained: Explained) -> None:
    """There is one step per run, and no other row is read."""
    assert reader.count_caused(["disk/1"], 100) == 21
    assert reader.count_caused(["disk/1"], 7) == 7
    assert "SEARCH logs USING INDEX logs_cause (<expr>=?)" in explained.plans[0]
    assert [step for step in explained.scans if step != "SCAN below"] == []


def test_counts_and_bounds_use_covering_indexes(reader: LogReader, explained: Explained) -> None:
    """Counts, days and the last id need no row of the table."""
    reader.counts_since(3)
    reader.count_between(0, NOON, after_id=3, until_id=100)
    reader.first_ts(5)
    reader.last_id()
    assert explained.scans == []
    assert [plan for plan in explained.plans if "COVERING" not in plan] == []
