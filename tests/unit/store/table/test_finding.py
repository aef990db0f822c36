"""Finding entries: every access path finds the same entries as a test of each in plain Python."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.entries import NOON, event

from nerve.events.model import Log, LogEvent
from nerve.store.filters import Filter, Match
from nerve.store.table import planner, queries
from nerve.store.table import reader as reader_module
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter

SOURCES = ["system", "reflex", "sense", "logging"]
TYPES = ["error", "run_complete", "warning", "info", "reading"]
REFS = [None, "cpu", "cpu/1", "cpu/2", "cpu-load/1", "cpu0", "cpu/", "disk/1", "kernel"]
STATUSES = ["ok", "error", "cancelled", "timeout", None]
MOMENTS = [NOON, NOON + 1, NOON + 2, NOON + 500, 0]


def all_kinds() -> list[LogEvent]:
    """Return events of every kind, twice, in an order that no index has, with times that jump."""
    events: list[LogEvent] = []
    for kind, ref, source in list(product(TYPES, REFS, SOURCES)) * 2:
        n = len(events)
        payload = {"status": STATUSES[n % 5], "n": n % 3} if n % 7 else [n % 3]
        events.append(event(kind, source=source, ref_id=ref, payload=payload, ts=MOMENTS[n % 5] + n // 40))
    return events


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with every kind of entry."""
    path = tmp_path_factory.mktemp("log") / "logs.db"
    writer = LogWriter.open(path)
    writer.append(all_kinds(), {})
    writer.close()
    return path


@pytest.fixture(scope="module")
def reader(log: Path) -> Iterator[LogReader]:
    """A reader of the log."""
    with LogReader(log) as opened:
        yield opened


@pytest.fixture(params=["as it is", "small"], autouse=True)
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test with small sizes too, so that every branch of the search is taken."""
    if request.param == "small":
        monkeypatch.setattr(reader_module, "BATCH", 7)
        monkeypatch.setattr(queries, "RECENT", 20)
        monkeypatch.setattr(planner, "MOST_PAIRS", 3)


def expected_of(entries: list[Log], filter: Filter) -> list[Log]:
    """Return the entries that match, found by testing each in plain Python."""
    found = [entry for entry in entries if matches(entry, filter)]
    return found if filter.limit is None else found[max(0, len(found) - filter.limit) :]


def matches(entry: Log, filter: Filter) -> bool:
    """Return True if an entry matches."""
    simple = [
        filter.source in (None, entry.source),
        filter.type in (None, entry.type),
        filter.ref_id is None or filter.ref_id == entry.ref_id,
        filter.sense is None or (entry.ref_id or "").split("/")[0] == filter.sense,
        filter.since is None or entry.ts >= filter.since,
        filter.until is None or entry.ts <= filter.until,
        entry.id > (filter.after_id or 0),
        filter.until_id is None or entry.id <= filter.until_id,
        not filter.errors or is_error(entry),
    ]
    return all(simple) and all(holds(match, value_of(match.field, entry)) for match in filter.matches)


def is_error(entry: Log) -> bool:
    """Return True for the entries that Filter.errors selects."""
    match entry.source, entry.type:
        case ("system", "error") | ("logging", "warning" | "error" | "critical"):
            return True
        case ("reflex", "run_complete") if isinstance(entry.payload, dict):
            return entry.payload["status"] not in ("ok", "cancelled", None)
        case _:
            return False


def value_of(field: str, entry: Log) -> str | None:
    """Return the text of a field."""
    if field == "payload.n":
        return str(entry.payload["n"]) if isinstance(entry.payload, dict) else None
    fields: dict[str, Any] = {"source": entry.source, "type": entry.type, "ref": entry.ref_id}
    fields["sense"] = None if entry.ref_id is None else entry.ref_id.split("/")[0]
    found: str | None = fields[field]
    return found


def holds(match: Match, text: str | None) -> bool:
    """Return True if the condition holds for a text."""
    if match.op == "=":
        return text is not None and text in match.values
    if match.op == "!=":
        return text is None or text not in match.values
    return text is not None and all(re.search(value, text) for value in match.values)


def maybe(values: list[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for an optional value, mostly None."""
    return st.one_of(st.none(), st.none(), st.sampled_from(values))


