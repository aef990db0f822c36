"""Archive: which rows move from the table to files, and when."""

from __future__ import annotations

import hashlib
import re
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.entries import completed, event, sql, started

from nerve.clock import Stamp
from nerve.config.logs_section import LogsConfig
from nerve.errors import DiskError, StoreError
from nerve.events.model import Log
from nerve.ipc.progress import ArchiveProgress
from nerve.maintenance.archiver import DirectBackend
from nerve.store.archive import export
from nerve.store.archive.codec import read_lines
from nerve.store.archive.directory import read_manifest
from nerve.store.archive.export import ROWS_AT_ONCE, Archive
from nerve.store.archive.manifest import ManifestEntry
from nerve.store.archive.order_messages import Order, Purge
from nerve.store.archive.retention import DayPlan, ended_days, plan
from nerve.store.filters import Filter
from nerve.store.jsonl import from_line, to_line
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter
from nerve.store.utc_days import DAY_MS, day_start

DAY = day_start("2026-11-20")
NOW = day_start("2026-11-23") + 5
LOGS = LogsConfig(retention=DAY_MS / 1000)
NAMES = ["2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"]


def at(day: int, ms: int = 0) -> int:
    """Return the time `ms` ms into the n-th of these days."""
    return DAY + day * DAY_MS + ms


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The archive's folder."""
    return tmp_path / "archive"


class Backend(DirectBackend):
    """Writes the log, and keeps the deletions that were ordered and the progress that was reported."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__(writer, self._keep)
        self.purges: list[Purge] = []
        self.reports: list[ArchiveProgress] = []

    def execute(self, order: Order) -> int:
        """Keep a deletion and execute it."""
        assert isinstance(order, Purge)
        self.purges.append(order)
        return super().execute(order)

    def _keep(self, progress: ArchiveProgress) -> None:
        self.reports.append(progress)


@pytest.fixture
def backend(writer: LogWriter, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A backend that deletes two rows per order."""
    monkeypatch.setattr(export, "PURGE_ROWS", 2)
    return Backend(writer)


@pytest.fixture
def refusals() -> list[str]:
    """The reasons for which files were refused."""
    return []


@pytest.fixture
def archive(db: Path, folder: Path, backend: Backend, refusals: list[str]) -> Archive:
    """An archive of the log."""
    return Archive(folder, db, backend, refusals.append)


def run(archive: Archive, logs: LogsConfig = LOGS) -> Iterator[ManifestEntry]:
    """Start a run that yields the entry of each file it makes."""
    return (filed.entry for filed in archive.run_once(NOW, logs))


def left(db: Path) -> list[int]:
    """Return the ids in the table."""
    return [row[0] for row in sql(db, "SELECT id FROM logs ORDER BY id")]


class TestDue:
    """A day is due when all of it is older than the retention."""

    def days(self, db: Path, now: int, retention: float = LOGS.retention) -> list[str]:
        """Return the days that are due."""
        with LogReader(db) as reader:
            return list(ended_days(reader, now, retention))

    def test_day_is_due_once_its_end_is_older_than_the_retention(self, db: Path, writer: LogWriter) -> None:
        """The bound is exact to the millisecond."""
        writer.append([event(ts=at(0)), event(ts=at(1, 5))], {})
        assert self.days(db, at(2) - 1) == []
        assert self.days(db, at(2)) == NAMES[:1]
        assert self.days(db, at(3)) == NAMES[:2]
        assert self.days(db, at(3), LOGS.retention + 0.001) == NAMES[:1]
        assert self.days(db, at(2), retention=0) == NAMES[:2]

    def test_days_without_rows_are_skipped(self, db: Path, writer: LogWriter) -> None:
        """The distance of the days and the order of the rows make no difference."""
        writer.append([event(ts=at(2)), event(ts=-1), event(ts=at(0, DAY_MS - 1)), event(ts=at(0))], {})
        assert self.days(db, at(9)) == ["1969-12-31", *NAMES[0:3:2]]

    def test_rows_outside_of_the_calendar_are_skipped(self, db: Path, writer: LogWriter) -> None:
        """A clock that is wrong by thousands of years does not stop the archiver."""
        writer.append([event(ts=-(2**52)), event(ts=at(0)), event(ts=2**52)], {})
        assert self.days(db, at(9)) == NAMES[:1]

    @pytest.mark.usefixtures("writer")
    def test_nothing_is_due_in_an_empty_log(self, db: Path) -> None:
        """Its plan is empty too."""
        assert self.days(db, at(9)) == []
        with LogReader(db) as reader:
            assert plan(reader, at(9), LOGS) == []

    def test_plan_counts_rows_and_changes_nothing(self, db: Path, writer: LogWriter, folder: Path) -> None:
        """It has the number of rows of each day."""
        writer.append([event(ts=at(0)), event(ts=at(1)), event(ts=at(0, 7)), event(ts=at(3))], {})
        with LogReader(db) as reader:
            assert plan(reader, NOW, LOGS) == [
                DayPlan(NAMES[0], "retention", 2),
                DayPlan(NAMES[1], "retention", 1),
            ]
        assert left(db) == [1, 2, 3, 4]
        assert not folder.exists()


