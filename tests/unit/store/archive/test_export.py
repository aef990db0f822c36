"""What leaves the table for the archive, and when."""

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
from nerve.store.archive.codec import read_lines
from nerve.store.archive.directory import read_manifest
from nerve.store.archive.export import ROWS_AT_ONCE, Archive, PurgeOrder
from nerve.store.archive.manifest import ManifestEntry
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
    """Give a moment of the n-th of these days."""
    return DAY + day * DAY_MS + ms


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the archive's folder."""
    return tmp_path / "archive"


class Host:
    """Deletes as the writer does, in small chunks, and notes what it hears."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self.chunk = 2
        self.orders: list[PurgeOrder] = []
        self.heard: list[ArchiveProgress] = []
        self.refusals: list[str] = []

    def purge(self, order: PurgeOrder) -> Iterator[int]:
        """Delete so many rows at a time."""
        self.orders.append(order)
        while deleted := self._writer.purge_chunk(order.day, order.last_id, self.chunk, order.open_runs):
            yield deleted

    def progressed(self, progress: ArchiveProgress) -> None:
        """Note the progress."""
        self.heard.append(progress)

    def refused(self, reason: str) -> None:
        """Note the refusal."""
        self.refusals.append(reason)


@pytest.fixture
def host(writer: LogWriter) -> Host:
    """Give who deletes, and hears."""
    return Host(writer)


@pytest.fixture
def archive(db: Path, folder: Path, host: Host) -> Archive:
    """Give an archive of the log."""
    return Archive(folder, db, host)


def run(archive: Archive, logs: LogsConfig = LOGS) -> Iterator[ManifestEntry]:
    """Do a run, and give the entry of each file that it makes."""
    return (filed.entry for filed in archive.run_once(NOW, logs))


def left(db: Path) -> list[int]:
    """Give the ids in the table."""
    return [row[0] for row in sql(db, "SELECT id FROM logs ORDER BY id")]


class TestDue:
    """Only whole days go, when all of them is older than the retention."""

    def days(self, db: Path, now: int, retention: float = LOGS.retention) -> list[str]:
        """Ask what is due."""
        with LogReader(db) as reader:
            return list(ended_days(reader, now, retention))

    def test_a_day_is_due_once_its_last_moment_is_old_enough(self, db: Path, writer: LogWriter) -> None:
        """To the millisecond."""
        writer.append([event(ts=at(0)), event(ts=at(1, 5))], {})
        assert self.days(db, at(2) - 1) == []
        assert self.days(db, at(2)) == NAMES[:1]
        assert self.days(db, at(3)) == NAMES[:2]
        assert self.days(db, at(3), LOGS.retention + 0.001) == NAMES[:1]
        assert self.days(db, at(2), retention=0) == NAMES[:2]

    def test_days_without_rows_are_passed_over(self, db: Path, writer: LogWriter) -> None:
        """However far apart the others are, and in whatever order they were written."""
        writer.append([event(ts=at(2)), event(ts=-1), event(ts=at(0, DAY_MS - 1)), event(ts=at(0))], {})
        assert self.days(db, at(9)) == ["1969-12-31", *NAMES[0:3:2]]

    def test_moments_outside_of_the_calendar_are_left_alone(self, db: Path, writer: LogWriter) -> None:
        """A clock that is wrong by thousands of years stops nobody."""
        writer.append([event(ts=-(2**52)), event(ts=at(0)), event(ts=2**52)], {})
        assert self.days(db, at(9)) == NAMES[:1]

    @pytest.mark.usefixtures("writer")
    def test_an_empty_log_has_nothing_due(self, db: Path) -> None:
        """And the plan is empty."""
        assert self.days(db, at(9)) == []
        with LogReader(db) as reader:
            assert plan(reader, at(9), LOGS) == []

    def test_the_plan_counts_and_changes_nothing(self, db: Path, writer: LogWriter, folder: Path) -> None:
        """It says how many rows of each day would go."""
        writer.append([event(ts=at(0)), event(ts=at(1)), event(ts=at(0, 7)), event(ts=at(3))], {})
        with LogReader(db) as reader:
            assert plan(reader, NOW, LOGS) == [
                DayPlan(NAMES[0], "retention", 2),
                DayPlan(NAMES[1], "retention", 1),
            ]
        assert left(db) == [1, 2, 3, 4]
        assert not folder.exists()


class TestRun:
    """A run archives all that is due."""

    def test_days_become_files_and_leave_the_table(
        self, db: Path, writer: LogWriter, archive: Archive, folder: Path
    ) -> None:
        """Each line is the entry; the manifest describes the file; what isn't due stays."""
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
        """What has an archived day's moment but came afterwards is never added to its file."""
        for _ in range(3):
            writer.append([event(ts=at(0)), event(ts=at(3))], {})
            list(run(archive))
        assert [entry.file for entry in read_manifest(folder)] == [
            f"{NAMES[0]}{part}.jsonl" for part in ("", ".1", ".2")
        ]
        assert [from_line((folder / e.file).read_bytes()).id for e in read_manifest(folder)] == [1, 3, 5]
        assert left(db) == [2, 4, 6]

    def test_an_entry_is_given_before_its_rows_are_deleted(self, db: Path, writer: LogWriter, archive: Archive) -> None:
        """Who records it can do so first; a run that isn't continued is completed by the next."""
        writer.append([event(ts=at(0)), event(ts=at(1))], {})
        running = run(archive)
        assert next(running).day == NAMES[0]
        assert left(db) == [1, 2]
        running.close()
        assert [entry.day for entry in run(archive)] == [NAMES[1]]
        assert left(db) == []

    def test_rows_of_another_log_are_not_taken_for_archived(
        self, tmp_path: Path, writer: LogWriter, archive: Archive, folder: Path
    ) -> None:
        """A log that was made anew gives the same ids again: its rows get files of their own."""
        writer.append([event("old", ts=at(0)) for _ in range(3)], {})
        list(run(archive))
        anew = LogWriter.open(tmp_path / "anew.db")
        anew.append([event("new", ts=at(0))], {})
        other = Host(anew)
        [entry] = run(Archive(folder, tmp_path / "anew.db", other))
        anew.close()
        assert (entry.file, entry.rows) == ("2026-11-20.1.jsonl", 1)
        assert other.orders == [PurgeOrder(NAMES[0], 1)]

    def test_a_purge_that_fails_is_made_up_for(
        self, db: Path, writer: LogWriter, folder: Path, archive: Archive
    ) -> None:
        """The rows stay in the table, and go next time, without a second file."""

        class Refusing(Host):
            """Deletes nothing."""

            def purge(self, order: PurgeOrder) -> Iterator[int]:
                """Be of no help."""
                raise DiskError("the writer is gone")

        writer.append([event(ts=at(0))], {})
        with pytest.raises(DiskError, match="the writer is gone"):
            list(run(Archive(folder, db, Refusing(writer))))
        assert left(db) == [1]
        assert list(run(archive)) == []
        assert left(db) == []
        assert len(read_manifest(folder)) == 1

    def test_a_missing_log_is_told(self, tmp_path: Path, folder: Path, host: Host) -> None:
        """As every reader tells it."""
        with pytest.raises(StoreError, match="there is no log at"):
            list(run(Archive(folder, tmp_path / "none.db", host)))


