"""LogWriter: commits, positions, and the runs that are open."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.entries import NOON, completed, event, sql, started

from nerve.clock import Stamp
from nerve.errors import DiskError, StoreError
from nerve.maintenance.checkpoints import is_large
from nerve.store.table import database
from nerve.store.table.writer import INSERT_SIZES, ArchiveRun, LogWriter

MANY, FEW, _ = INSERT_SIZES

ROWS = "SELECT id, source, type, ref_id, payload, ts FROM logs ORDER BY id"


class Noon:
    """A clock that shows what it is set to."""

    def __init__(self) -> None:
        self.ts = NOON

    def now(self) -> float:
        """Give the seconds."""
        return self.ts / 1000

    def stamp(self) -> Stamp:
        """Give the moment."""
        return Stamp(self.ts, self.ts * 1_000_000)


def meta(db: Path) -> dict[str, str]:
    """Give what the writer remembers."""
    return dict(sql(db, "SELECT key, value FROM meta"))


def reopened(writer: LogWriter, db: Path) -> LogWriter:
    """Close a writer and open the log anew, as a restart does."""
    writer.close()
    return LogWriter.open(db)


@pytest.mark.parametrize("count", [1, FEW - 1, FEW, FEW + 1, MANY - 1, MANY, MANY + 1, 3 * MANY + 2 * FEW + 7])
def test_events_are_appended_in_order(db: Path, writer: LogWriter, count: int) -> None:
    """Each event becomes a row as it is; ids follow each other, however the rows are put into statements."""
    events = [event(f"t{n}", ref_id=None if n % 3 else f"r/{n}", payload={"n": n}, ts=NOON - n) for n in range(count)]
    writer.append(events, {})
    writer.append(events[:1], {})
    as_rows = [(e.source, e.type, e.ref_id, e.payload, e.ts) for e in [*events, events[0]]]
    assert sql(db, ROWS) == [(n, *row) for n, row in enumerate(as_rows, 1)]
    assert writer.committed == count + 1


def test_commits_alone_never_make_the_wal_large(writer: LogWriter) -> None:
    """SQLite empties it by itself in time, though not at each commit: it need not be looked after for that."""
    group = [event("reading", ref_id=f"r/{n}", payload={"n": n}) for n in range(10_000)]
    sizes = []
    for _ in range(8):
        writer.append(group, {})
        sizes.append(writer.wal_bytes())
    assert sizes[1] > sizes[0]
    assert not is_large(max(sizes))


def test_positions_are_committed_with_their_events(db: Path) -> None:
    """Where a producer stands is known after a restart, with the moment of the commit; an unknown one stands at 0."""
    clock = Noon()
    writer = LogWriter.open(db, clock)
    writer.append([event()], {"kernel": 3, "worker-1": 1})
    writer.append([], {"kernel": 4})
    assert json.loads(meta(db)["lane:kernel"]) == {"seq": 4, "ts": NOON}
    writer = reopened(writer, db)
    assert [writer.position(name) for name in ("kernel", "worker-1", "nobody")] == [4, 1, 0]
    writer.close()


def test_nothing_to_append_is_no_commit(db: Path, writer: LogWriter) -> None:
    """An empty batch leaves the file alone."""
    version = sql(db, "PRAGMA data_version")
    writer.append([], {})
    assert sql(db, "PRAGMA data_version") == version
    assert writer.wal_bytes() == Path(f"{db}-wal").stat().st_size


def test_producers_are_forgotten(db: Path) -> None:
    """When the writer says so, and not because another boot begins: their lanes may still be there."""
    writer = LogWriter.open(db)
    writer.begin_boot("boot-1", Stamp(NOON, 0))
    writer.append([event()], {"here": 1, "there": 1, "gone": 1, "gone, too": 1})
    writer.forget("gone", "never seen", "gone, too")
    assert sorted(writer.producers()) == ["here", "there"]
    writer = reopened(writer, db)
    writer.begin_boot("boot-1", Stamp(NOON + 100 * 86_400_000, 0))
    assert sorted(writer.producers()) == ["here", "there"]
    writer.begin_boot("boot-2", Stamp(NOON, 0))
    assert sorted(writer.producers()) == ["here", "there"]
    assert "schema_version" in meta(db)
    writer.close()


def test_a_damaged_position_is_told(db: Path, writer: LogWriter) -> None:
    """What isn't a position of ours is a StoreError that shows it."""
    sql(db, "INSERT INTO meta VALUES ('lane:x', 'seven')")
    with pytest.raises(StoreError, match=r"damaged position.*seven"):
        writer.position("x")