class TestRun:
    """A run archives all days that are due."""

    def test_days_move_from_the_table_to_files(
        self, db: Path, writer: LogWriter, archive: Archive, folder: Path
    ) -> None:
        """Each line is an entry, and the manifest has the file; rows that are not due stay."""
        moments = [at(0), at(1), at(0, 9), at(3), at(0, 3), at(2)]
        writer.append([event(payload={"n": n}, ts=ts) for n, ts in enumerate(moments)], {})
        with LogReader(db) as reader:
            before = {entry.id: entry for entry in reader.query(Filter())}
        first, second = run(archive)
        assert left(db) == [4, 6]
        content = (folder / "2026-11-20.jsonl").read_bytes()
        assert content == b"".join(to_line(before[n]) for n in (1, 3, 5))
        assert (first.day, first.file, first.rows, first.first_id, first.last_id) == (
            NAMES[0],
            f"{NAMES[0]}.jsonl",
            3,
            1,
            5,
        )
        assert (first.sha256, first.bytes, first.ts) == (hashlib.sha256(content).hexdigest(), len(content), NOW)
        assert (second.file, second.rows) == ("2026-11-21.jsonl", 1)
        assert read_manifest(folder) == [first, second]
        assert list(run(archive)) == []

    def test_late_rows_go_to_further_parts(self, db: Path, writer: LogWriter, archive: Archive, folder: Path) -> None:
        """Rows of an archived day that were written later are not added to its file."""
        for _ in range(3):
            writer.append([event(ts=at(0)), event(ts=at(3))], {})
            list(run(archive))
        assert [entry.file for entry in read_manifest(folder)] == [
            f"{NAMES[0]}{part}.jsonl" for part in ("", ".1", ".2")
        ]
        assert [from_line((folder / e.file).read_bytes()).id for e in read_manifest(folder)] == [1, 3, 5]
        assert left(db) == [2, 4, 6]

    def test_file_is_yielded_before_its_rows_are_deleted(self, db: Path, writer: LogWriter, archive: Archive) -> None:
        """The caller can record it first; if the run ends there, the next one deletes the rows."""
        writer.append([event(ts=at(0)), event(ts=at(1))], {})
        running = run(archive)
        assert next(running).day == NAMES[0]
        assert left(db) == [1, 2]
        running.close()
        assert [entry.day for entry in run(archive)] == [NAMES[1]]
        assert left(db) == []

    def test_rows_of_another_log_are_archived_separately(
        self,
        tmp_path: Path,
        writer: LogWriter,
        archive: Archive,
        folder: Path,
        refusals: list[str],
    ) -> None:
        """A recreated log has the same ids again: its rows get files of their own."""
        writer.append([event("old", ts=at(0)) for _ in range(3)], {})
        list(run(archive))
        second = LogWriter.open(tmp_path / "second.db")
        second.append([event("new", ts=at(0))], {})
        other = Backend(second)
        [entry] = run(Archive(folder, tmp_path / "second.db", other, refusals.append))
        second.close()
        assert (entry.file, entry.rows) == ("2026-11-20.1.jsonl", 1)
        assert [(order.day, order.last_id) for order in other.purges] == [(NAMES[0], 1)]

    def test_failed_purge_is_repeated_by_the_next_run(
        self, db: Path, writer: LogWriter, folder: Path, archive: Archive
    ) -> None:
        """The rows stay in the table until then, and no second file is made."""

        class Failing(Backend):
            """Deletes nothing."""

            def execute(self, order: Order) -> int:
                """Fail."""
                raise DiskError("the writer is gone")

        writer.append([event(ts=at(0))], {})
        with pytest.raises(DiskError, match="the writer is gone"):
            list(run(Archive(folder, db, Failing(writer), print)))
        assert left(db) == [1]
        assert list(run(archive)) == []
        assert left(db) == []
        assert len(read_manifest(folder)) == 1

    def test_missing_log_raises_store_error(
        self, tmp_path: Path, folder: Path, backend: Backend, refusals: list[str]
    ) -> None:
        """The message is that of every reader."""
        with pytest.raises(StoreError, match="there is no log at"):
            list(run(Archive(folder, tmp_path / "none.db", backend, refusals.append)))