class TestOpenRuns:
    """A run is not torn: as long as it isn't complete, what it has logged stays in the table."""

    def test_entries_of_an_open_run_stay(self, db: Path, writer: LogWriter, archive: Archive, host: Host) -> None:
        """All others of the day go; the manifest names the run; later runs of the archiver leave it alone too."""
        writer.append([event(ref_id=None, ts=at(0)), started("cpu/1", ts=at(0)), started("cpu/2", ts=at(0))], {})
        writer.append([event(ref_id="cpu/1", ts=at(0)), completed("cpu/2", ts=at(0)), event(ref_id="b", ts=at(0))], {})
        [entry] = run(archive)
        assert (entry.rows, entry.first_id, entry.last_id, entry.open_runs) == (4, 1, 6, ("cpu/1",))
        assert left(db) == [2, 4]
        assert list(run(archive)) == []
        assert left(db) == [2, 4]
        assert all(order.open_runs == ("cpu/1",) for order in host.orders)

    def test_they_follow_once_it_is_complete(self, db: Path, writer: LogWriter, archive: Archive, folder: Path) -> None:
        """In a further part, with the late entries that have come by then."""
        writer.append([started("cpu/1", ts=at(0)), event(ref_id="b", ts=at(0)), event(ref_id="cpu/1", ts=at(0))], {})
        assert [entry.rows for entry in run(archive)] == [1]
        writer.append([completed("cpu/1", ts=at(3)), event(ref_id="b", ts=at(0)), started("cpu/2", ts=at(0))], {})
        [entry] = run(archive)
        assert (entry.file, entry.open_runs) == (f"{NAMES[0]}.1.jsonl", ("cpu/2",))
        assert [from_line(line).id for line in read_lines(folder / entry.file)] == [1, 3, 5]
        assert left(db) == [4, 6]
        assert list(run(archive)) == []

    def test_a_day_of_open_runs_alone_makes_no_file(self, db: Path, writer: LogWriter, archive: Archive) -> None:
        """There are no empty files."""
        writer.append([started("cpu/1", ts=at(0))], {})
        assert list(run(archive)) == []
        assert left(db) == [1]
        assert not list(archive._folder.iterdir())

    def test_the_engine_s_next_start_completes_them(self, db: Path, writer: LogWriter, archive: Archive) -> None:
        """What a boot has left open is lost, and then it goes."""
        writer.append([started("cpu/1", ts=at(0))], {})
        writer.begin_boot("next", Stamp(at(3), 0))
        assert [entry.rows for entry in run(archive)] == [1]
        assert left(db) == [2, 3]

    def test_an_unknown_end_of_the_settled_is_no_obstacle(self, db: Path, writer: LogWriter, archive: Archive) -> None:
        """Open runs are told from the entries themselves."""
        writer.append([started("cpu/1", ts=at(0)), event(ref_id="b", ts=at(0))], {})
        sql(db, "DELETE FROM meta WHERE key = 'settled_below'")
        assert [entry.open_runs for entry in run(archive)] == [("cpu/1",)]