MATCHES = st.one_of(
    st.builds(
        Match,
        st.just("source"),
        st.sampled_from(["=", "!="]),
        st.lists(st.sampled_from([*SOURCES, "x"]), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(
        Match,
        st.just("type"),
        st.sampled_from(["=", "!=", "~="]),
        st.lists(st.sampled_from([*TYPES, "r"]), min_size=1, max_size=2).map(tuple),
    ),
    st.builds(
        Match,
        st.sampled_from(["ref", "sense"]),
        st.sampled_from(["=", "!=", "~="]),
        st.lists(st.sampled_from(["cpu", "cpu/1", "disk", "kernel", "^c"]), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(
        Match,
        st.just("payload.n"),
        st.sampled_from(["=", "!=", "~="]),
        st.lists(st.sampled_from(["0", "1", "."]), min_size=1, max_size=2).map(tuple),
    ),
)
FILTERS = st.builds(
    Filter,
    source=maybe([*SOURCES, "nothing"]),
    type=maybe(TYPES),
    ref_id=maybe([ref for ref in REFS if ref]),
    sense=maybe(["cpu", "cpu-load", "cpu0", "disk", "kernel", "nothing"]),
    since=maybe([0, 3, NOON - 1, NOON, NOON + 2, NOON + 505, NOON * 2]),
    until=maybe([-1, 0, 3, NOON, NOON + 3, NOON + 600]),
    after_id=maybe([0, 5, 100, 340, 10**9]),
    until_id=maybe([0, 20, 300]),
    limit=maybe([0, 1, 3, 40, 1000]),
    errors=st.booleans(),
    matches=st.lists(MATCHES, max_size=2).map(tuple),
)


@settings(max_examples=80, deadline=None)
@given(filter=FILTERS)
def test_any_filter_finds_all_matches(reader: LogReader, filter: Filter) -> None:
    """query, stream and stream_raw return what testing every entry returns, in the order of ids."""
    entries = reader.query(Filter())
    assert len(entries) == len(all_kinds())
    expected = expected_of(entries, filter)
    assert reader.query(filter) == expected
    assert list(reader.stream(filter, page=3)) == expected
    raw = list(reader.stream_raw(filter, page=50))
    assert [decoded(entry) for entry in raw] == expected


def decoded(entry: Log) -> Log:
    """Decode the payload of a raw entry."""
    return Log(entry.id, entry.source, entry.type, entry.ref_id, json.loads(bytes(entry.payload)), entry.ts)


def test_stream_has_the_entries_that_existed_at_its_start(db: Path, writer: LogWriter) -> None:
    """Entries that are written meanwhile are not in it; entries that are deleted meanwhile are left out."""
    writer.append([event(str(n), ts=n) for n in range(10)], {})
    with LogReader(db) as reader:
        stream = reader.stream(Filter(), page=2)
        seen = [next(stream).id]
        writer.append([event("late")], {})
        writer.purge_chunk("1970-01-01", 8)
        seen += [entry.id for entry in stream]
    assert seen == [1, 2, 9, 10]


def test_paused_stream_has_no_open_read(db: Path, writer: LogWriter) -> None:
    """So it does not prevent a checkpoint."""
    writer.append([event() for _ in range(10)], {})
    with LogReader(db) as reader:
        stream = reader.stream(Filter(), page=2)
        next(stream)
        writer.append([event()], {})
        assert writer.checkpoint()
        assert sum(1 for _ in stream) == 9


def test_limit_counts_matches(reader: LogReader) -> None:
    """The newest matches are returned, however far back they are."""
    errors = Filter(type="error", source="system", matches=(Match("payload.n", "=", ("1",)),))
    everything = reader.query(errors)
    assert len(everything) > 3
    assert reader.query(replace(errors, limit=3)) == everything[-3:]