class TestOpenRuns:
    """The entries of a run stay in the table until it is complete."""

    def test_entries_of_an_open_run_stay_in_the_table(
        self, db: Path, writer: LogWriter, archive: Archive, backend: Backend
    ) -> None:
        """All others of the day are archived, the manifest names the run, and later archiver runs leave it too."""
        writer.append([event(ref_id=None, ts=at(0)), started("cpu/1", ts=at(0)), started("cpu/2", ts=at(0))], {})
        writer.append([event(ref_id="cpu/1", ts=at(0)), completed("cpu/2", ts=at(0)), event(ref_id="b", ts=at(0))], {})
        [entry] = run(archive)
        assert (entry.rows, entry.first_id, entry.last_id, entry.open_runs) == (4, 1, 6, ("cpu/1",))
        assert left(db) == [2, 4]
        assert list(run(archive)) == []
        assert left(db) == [2, 4]
        assert all(order.open_runs == ("cpu/1",) for order in backend.purges)

    def test_entries_of_a_run_are_archived_once_it_is_complete(
        self, db: Path, writer: LogWriter, archive: Archive, folder: Path
    ) -> None:
        """They go to a further part, together with late entries."""
        writer.append([started("cpu/1", ts=at(0)), event(ref_id="b", ts=at(0)), event(ref_id="cpu/1", ts=at(0))], {})
        assert [entry.rows for entry in run(archive)] == [1]
        writer.append([completed("cpu/1", ts=at(3)), event(ref_id="b", ts=at(0)), started("cpu/2", ts=at(0))], {})
        [entry] = run(archive)
        assert (entry.file, entry.open_runs) == (f"{NAMES[0]}.1.jsonl", ("cpu/2",))
        assert [from_line(line).id for line in read_lines(folder / entry.file)] == [1, 3, 5]
        assert left(db) == [4, 6]
        assert list(run(archive)) == []

    def test_day_with_open_runs_only_makes_no_file(self, db: Path, writer: LogWriter, archive: Archive) -> None:
        """There are no empty files."""
        writer.append([started("cpu/1", ts=at(0))], {})
        assert list(run(archive)) == []
        assert left(db) == [1]
        assert not list(archive._folder.iterdir())

    def test_runs_lost_by_a_crash_are_archived_after_the_next_start(
        self, db: Path, writer: LogWriter, archive: Archive
    ) -> None:
        """The next boot completes them as lost."""
        writer.append([started("cpu/1", ts=at(0))], {})
        writer.begin_boot("next", Stamp(at(3), 0))
        assert [entry.rows for entry in run(archive)] == [1]
        assert left(db) == [2, 3]

    def test_open_runs_are_found_without_settled_below(self, db: Path, writer: LogWriter, archive: Archive) -> None:
        """They are determined from the entries themselves."""
        writer.append([started("cpu/1", ts=at(0)), event(ref_id="b", ts=at(0))], {})
        sql(db, "DELETE FROM meta WHERE key = 'settled_below'")
        assert [entry.open_runs for entry in run(archive)] == [("cpu/1",)]