class TestCompression:
    """Files may be compressed; which ones may change at any time."""

    ZSTD = LogsConfig(retention=DAY_MS / 1000, compress="zstd")

    def test_a_file_is_compressed_if_asked_for(
        self, db: Path, writer: LogWriter, archive: Archive, folder: Path
    ) -> None:
        """Its lines are the same, and the manifest tells of the file as it is stored."""
        writer.append([event(ts=at(0)) for _ in range(5)], {})
        [entry] = run(archive, self.ZSTD)
        content = (folder / f"{NAMES[0]}.jsonl.zst").read_bytes()
        assert (entry.file, entry.rows) == (f"{NAMES[0]}.jsonl.zst", 5)
        assert (entry.bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert [from_line(line).id for line in read_lines(folder / entry.file)] == [1, 2, 3, 4, 5]
        assert left(db) == []

    def test_parts_are_counted_however_they_are_stored(self, writer: LogWriter, archive: Archive) -> None:
        """No two files of a day have the same number."""
        files = []
        for logs in (LOGS, self.ZSTD, self.ZSTD, LOGS):
            writer.append([event(ts=at(0))], {})
            files += [entry.file for entry in run(archive, logs)]
        assert files == [f"{NAMES[0]}{end}" for end in (".jsonl", ".1.jsonl.zst", ".2.jsonl.zst", ".3.jsonl")]


class TestProgress:
    """Whoever waits hears how far it is."""

    def test_rows_are_counted_as_they_are_written_and_deleted(
        self, writer: LogWriter, archive: Archive, host: Host
    ) -> None:
        """It never goes back, and all that was due is done in the end."""
        writer.append([event(ts=at(day)) for day in (0, 1) for _ in range(ROWS_AT_ONCE + 1)], {})
        host.chunk = 500
        list(run(archive))
        total = 2 * (ROWS_AT_ONCE + 1)
        assert host.heard[-1] == ArchiveProgress(NAMES[1], total, total, total)
        assert host.heard[0] == ArchiveProgress(NAMES[0], 0, 0, ROWS_AT_ONCE + 1)
        assert ArchiveProgress(NAMES[0], ROWS_AT_ONCE, 0, ROWS_AT_ONCE + 1) in host.heard
        counted = [(heard.archived, heard.deleted) for heard in host.heard]
        assert counted == sorted(counted)

    def test_who_raises_there_ends_the_run(
        self, db: Path, writer: LogWriter, archive: Archive, host: Host, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In the middle of a file, of which nothing is left; the next run does all of it."""
        writer.append([event(ts=at(0)) for _ in range(ROWS_AT_ONCE + 1)], {})
        with monkeypatch.context() as patch:
            patch.setattr(host, "progressed", lambda progress: 1 // (0 if progress.archived else 1))
            with pytest.raises(ZeroDivisionError):
                list(run(archive))
        assert list(folder.iterdir()) == []
        host.chunk = 500
        assert [entry.rows for entry in run(archive)] == [ROWS_AT_ONCE + 1]
        assert left(db) == []


def test_memory_does_not_grow_with_the_day(db: Path, writer: LogWriter, archive: Archive, host: Host) -> None:
    """However many rows a day has, a few pages of them are in memory at once."""
    sql(
        db,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO logs"
        " (source, type, ref_id, payload, ts) SELECT 'sense', 'x', 'a/' || i, json_quote(hex(zeroblob(500))), ? FROM n",
        [at(0)],
    )
    tracemalloc.start()
    try:
        [entry] = run(Archive(archive._folder, db, SoleOwnerHost(writer)))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert (entry.rows, left(db)) == (20_000, [])
    assert entry.bytes > 20_000_000


class SoleOwnerHost(DirectBackend):
    """Deletes in large chunks, and hears nothing."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__(writer, lambda _progress: None)

    def refused(self, reason: str) -> None:
        """Be told what can't be."""
        raise AssertionError(reason)


class TestAdoption:
    """A file that the manifest doesn't know is taken in only when it is what it seems."""

    @pytest.fixture
    def stray(self, writer: LogWriter, archive: Archive, folder: Path) -> Path:
        """Give a complete file whose line in the manifest was never written."""
        writer.append([event(ts=at(0, n)) for n in range(4)], {})
        running = run(archive)
        next(running)
        running.close()
        (folder / "manifest.jsonl").unlink()
        return folder / "2026-11-20.jsonl"

    def test_a_complete_file_is_taken_in(self, db: Path, archive: Archive, folder: Path, stray: Path) -> None:
        """With the entry that it would have had; its rows leave the table without being written again."""
        [entry] = run(archive)
        assert (entry.file, entry.rows, entry.first_id, entry.last_id) == (stray.name, 4, 1, 4)
        assert entry.sha256 == hashlib.sha256(stray.read_bytes()).hexdigest()
        assert left(db) == []
        assert [path.name for path in sorted(folder.iterdir())] == [stray.name, "manifest.jsonl"]

    @pytest.mark.usefixtures("stray")
    def test_rows_that_are_gone_already_are_no_obstacle(self, archive: Archive, folder: Path) -> None:
        """When the manifest itself was lost, the files make a new one."""
        list(run(archive))
        lost = read_manifest(folder)
        (folder / "manifest.jsonl").unlink()
        assert list(run(archive)) == lost == read_manifest(folder)

    @pytest.mark.parametrize(
        ("change", "says"),
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
        host: Host,
        folder: Path,
        stray: Path,
        change: Callable[[list[bytes]], list[bytes]],
        says: str,
    ) -> None:
        """It is named, it stays as it is, and the rows of its day go to a file of their own."""
        content = b"".join(change(stray.read_bytes().splitlines(keepends=True)))
        stray.write_bytes(content)
        assert [(entry.file, entry.rows) for entry in run(archive)] == [("2026-11-20.1.jsonl", 4)]
        [told] = host.refusals
        assert re.search(says, told)
        assert str(stray) in told
        assert "move it away" in told
        assert stray.read_bytes() == content
        assert len((folder / "2026-11-20.1.jsonl").read_bytes().splitlines()) == 4
        assert left(db) == []

    def test_a_file_without_the_entries_of_a_run_that_was_open_is_taken_in(
        self, db: Path, writer: LogWriter, archive: Archive, folder: Path
    ) -> None:
        """Though that is complete by now; its entries follow in a further part."""
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

    def test_a_folder_with_the_name_of_a_file_is_refused(
        self, db: Path, writer: LogWriter, archive: Archive, host: Host, folder: Path
    ) -> None:
        """And the day is archived beside it."""
        (folder / f"{NAMES[0]}.jsonl").mkdir(parents=True)
        writer.append([event(ts=at(0))], {})
        assert [entry.file for entry in run(archive)] == [f"{NAMES[0]}.1.jsonl"]
        [told] = host.refusals
        assert "is not a regular file" in told
        assert left(db) == []

    def test_a_copy_of_an_archived_file_is_refused(self, archive: Archive, host: Host, stray: Path) -> None:
        """Its ids are archived already."""
        list(run(archive))
        stray.with_name("2026-11-20.1.jsonl").write_bytes(stray.read_bytes())
        assert list(run(archive)) == []
        [told] = host.refusals
        assert re.search(r"2026-11-20.1.jsonl, line 1: entry 1 is archived already", told)
