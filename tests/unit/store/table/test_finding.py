"""Every way of finding entries gives exactly what going through all of them would."""

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
    """Make one event of each kind there is, in an order that no index has, and with moments that jump."""
    events: list[LogEvent] = []
    for kind, ref, source in list(product(TYPES, REFS, SOURCES)) * 2:
        n = len(events)
        payload = {"status": STATUSES[n % 5], "n": n % 3} if n % 7 else [n % 3]
        events.append(event(kind, source=source, ref_id=ref, payload=payload, ts=MOMENTS[n % 5] + n // 40))
    return events


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a log with every kind of entry."""
    path = tmp_path_factory.mktemp("log") / "logs.db"
    writer = LogWriter.open(path)
    writer.append(all_kinds(), {})
    writer.close()
    return path


@pytest.fixture(scope="module")
def reader(log: Path) -> Iterator[LogReader]:
    """Give a reader of it."""
    with LogReader(log) as opened:
        yield opened


@pytest.fixture(params=["as it is", "small"], autouse=True)
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Try everything with small sizes too, which make every branch of the search matter."""
    if request.param == "small":
        monkeypatch.setattr(reader_module, "BATCH", 7)
        monkeypatch.setattr(queries, "RECENT", 20)
        monkeypatch.setattr(planner, "MOST_PAIRS", 3)


def in_full(entries: list[Log], wanted: Filter) -> list[Log]:
    """Find what is wanted by asking each entry in plain Python."""
    found = [entry for entry in entries if is_wanted(entry, wanted)]
    return found if wanted.limit is None else found[max(0, len(found) - wanted.limit) :]


def is_wanted(entry: Log, wanted: Filter) -> bool:
    """Judge one entry."""
    simple = [
        wanted.source in (None, entry.source),
        wanted.type in (None, entry.type),
        wanted.ref_id is None or wanted.ref_id == entry.ref_id,
        wanted.sense is None or (entry.ref_id or "").split("/")[0] == wanted.sense,
        wanted.since is None or entry.ts >= wanted.since,
        wanted.until is None or entry.ts <= wanted.until,
        entry.id > (wanted.after_id or 0),
        wanted.until_id is None or entry.id <= wanted.until_id,
        not wanted.errors or is_error(entry),
    ]
    return all(simple) and all(holds(match, value_of(match.field, entry)) for match in wanted.matches)


def is_error(entry: Log) -> bool:
    """Tell what a person on call wants to see."""
    match entry.source, entry.type:
        case ("system", "error") | ("logging", "warning" | "error" | "critical"):
            return True
        case ("reflex", "run_complete") if isinstance(entry.payload, dict):
            return entry.payload["status"] not in ("ok", "cancelled", None)
        case _:
            return False


def value_of(field: str, entry: Log) -> str | None:
    """Give the text of a field."""
    if field == "payload.n":
        return str(entry.payload["n"]) if isinstance(entry.payload, dict) else None
    fields: dict[str, Any] = {"source": entry.source, "type": entry.type, "ref": entry.ref_id}
    fields["sense"] = None if entry.ref_id is None else entry.ref_id.split("/")[0]
    found: str | None = fields[field]
    return found


def holds(match: Match, text: str | None) -> bool:
    """Compare."""
    if match.op == "=":
        return text is not None and text in match.values
    if match.op == "!=":
        return text is None or text not in match.values
    return text is not None and all(re.search(value, text) for value in match.values)


def maybe(values: list[Any]) -> st.SearchStrategy[Any]:
    """Leave a filter out more often than not."""
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
@given(wanted=FILTERS)
def test_what_is_found_is_what_is_there(reader: LogReader, wanted: Filter) -> None:
    """For any filter, query, stream and raw stream give what asking every entry gives, in the order of ids."""
    entries = reader.query(Filter())
    assert len(entries) == len(all_kinds())
    expected = in_full(entries, wanted)
    assert reader.query(wanted) == expected
    assert list(reader.stream(wanted, page=3)) == expected
    raw = list(reader.stream_raw(wanted, page=50))
    assert [replace_payload(entry) for entry in raw] == expected


def replace_payload(entry: Log) -> Log:
    """Decode what a raw stream has passed on."""
    return Log(entry.id, entry.source, entry.type, entry.ref_id, json.loads(bytes(entry.payload)), entry.ts)


def test_a_stream_ends_where_the_log_ended_when_it_began(db: Path, writer: LogWriter) -> None:
    """What is written meanwhile is not chased after; what is deleted meanwhile is left out."""
    writer.append([event(str(n), ts=n) for n in range(10)], {})
    with LogReader(db) as reader:
        stream = reader.stream(Filter(), page=2)
        seen = [next(stream).id]
        writer.append([event("late")], {})
        writer.purge_chunk("1970-01-01", 8)
        seen += [entry.id for entry in stream]
    assert seen == [1, 2, 9, 10]


def test_no_read_stays_open_between_the_pages_of_a_stream(db: Path, writer: LogWriter) -> None:
    """A reader that pauses doesn't keep the WAL from being emptied."""
    writer.append([event() for _ in range(10)], {})
    with LogReader(db) as reader:
        stream = reader.stream(Filter(), page=2)
        next(stream)
        writer.append([event()], {})
        assert writer.checkpoint()
        assert sum(1 for _ in stream) == 9


def test_limits_apply_to_matches_not_to_rows(reader: LogReader) -> None:
    """The newest matches are given, however far back they are."""
    wanted = Filter(type="error", source="system", matches=(Match("payload.n", "=", ("1",)),))
    everything = reader.query(wanted)
    assert len(everything) > 3
    assert reader.query(replace(wanted, limit=3)) == everything[-3:]