class TestCompression:
    """Files may be compressed; the setting may change at any time."""

    ZSTD = LogsConfig(retention=DAY_MS / 1000, compress="zstd")

    def test_file_is_compressed_if_configured(
        self, db: Path, writer: LogWriter, archive: Archive, folder: Path
    ) -> None:
        """It has the same lines; the manifest has the size and SHA-256 of the compressed file."""
        writer.append([event(ts=at(0)) for _ in range(5)], {})
        [entry] = run(archive, self.ZSTD)
        content = (folder / f"{NAMES[0]}.jsonl.zst").read_bytes()
        assert (entry.file, entry.rows) == (f"{NAMES[0]}.jsonl.zst", 5)
        assert (entry.bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert [from_line(line).id for line in read_lines(folder / entry.file)] == [1, 2, 3, 4, 5]
        assert left(db) == []

    def test_parts_are_numbered_compressed_or_not(self, writer: LogWriter, archive: Archive) -> None:
        """No two files of a day have the same number."""
        files = []
        for logs in (LOGS, self.ZSTD, self.ZSTD, LOGS):
            writer.append([event(ts=at(0))], {})
            files += [entry.file for entry in run(archive, logs)]
        assert files == [f"{NAMES[0]}{end}" for end in (".jsonl", ".1.jsonl.zst", ".2.jsonl.zst", ".3.jsonl")]


class TestProgress:
    """Progress is reported to the backend."""

    def test_progress_counts_written_and_deleted_rows(
        self, writer: LogWriter, archive: Archive, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It never decreases, and ends with all rows that were due."""
        writer.append([event(ts=at(day)) for day in (0, 1) for _ in range(ROWS_AT_ONCE + 1)], {})
        monkeypatch.setattr(export, "PURGE_ROWS", 500)
        list(run(archive))
        total = 2 * (ROWS_AT_ONCE + 1)
        assert backend.reports[-1] == ArchiveProgress(NAMES[1], total, total, total)
        assert backend.reports[0] == ArchiveProgress(NAMES[0], 0, 0, ROWS_AT_ONCE + 1)
        assert ArchiveProgress(NAMES[0], ROWS_AT_ONCE, 0, ROWS_AT_ONCE + 1) in backend.reports
        counted = [(report.archived, report.deleted) for report in backend.reports]
        assert counted == sorted(counted)

    def test_exception_from_progress_ends_the_run(
        self,
        db: Path,
        writer: LogWriter,
        archive: Archive,
        backend: Backend,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """No incomplete file is left; the next run does everything."""
        writer.append([event(ts=at(0)) for _ in range(ROWS_AT_ONCE + 1)], {})
        with monkeypatch.context() as patch:
            patch.setattr(backend, "progressed", lambda progress: 1 // (0 if progress.archived else 1))
            with pytest.raises(ZeroDivisionError):
                list(run(archive))
        assert list(folder.iterdir()) == []
        monkeypatch.setattr(export, "PURGE_ROWS", 500)
        assert [entry.rows for entry in run(archive)] == [ROWS_AT_ONCE + 1]
        assert left(db) == []


def test_memory_does_not_grow_with_the_day(
    db: Path, writer: LogWriter, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a few pages of a day with many rows are in memory at once."""
    monkeypatch.setattr(export, "PURGE_ROWS", 5_000)
    sql(
        db,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO logs"
        " (source, type, ref_id, payload, ts) SELECT 'sense', 'x', 'a/' || i, json_quote(hex(zeroblob(500))), ? FROM n",
        [at(0)],
    )
    tracemalloc.start()
    try:
        [entry] = run(Archive(archive._folder, db, DirectBackend(writer, lambda _progress: None), print))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert (entry.rows, left(db)) == (20_000, [])
    assert entry.bytes > 20_000_000


class TestAdoption:
    """A file that is not in the manifest is adopted only if it is a complete file of this log."""

    @pytest.fixture
    def stray(self, writer: LogWriter, archive: Archive, folder: Path) -> Path:
        """A complete file whose line in the manifest was never written."""
        writer.append([event(ts=at(0, n)) for n in range(4)], {})
        running = run(archive)
        next(running)
        running.close()
        (folder / "manifest.jsonl").unlink()
        return folder / "2026-11-20.jsonl"

    def test_complete_file_is_adopted(self, db: Path, archive: Archive, folder: Path, stray: Path) -> None:
        """It gets the entry that it would have had; its rows are deleted without being written again."""
        [entry] = run(archive)
        assert (entry.file, entry.rows, entry.first_id, entry.last_id) == (stray.name, 4, 1, 4)
        assert entry.sha256 == hashlib.sha256(stray.read_bytes()).hexdigest()
        assert left(db) == []
        assert [path.name for path in sorted(folder.iterdir())] == [stray.name, "manifest.jsonl"]

    @pytest.mark.usefixtures("stray")
    def test_files_are_adopted_after_their_rows_were_deleted(self, archive: Archive, folder: Path) -> None:
        """A lost manifest is rebuilt from the files."""
        list(run(archive))
        lost = read_manifest(folder)
        (folder / "manifest.jsonl").unlink()
        assert list(run(archive)) == lost == read_manifest(folder)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda _lines: [], "lacks rows that the log has"),
            (lambda lines: lines[:2] + lines[3:], "lacks rows that the log has"),
            (lambda lines: [*lines[:3], lines[3].replace(b"reading", b"changed")], "lacks rows that the log has"),
            (lambda lines: [*lines[:3], lines[3][:-5]], "line 4: damaged"),
            (lambda lines: [b"hello\n", *lines], "line 1: damaged"),
            (lambda lines: lines[::-1], r"line 2: entry 3 \(ts \d+\) doesn't belong there"),
            (lambda lines: [*lines, to_line(Log(9, "a", "b", None, 1, at(1)))], r"line 5: entry 9 \(ts \d+\) doesn't"),
        ],
    )
    def test_any_other_file_is_refused(
        self,
        db: Path,
        archive: Archive,
        backend: Backend,
        folder: Path,
        stray: Path,
        change: Callable[[list[bytes]], list[bytes]],
        message: str,
        refusals: list[str],
    ) -> None:
        """The message names it, it stays as it is, and the rows of its day go to another file."""
        content = b"".join(change(stray.read_bytes().splitlines(keepends=True)))
        stray.write_bytes(content)
        assert [(entry.file, entry.rows) for entry in run(archive)] == [("2026-11-20.1.jsonl", 4)]
        [reason] = refusals
        assert re.search(message, reason)
        assert str(stray) in reason
        assert "move it away" in reason
        assert stray.read_bytes() == content
        assert len((folder / "2026-11-20.1.jsonl").read_bytes().splitlines()) == 4
        assert left(db) == []

    def test_file_without_entries_of_a_run_open_at_the_time_is_adopted(
        self, db: Path, writer: LogWriter, archive: Archive, folder: Path
    ) -> None:
        """The run is complete meanwhile, and its entries follow in a further part."""
        writer.append([started("cpu/1", ts=at(0)), event(ref_id="b", ts=at(0)), event(ref_id="cpu/1", ts=at(0))], {})
        writer.append([event(ref_id="b", ts=at(0))], {})
        running = run(archive)
        next(running)
        running.close()
        (folder / "manifest.jsonl").unlink()
        writer.append([completed("cpu/1", ts=at(0))], {})
        adopted, late = run(archive)
        assert (adopted.file, adopted.rows, adopted.open_runs) == (f"{NAMES[0]}.jsonl", 2, ("cpu/1",))
        assert (late.file, late.rows, late.open_runs) == (f"{NAMES[0]}.1.jsonl", 3, ())
        assert left(db) == []

    def test_folder_with_the_name_of_a_file_is_refused(
        self,
        db: Path,
        writer: LogWriter,
        archive: Archive,
        backend: Backend,
        folder: Path,
        refusals: list[str],
    ) -> None:
        """The day is archived to another file."""
        (folder / f"{NAMES[0]}.jsonl").mkdir(parents=True)
        writer.append([event(ts=at(0))], {})
        assert [entry.file for entry in run(archive)] == [f"{NAMES[0]}.1.jsonl"]
        [reason] = refusals
        assert "is not a regular file" in reason
        assert left(db) == []

    def test_copy_of_an_archived_file_is_refused(
        self, archive: Archive, backend: Backend, stray: Path, refusals: list[str]
    ) -> None:
        """The entries with its ids are archived already."""
        list(run(archive))
        stray.with_name("2026-11-20.1.jsonl").write_bytes(stray.read_bytes())
        assert list(run(archive)) == []
        [reason] = refusals
        assert re.search(r"2026-11-20.1.jsonl, line 1: entry 1 is archived already", reason)
