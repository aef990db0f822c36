"""FullLog: table and archive as one log, also while entries move."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.archives import append, archive_before, at
from support.entries import event

from nerve.errors import StoreError
from nerve.events.model import Log, LogEvent
from nerve.store.archive.directory import MANIFEST
from nerve.store.archive.manifest import ManifestEntry
from nerve.store.archive.reader import ArchivedFiles, may_hold
from nerve.store.archive.row_filter import RowFilter
from nerve.store.filters import Filter, Match
from nerve.store.full_log import FullLog, Newest
from nerve.store.query import query_logs
from nerve.store.table import reader
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter

DAYS = 5
SOURCES = ["system", "reflex", "sense", "logging"]
TYPES = ["error", "run_complete", "warning", "reading"]
REFS = [None, "cpu", "cpu/1", "cpu-load/1", "cpu0", "cpu/", "däß/1", 'a"\\b\n/1']
PAYLOADS = [None, 3, "x", [1, "two"], {"status": "ok"}, {"status": "lost", "n": 1}, {"status": None}, {"n": "1"},
            {"status": "null", "n": 1.50}, {"a b": {"c": [True, "ü\n"]}}]  # fmt: skip
FIELDS = ["source", "type", "ref", "sense", "payload", "payload.n", "payload.status", 'payload."a b".c.1', "payload.0"]
VALUES = [
    "cpu",
    'a"\\b\n',
    'a"\\b\n/1',
    "cpu/1",
    "däß",
    "error",
    "sense",
    "1",
    "ok",
    "null",
    "^c",
    "[ör]",
    "ü\n",
    "",
    "1.5",
]

EVENTS = st.builds(
    lambda kind, source, ref, payload, day, ms: event(kind, source=source, ref_id=ref, payload=payload, ts=at(day, ms)),
    st.sampled_from(TYPES),
    st.sampled_from(SOURCES),
    st.sampled_from(REFS),
    st.sampled_from(PAYLOADS),
    st.integers(0, DAYS - 1),
    st.integers(0, 2),
)


def maybe(values: list[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for an optional value, mostly None."""
    return st.one_of(st.none(), st.none(), st.sampled_from(values))