def test_a_damaged_fact_is_told_at_once(db: Path, writer: LogWriter) -> None:
    """A writer that doesn't know which runs are open doesn't start."""
    writer.close()
    sql(db, "INSERT INTO meta VALUES ('settled_below', 'all')")
    with pytest.raises(StoreError, match="damaged settled_below in its table meta: 'all'"):
        LogWriter.open(db)


class TestFailedCommits:
    """A commit that fails has changed nothing, and can be made again."""

    def check(self, db: Path, writer: LogWriter) -> None:
        """Assert that nothing of a failed batch is there, and that another one goes through, complete."""
        assert sql(db, "SELECT count(*) FROM logs WHERE type = 'failing'") == [(0,)]
        assert (writer.position("p"), writer.committed) == (1, 1)
        assert list(writer._open_runs) == ["cpu/open"]
        writer.append([completed("cpu/open"), started("cpu/2")], {"p": 2})
        assert sql(db, "SELECT id FROM logs ORDER BY id") == [(1,), (2,), (3,)]
        assert meta(db)["settled_below"] == "3"
        assert list(writer._open_runs) == ["cpu/2"]

    @pytest.fixture
    def begun(self, writer: LogWriter) -> LogWriter:
        """Give a writer with one commit, and one open run."""
        writer.append([started("cpu/open")], {"p": 1})
        return writer

    def test_a_full_disk(self, db: Path, begun: LogWriter) -> None:
        """It is a DiskError, and what was begun of the batch is gone."""
        (pages,) = begun._connection.execute("PRAGMA page_count").fetchone()
        begun._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        failing = [completed("cpu/open"), *(event("failing", payload="x" * 1000) for _ in range(200))]
        with pytest.raises(DiskError, match="the disk is full"):
            begun.append(failing, {"p": 2})
        begun._connection.execute("PRAGMA max_page_count = 1000000")
        self.check(db, begun)

    def test_a_value_that_does_not_fit(self, db: Path, begun: LogWriter) -> None:
        """It is a StoreError that trying again can't help."""
        failing = [completed("cpu/open"), event("failing"), event("failing", ts=2**63)]
        with pytest.raises(StoreError, match="can't hold a value") as told:
            begun.append(failing, {"p": 2})
        assert not isinstance(told.value, DiskError)
        self.check(db, begun)

    def test_a_lock_that_another_program_holds(self, db: Path, begun: LogWriter) -> None:
        """It is a DiskError: the other may let go."""
        begun._connection.execute("PRAGMA busy_timeout = 0")
        failing = [completed("cpu/open"), event("failing")]
        with closing(sqlite3.connect(db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DiskError, match="locked by another program"):
                begun.append(failing, {"p": 2})
        self.check(db, begun)

    def test_an_interrupt_in_the_middle(self, db: Path, begun: LogWriter) -> None:
        """Whatever is raised inside a commit, the transaction doesn't stay open."""

        class Interrupting(list[Any]):
            def __getitem__(self, at: Any) -> Any:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            begun.append(Interrupting([completed("cpu/open"), event("failing")]), {"p": 2})
        self.check(db, begun)


class TestOpenRuns:
    """The log knows which runs are open, across restarts."""

    def test_settled_below_follows_the_oldest_open_run(self, db: Path, writer: LogWriter) -> None:
        """Below it every run is complete; it is written only when it changes."""
        writer.append([started("a"), started("b"), completed("b")], {})
        assert "settled_below" not in meta(db)  # 1, where nothing is remembered
        writer.append([completed("a"), event(), started("c")], {})
        assert meta(db)["settled_below"] == "6"
        writer.append([completed("c")], {})
        assert meta(db)["settled_below"] == "8"

    def test_they_are_recalled_from_there_on_only(self, db: Path, writer: LogWriter) -> None:
        """A start that lies below what is settled isn't looked for."""
        writer.append([started("a"), started("b"), completed("b"), started("c")], {})
        writer = reopened(writer, db)
        assert list(writer._open_runs) == ["a", "c"]
        sql(db, "INSERT INTO meta VALUES ('settled_below', '2')")
        writer = reopened(writer, db)
        assert list(writer._open_runs) == ["c"]
        writer.close()

    def test_a_new_boot_completes_what_the_old_one_left(self, db: Path, writer: LogWriter) -> None:
        """Each open run gets its error and its completion, in order of their start; what is complete gets nothing."""
        assert writer.begin_boot("boot-1", Stamp(NOON, 0)) == 0
        writer.append([started("b/1"), started("a/2"), started("c/3"), completed("c/3")], {})
        writer = reopened(writer, db)
        assert writer.begin_boot("boot-2", Stamp(NOON + 5, 0)) == 2
        rows = [(s, t, r, json.loads(p), ts) for _, s, t, r, p, ts in sql(db, ROWS)[4:]]
        lost = {"kind": "lost", "message": "the engine died while this run was open"}
        end = {"status": "lost", "duration_ms": None, "signal": False, "worker": None}
        assert rows == [
            ("system", "error", "b/1", lost, NOON + 5),
            ("reflex", "run_complete", "b/1", {"sense": "b", **end}, NOON + 5),
            ("system", "error", "a/2", lost, NOON + 5),
            ("reflex", "run_complete", "a/2", {"sense": "a", **end}, NOON + 5),
        ]
        assert (meta(db)["boot_id"], meta(db)["settled_below"]) == ("boot-2", "9")
        assert writer.begin_boot("boot-3", Stamp(NOON + 6, 0)) == 0
        writer.close()

    def test_a_restarted_writer_leaves_open_runs_open(self, db: Path, writer: LogWriter) -> None:
        """In the same boot the runs go on; their completion is still to come."""
        writer.begin_boot("boot-1", Stamp(NOON, 0))
        writer.append([started("a/1")], {})
        writer = reopened(writer, db)
        assert writer.begin_boot("boot-1", Stamp(NOON, 0)) == 0
        assert sql(db, "SELECT count(*) FROM logs") == [(1,)]
        assert list(writer._open_runs) == ["a/1"]
        writer.close()


class TestPurge:
    """What is archived is deleted in chunks, and nothing else can be."""

    DAY = "2023-11-15"

    def test_a_day_goes_chunk_by_chunk(self, db: Path, writer: LogWriter) -> None:
        """A chunk that is smaller than asked for is the last; other days and later ids stay."""
        day = [event(ts=NOON + n) for n in (5, 1, 4, 2, 3)]
        writer.append([event(ts=NOON - 86_400_000), *day, event(ts=NOON + 86_400_000), event(ts=NOON)], {})
        assert [writer.purge_chunk(self.DAY, 7, limit=2) for _ in range(4)] == [2, 2, 1, 0]
        assert sql(db, "SELECT id FROM logs ORDER BY id") == [(1,), (7,), (8,)]

    def test_entries_of_the_runs_that_were_open_stay(self, db: Path, writer: LogWriter) -> None:
        """They are not in the archive; what has no ref_id is of no run."""
        writer.append([event(ref_id=ref) for ref in ("a/1", None, "b/1", "a/1", "c")], {})
        assert writer.purge_chunk(self.DAY, 5, 10, ("a/1", "b/1")) == 2
        assert sql(db, "SELECT id FROM logs ORDER BY id") == [(1,), (3,), (4,)]
        assert writer.purge_chunk(self.DAY, 5, 10, ("a/1", "b/1")) == 0

    def test_the_watermark_lies_at_what_went_and_never_falls(self, db: Path, writer: LogWriter) -> None:
        """It is the end of the day, and the greatest id that went."""
        writer.append([event(ts=NOON), event(ts=NOON), event(ts=5), event(ts=NOON)], {})
        writer.purge_chunk(self.DAY, 2)
        assert (meta(db)["watermark_ts"], meta(db)["watermark_id"]) == ("1700092800000", "2")
        writer.purge_chunk("1970-01-01", 3)
        assert (meta(db)["watermark_ts"], meta(db)["watermark_id"]) == ("1700092800000", "3")
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            sql(db, "DELETE FROM logs WHERE id = 4")

    def test_each_file_of_the_archive_is_told_of_once(self, db: Path, writer: LogWriter) -> None:
        """By its number, also by a writer that has started anew."""
        for number in (1, 2, 1, 2):
            writer.record_file(event(f"file {number}"), number)
        with closing(LogWriter.open(db)) as successor:
            successor.record_file(event("file 2"), 2)
            successor.record_file(event("file 3"), 3)
        assert [row[0] for row in sql(db, "SELECT type FROM logs ORDER BY id")] == ["file 1", "file 2", "file 3"]

    def test_the_archiver_s_last_run_is_remembered(self, db: Path, writer: LogWriter) -> None:
        """The latest one, for whoever starts anew."""
        writer.note_archive_run(ArchiveRun(ts=5, files=1, rows=2))
        writer.note_archive_run(ArchiveRun(ts=6, files=0, rows=0))
        assert json.loads(meta(db)["archive_run"]) == {"ts": 6, "files": 0, "rows": 0}

    @pytest.mark.parametrize("day", ["2023-13-01", "", "yesterday"])
    def test_what_is_no_day_is_refused(self, writer: LogWriter, day: str) -> None:
        """An order from another process is not taken on trust."""
        with pytest.raises(StoreError, match="is no day"):
            writer.purge_chunk(day, 1)


class TestUpkeep:
    """The file's size is looked after."""

    def fill(self, writer: LogWriter) -> None:
        """Write some hundred pages, and delete them again."""
        writer.append([event(payload="x" * 2000, ts=NOON) for _ in range(400)], {})
        writer.purge_chunk("2023-11-15", 400)

    def test_unused_pages_are_given_back_some_at_a_time(self, db: Path, writer: LogWriter) -> None:
        """Each call frees as many as it says, until it says 0; a checkpoint then makes the file smaller."""
        self.fill(writer)
        writer.checkpoint()
        before = db.stat().st_size
        freed = [writer.incremental_vacuum(64)]
        assert freed == [64]
        while freed[-1]:
            freed.append(writer.incremental_vacuum(64))
        assert writer.checkpoint()
        assert db.stat().st_size == before - 4096 * sum(freed)

    def test_a_full_vacuum_rebuilds_the_file(self, db: Path, writer: LogWriter) -> None:
        """Afterwards nothing is unused, the file is small, and auto_vacuum is as before."""
        self.fill(writer)
        writer.vacuum()
        assert sql(db, "PRAGMA freelist_count") == [(0,)]
        assert db.stat().st_size < 100_000
        assert sql(db, "PRAGMA auto_vacuum") == [(2,)]
        assert writer._connection.execute("PRAGMA temp_store").fetchone() == (2,)

    def test_a_full_vacuum_ends_when_there_is_no_time_for_it(
        self, db: Path, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A stop need not wait for it: all is as it was, and the next commit as ever."""
        monkeypatch.setattr(database, "VACUUM_STEPS", 10)
        writer.append([event(payload="x" * 2000, ts=NOON) for _ in range(400)], {})
        with pytest.raises(StoreError, match="there was no time left for it"):
            writer.vacuum(lambda: True)
        writer.append([event()], {})
        assert sql(db, "SELECT count(*) FROM logs") == [(401,)]
        assert sql(db, "PRAGMA integrity_check") == [("ok",)]

    def test_a_checkpoint_empties_the_wal(self, writer: LogWriter) -> None:
        """Its size is told, and is 0 afterwards."""
        writer.append([event()], {})
        assert writer.wal_bytes() > 0
        assert writer.checkpoint()
        assert writer.wal_bytes() == 0

    def test_a_checkpoint_does_not_wait_long_for_a_reader(
        self, db: Path, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a read open on an older state it gives up and says so; the next write is as patient as ever."""
        monkeypatch.setattr(database, "CHECKPOINT_WAIT_MS", 1)
        with closing(sqlite3.connect(db, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM logs").fetchall()
            writer.append([event()], {})
            assert not writer.checkpoint()
        assert writer._connection.execute("PRAGMA busy_timeout").fetchone() == (5000,)
        assert writer.checkpoint()

    def test_closing_twice_is_fine(self, db: Path, writer: LogWriter) -> None:
        """And leaves the database alone in its folder."""
        writer.append([event()], {})
        writer.close()
        writer.close()
        assert [path.name for path in db.parent.iterdir()] == ["logs.db"]
        assert writer.wal_bytes() == 0
