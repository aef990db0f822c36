"""query_logs, and the methods of LogReader."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from support.entries import NOON, completed, event, sql, started

import nerve
from nerve.errors import StoreError
from nerve.events.model import Log
from nerve.store.filters import Filter
from nerve.store.query import query_logs
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter


def ids(entries: list[Log]) -> list[int]:
    """Return the ids of entries."""
    return [entry.id for entry in entries]


@pytest.fixture
def log(db: Path, writer: LogWriter) -> Path:
    """A log of ten entries, one per second."""
    events = [event(f"t{n % 2}", ref_id=f"cpu/{n % 3}", payload={"n": n}, ts=NOON + 1000 * n) for n in range(9)]
    writer.append([*events, completed("cpu/0", ts=NOON + 9000)], {})
    return db


def test_nerve_exports_query_logs() -> None:
    """All filters are keyword arguments."""
    assert nerve.query_logs is query_logs
    kinds = [parameter.kind for parameter in inspect.signature(query_logs).parameters.values()]
    assert kinds == [inspect.Parameter.POSITIONAL_OR_KEYWORD] + [inspect.Parameter.KEYWORD_ONLY] * 9


def test_entries_are_decoded_and_in_order(log: Path) -> None:
    """Every column is there, and the payload is the value that was logged."""
    entries = query_logs(str(log))
    assert ids(entries) == list(range(1, 11))
    assert entries[3] == Log(4, "sense", "t1", "cpu/0", {"n": 3}, NOON + 3000)


def test_entries_must_match_all_filters(log: Path) -> None:
    """`ref_id` must match in full."""
    assert ids(query_logs(log, source="sense", type="t0", ref_id="cpu/0")) == [1, 7]
    assert ids(query_logs(log, source="reflex")) == [10]
    assert query_logs(log, source="reflex", type="t0") == []
    assert query_logs(log, ref_id="cpu") == []


def test_limit_keeps_the_newest_in_ascending_order(log: Path) -> None:
    """A limit of 0 returns none, and a large one returns all."""
    assert ids(query_logs(log, limit=3)) == [8, 9, 10]
    assert ids(query_logs(log, type="t0", limit=2)) == [7, 9]
    assert ids(query_logs(log, since=NOON, until=NOON + 4000, limit=2)) == [4, 5]
    assert query_logs(log, limit=0) == []
    assert len(query_logs(log, limit=99)) == 10


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [
        (NOON + 2000, NOON + 4000, [3, 4, 5]),
        (NOON + 2001, NOON + 3999, [4]),
        (datetime(2023, 11, 15, 12, 0, 2, tzinfo=UTC), NOON + 4000, [3, 4, 5]),
        (datetime(2023, 11, 15, 14, 0, 2, 999, tzinfo=timezone(timedelta(hours=2))), NOON + 3000, [3, 4]),
        (None, datetime(2023, 11, 15, 12, 0, 1, tzinfo=UTC), [1, 2]),
        (NOON + 9000, None, [10]),
        (NOON + 2000, NOON + 1000, []),
        (0, NOON - 1, []),
    ],
)
def test_since_and_until_are_inclusive(
    log: Path, since: int | datetime | None, until: int | datetime | None, found: list[int]
) -> None:
    """They are unix ms, or a datetime with any timezone, rounded down to ms."""
    assert ids(query_logs(log, since=since, until=until)) == found


@pytest.mark.parametrize("name", ["since", "until"])
def test_ambiguous_time_is_refused(log: Path, name: str) -> None:
    """A datetime without a timezone and other types raise an error that says what to pass."""
    with pytest.raises(
        ValueError, match=rf"{name} is a datetime without a timezone \(2023-11-15 12:00:00\): give it one"
    ):
        query_logs(log, **{name: datetime(2023, 11, 15, 12)})  # type: ignore[arg-type]  # noqa: DTZ001 - this is tested
    with pytest.raises(TypeError, match=rf"{name} is '10m': give unix ms as an int, or a datetime"):
        query_logs(log, **{name: "10m"})  # type: ignore[arg-type]


def test_negative_limit_is_refused(log: Path) -> None:
    """ValueError is raised before the log is read."""
    with pytest.raises(ValueError, match="limit is -1"):
        query_logs(log, limit=-1)


@pytest.mark.parametrize("text", ["x'ff'", "x'eda080'"], ids=["invalid UTF-8", "lone surrogate"])
def test_invalid_utf8_is_returned_with_escapes(log: Path, text: str) -> None:
    """Other programs can write it; the other columns are unchanged."""
    columns = f"CAST({text} AS TEXT), 'tä', CAST({text} AS TEXT), json_quote('ö'), 1"
    sql(log, f"INSERT INTO logs (source, type, ref_id, payload, ts) VALUES ({columns})")
    expected = bytes.fromhex(text[2:-1]).decode("utf-8", "backslashreplace")
    assert query_logs(log, limit=2)[0].id == 10
    assert query_logs(log, limit=2)[1] == Log(11, expected, "tä", expected, "ö", 1)
    with LogReader(log) as reader:
        assert list(reader.stream(Filter(until=1))) == query_logs(log, until=1) == query_logs(log, limit=1)


def test_damaged_payload_raises_store_error_with_its_id(log: Path) -> None:
    """The row was written by another program."""
    sql(log, "INSERT INTO logs (source, type, payload, ts) VALUES ('x', 'y', '{oops', 1)")
    with pytest.raises(StoreError, match="the payload of entry 11 is not valid JSON"):
        query_logs(log, source="x")


class TestReader:
    """The other methods of LogReader."""

    @pytest.fixture
    def reader(self, log: Path) -> Iterator[LogReader]:
        """A reader of the log."""
        with LogReader(log) as opened:
            yield opened

    def test_counts_are_by_source_and_type(self, reader: LogReader) -> None:
        """Only entries after the id count; pairs without any are left out."""
        assert reader.counts_since(0) == [("reflex", "run_complete", 1), ("sense", "t0", 5), ("sense", "t1", 4)]
        assert reader.counts_since(8) == [("reflex", "run_complete", 1), ("sense", "t0", 1)]
        assert reader.counts_since(10) == []

    def test_count_between_counts_a_period(self, reader: LogReader) -> None:
        """Both ends are inclusive, and ids limit it further."""
        assert reader.count_between(NOON, NOON + 4000) == 5
        assert reader.count_between(NOON, NOON + 4000, after_id=1, until_id=4) == 3

    def test_first_ts_is_the_earliest_at_or_after_a_time(self, reader: LogReader) -> None:
        """It is None after the last entry."""
        assert [reader.first_ts(at) for at in (0, NOON + 1, NOON + 9000, NOON + 9001)] == [
            NOON,
            NOON + 1000,
            NOON + 9000,
            None,
        ]

    def test_last_id_stays_after_deletion(self, reader: LogReader, writer: LogWriter) -> None:
        """It is the greatest id assigned so far."""
        writer.purge_chunk("2023-11-15", 10)
        assert reader.query(Filter()) == []
        assert reader.last_id() == 10

    def test_empty_log_has_no_entries(self, tmp_path: Path) -> None:
        """It has no entries, ids, times, counts or positions."""
        LogWriter.open(tmp_path / "empty.db").close()
        with LogReader(tmp_path / "empty.db") as reader:
            results = [reader.query(Filter(since=1)), reader.counts_since(0), list(reader.stream(Filter(limit=3)))]
            assert results == [[], [], []]
            assert (reader.last_id(), reader.first_ts(0), reader.meta("boot_id")) == (0, None, None)

    def test_meta_returns_a_value(self, reader: LogReader) -> None:
        """An example is the version of the schema."""
        assert reader.meta("schema_version") == "1"

    def test_caused_by_returns_the_starts_of_effects(self, reader: LogReader, writer: LogWriter) -> None:
        """The list of runs may be long."""
        writer.append([started("b/1", cause="a/1"), started("b/2"), started("c/1", cause="a/2")], {})
        many = [f"x/{n}" for n in range(1200)]
        assert [entry.ref_id for entry in reader.caused_by(["a/2", *many, "a/1"])] == ["b/1", "c/1"]
        assert reader.caused_by([]) == []

    def test_stream_raw_returns_undecoded_payloads(self, log: Path, reader: LogReader) -> None:
        """They are on one line; invalid JSON becomes a JSON string."""
        odd = ['{"n": 1.50,\n "m": 12345678901234567890123}', "{oops\n"]
        for payload in odd:
            sql(log, "INSERT INTO logs (source, type, payload, ts) VALUES ('x', 'y', ?, 1)", [payload])
        payloads = [bytes(entry.payload) for entry in reader.stream_raw(Filter(source="x"))]
        assert payloads == [b'{"n":1.50,"m":12345678901234567890123}', json.dumps(odd[1]).encode()]
        assert all(isinstance(entry.payload, msgspec.Raw) for entry in reader.stream_raw(Filter(limit=2)))