MOMENTS = [at(day, ms) for day in range(DAYS) for ms in (-1, 0, 1)]
FILTERS = st.builds(
    Filter,
    source=maybe(SOURCES),
    type=maybe(TYPES),
    ref_id=maybe([ref for ref in REFS if ref]),
    sense=maybe(["cpu", "cpu-load", "cpu0", "däß", 'a"\\b\n', "cpu/1"]),
    since=maybe(MOMENTS),
    until=maybe(MOMENTS),
    after_id=maybe([0, 3, 11, 25]),
    until_id=maybe([0, 4, 17, 10**9]),
    limit=maybe([0, 1, 3, 8, 100]),
    errors=st.booleans(),
    matches=st.lists(
        st.builds(
            Match,
            st.sampled_from(FIELDS),
            st.sampled_from(["=", "!=", "~="]),
            st.lists(st.sampled_from(VALUES), min_size=1, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
)


def scatter(folder: Path, batches: list[tuple[list[LogEvent], int]], *, torn: bool) -> tuple[Path, Path]:
    """Write batches of events, archiving the days before a given one after each; write all of them to one table, too.

    This makes late entries, and days of several files, compressed and not. With `torn` the last run of the archiver
    dies before it deletes.
    """
    moved, whole = folder / "moved.db", folder / "whole.db"
    for n, (events, day) in enumerate(batches, 1):
        append(whole, events)
        append(moved, events)
        archive_before(moved, day, purge=not (torn and n == len(batches)), compress="zstd" if n % 2 else None)
    return moved, whole


@settings(max_examples=20, deadline=None)
@given(
    batches=st.lists(st.tuples(st.lists(EVENTS, max_size=15), st.integers(0, DAYS)), min_size=1, max_size=3),
    torn=st.booleans(),
    filters=st.lists(FILTERS, min_size=20, max_size=20),
    page=st.sampled_from([1, 3, 1000]),
)
def test_any_filter_finds_what_one_table_would(
    batches: list[tuple[list[LogEvent], int]], torn: bool, filters: list[Filter], page: int
) -> None:
    """Entries are in the table, in the archive, or in both."""
    with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "BATCH", 2 * page)
        patch.setattr(reader, "PAGE", page)
        moved, whole = scatter(Path(made), batches, torn=torn)
        with FullLog(moved) as log, LogReader(whole) as table:
            for one in [Filter(), *filters]:
                expected = table.query(one)
                assert log.query(one) == expected
                assert list(log.stream(one)) == expected


def ids(entries: list[Log]) -> list[int]:
    """Return the ids of entries."""
    return [entry.id for entry in entries]


@pytest.fixture
def log(db: Path) -> Path:
    """A log of 50 entries, ten per day, with the first three days in the archive."""
    append(db, [event(payload={"n": n}, ts=at(n // 10, n)) for n in range(50)])
    archive_before(db, 3)
    return db


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The archive files that are opened."""
    files: list[str] = []
    rows = ArchivedFiles.rows

    def keep_and_read(self: ArchivedFiles, entry: ManifestEntry, row_filter: RowFilter) -> Any:
        files.append(entry.file)
        yield from rows(self, entry, row_filter)

    monkeypatch.setattr(ArchivedFiles, "rows", keep_and_read)
    return files


class TestQuery:
    """query_logs with `archived`."""

    def test_archive_is_searched_on_request(self, log: Path) -> None:
        """By default it is not."""
        assert ids(query_logs(log)) == list(range(31, 51))
        assert ids(query_logs(log, archived=True)) == list(range(1, 51))
        assert query_logs(log, archived=True, since=at(1), limit=1, until=at(2, -1)) == [
            Log(20, "sense", "reading", "cpu/1", {"n": 19}, at(1, 19))
        ]

    def test_invalid_text_is_handled_as_without_the_archive(self, log: Path) -> None:
        """An example is half of a character."""
        for archived in (False, True):
            assert query_logs(log, source="\ud800", archived=archived) == []
            with pytest.raises(StoreError, match="can't hold a value"):
                query_logs(log, ref_id="\ud800", archived=archived)

    def test_missing_archive_is_empty(self, db: Path) -> None:
        """Its folder is not created."""
        append(db, [event()])
        assert ids(query_logs(db, archived=True)) == [1]
        assert not (db.parent / "archive").exists()

    def test_archive_of_another_log_is_ignored(self, log: Path) -> None:
        """A recreated log has other entries with the same ids."""
        log.unlink()
        append(log, [event("new")])
        assert [entry.type for entry in query_logs(log, archived=True)] == ["new"]


class TestFilesRead:
    """Only necessary files are read."""

    def test_only_files_of_the_period_are_opened(self, log: Path, opened: list[str]) -> None:
        """`since` and `until` are inclusive."""
        query_logs(log, archived=True, since=at(1), until=at(2))
        assert opened == ["2026-11-02.jsonl", "2026-11-03.jsonl"]

    def test_only_files_with_the_ids_are_opened(self, log: Path, opened: list[str]) -> None:
        """The manifest has the range of each file."""
        with FullLog(log) as whole:
            assert ids(whole.query(Filter(after_id=20, until_id=25))) == [21, 22, 23, 24, 25]
        assert opened == ["2026-11-03.jsonl"]

    def test_file_is_opened_when_its_first_entry_is_next(self, log: Path, opened: list[str]) -> None:
        """Files are opened one after the other."""
        with FullLog(log) as whole:
            entries = whole.stream(Filter())
            seen = [(next(entries).id, len(opened)) for _ in range(25)]
        assert seen[8:11] + seen[18:21] == [(9, 1), (10, 1), (11, 2), (19, 2), (20, 2), (21, 3)]

    @pytest.mark.parametrize(
        ("limit", "files"), [(0, []), (20, []), (21, [3]), (30, [3]), (31, [3, 2]), (99, [3, 2, 1])]
    )
    def test_newest_entries_are_searched_from_the_end(
        self, log: Path, opened: list[str], limit: int, files: list[int]
    ) -> None:
        """Files are read backwards until the limit is reached."""
        assert ids(query_logs(log, archived=True, limit=limit)) == list(range(51 - min(limit, 50), 51))
        assert opened == [f"2026-11-0{day}.jsonl" for day in files]

    def test_late_entries_are_the_newest(self, log: Path, opened: list[str]) -> None:
        """The newest entries may be in the archive, with older ones in the table."""
        append(log, [event("late", ts=at(0))])
        archive_before(log, 3)
        assert ids(query_logs(log, archived=True, limit=2)) == [50, 51]
        assert opened == ["2026-11-01.1.jsonl"]


class TestMoving:
    """Entries that move to the archive during a read are neither lost nor duplicated."""

    @pytest.fixture(params=["with an engine", "without"], autouse=True)
    def engine(self, request: pytest.FixtureRequest, log: Path) -> Iterator[None]:
        """Run each test with a writer, so that reads use its WAL, and without, so that changed files are reopened."""
        writer = LogWriter.open(log) if request.param == "with an engine" else None
        yield
        if writer:
            writer.close()

    @pytest.mark.parametrize("read_before", range(0, 50, 7))
    @pytest.mark.parametrize("purge", [True, False])
    def test_entries_that_move_while_a_stream_pauses(
        self, log: Path, monkeypatch: pytest.MonkeyPatch, read_before: int, purge: bool
    ) -> None:
        """The stream may be in the archive or in the table then."""
        monkeypatch.setattr(reader, "PAGE", 4)
        monkeypatch.setattr(reader, "BATCH", 8)
        with FullLog(log) as whole:
            entries = whole.stream(Filter())
            seen = [next(entries).id for _ in range(read_before)]
            append(log, [event("late", ts=at(0)), event("new", ts=at(4))])
            archive_before(log, 5, purge=purge)
            seen += [entry.id for entry in entries]
        # Before its first page, a stream has not read the log: it also has the new entries.
        assert seen == list(range(1, 51 if read_before else 53))

    def test_entries_that_move_between_the_reads_of_table_and_manifest(
        self, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The table must be read first."""
        read = ArchivedFiles.entries

        def late(self: ArchivedFiles) -> Any:
            archive_before(log, 5)
            return read(self)

        monkeypatch.setattr(ArchivedFiles, "entries", late)
        assert ids(query_logs(log, archived=True)) == list(range(1, 51))
        assert ids(query_logs(log, archived=True, limit=35)) == list(range(16, 51))

    def test_entries_that_move_before_the_newest_are_read(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The manifest must be read after the table."""
        newest = LogReader.newest

        def late(self: LogReader, filter: Filter) -> Any:
            archive_before(log, 5)
            return newest(self, filter)

        monkeypatch.setattr(LogReader, "newest", late)
        assert ids(query_logs(log, archived=True, limit=35)) == list(range(16, 51))

    def test_entries_that_have_moved_before_their_page_is_read(
        self, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Their ids were found in the table, but their rows are not there any more."""
        rows = reader.queries.rows

        def late(*args: Any, **names: Any) -> Any:
            if days:
                archive_before(log, days.pop())
            return rows(*args, **names)

        days = [5]

        monkeypatch.setattr(reader.queries, "rows", late)
        assert ids(query_logs(log, archived=True)) == list(range(1, 51))


class TestDamage:
    """Damage is reported in one line, with its location."""

    @pytest.fixture
    def file(self, log: Path) -> Path:
        """A file of the archive."""
        return log.parent / "archive" / "logs" / "2026-11-02.jsonl"

    def test_damaged_line(self, log: Path, file: Path) -> None:
        """File and line are named; the entries before it are yielded."""
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join([*lines[:4], b"{oops\n", *lines[5:]]))
        with FullLog(log) as whole:
            entries = whole.stream(Filter())
            assert [next(entries).id for _ in range(14)][-1] == 14
            with pytest.raises(StoreError, match=r"2026-11-02.jsonl, line 5 is damaged \(.*\); see `nerve verify`"):
                next(entries)

    def test_missing_file(self, log: Path, file: Path) -> None:
        """It raises an error if it is needed, and no entries are left out silently."""
        file.unlink()
        with pytest.raises(StoreError, match=r"2026-11-02.jsonl is missing; see `nerve verify`"):
            query_logs(log, archived=True)
        assert ids(query_logs(log, archived=True, since=at(2), limit=25)) == list(range(26, 51))

    def test_manifest_with_a_path_outside_the_folder(self, log: Path) -> None:
        """No file outside of the archive's folder is opened."""
        manifest = log.parent / "archive" / "logs" / MANIFEST
        manifest.write_bytes(manifest.read_bytes().replace(b'"2026-11-02.jsonl"', b'"../../logs.db"'))
        with pytest.raises(StoreError, match=r"manifest.jsonl names '../../logs.db' for '2026-11-02'"):
            query_logs(log, archived=True)

    def test_abandoned_stream_closes_its_file(self, log: Path) -> None:
        """ResourceWarnings are errors in tests."""
        with FullLog(log) as whole:
            entries = whole.stream(Filter())
            next(entries)
            del entries


def test_newest_keeps_each_row_once() -> None:
    """Rows may be added in any order, and repeatedly."""
    rows: list[Any] = [(n, "row") for n in range(10)]
    newest = Newest(3, [rows[4], rows[2]])
    for n in (9, 1, 4, 4, 8, 0, 9, 3):
        newest.add(rows[n])
    assert newest.rows() == [rows[4], rows[8], rows[9]]
    assert newest.floor == 4


def test_may_hold_is_exact() -> None:
    """The bounds are exact to the millisecond, and to the id."""
    entry = ManifestEntry(
        day="2026-11-02", file="2026-11-02.jsonl", rows=2, first_id=5, last_id=9, sha256="", bytes=0, ts=0, log_id=""
    )
    kept = [{}, {"since": at(2, -1)}, {"until": at(1)}, {"after_id": 8}, {"until_id": 5}]
    passed = [{"since": at(2)}, {"until": at(1, -1)}, {"after_id": 9}, {"until_id": 4}]
    assert all(may_hold(entry, Filter(**names)) for names in kept)
    assert not any(may_hold(entry, Filter(**names)) for names in passed)
