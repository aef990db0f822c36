"""LogWriter: commits, positions, open runs, deletion and maintenance."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.clock import FakeClock
from support.entries import NOON, completed, event, sql, started

from nerve.clock import Stamp
from nerve.errors import DiskError, StoreError
from nerve.maintenance.checkpoints import is_large
from nerve.store.archive.order_messages import Conclude
from nerve.store.table import connection
from nerve.store.table.writer import INSERT_SIZES, LogWriter

MANY, FEW, _ = INSERT_SIZES

ROWS = "SELECT id, source, type, ref_id, payload, ts FROM logs ORDER BY id"


def meta(db: Path) -> dict[str, str]:
    """Return the table meta."""
    return dict(sql(db, "SELECT key, value FROM meta"))


def reopened(writer: LogWriter, db: Path) -> LogWriter:
    """Close a writer and reopen the log, as a restart does."""
    writer.close()
    return LogWriter.open(db)


@pytest.mark.parametrize("count", [1, FEW - 1, FEW, FEW + 1, MANY - 1, MANY, MANY + 1, 3 * MANY + 2 * FEW + 7])
def test_events_are_appended_in_order(db: Path, writer: LogWriter, count: int) -> None:
    """Each event becomes one row; ids are consecutive, however the rows are split into statements."""
    events = [event(f"t{n}", ref_id=None if n % 3 else f"r/{n}", payload={"n": n}, ts=NOON - n) for n in range(count)]
    writer.append(events, {})
    writer.append(events[:1], {})
    as_rows = [(e.source, e.type, e.ref_id, e.payload, e.ts) for e in [*events, events[0]]]
    assert sql(db, ROWS) == [(n, *row) for n, row in enumerate(as_rows, 1)]
    assert writer.committed == count + 1


def test_commits_alone_keep_the_wal_small(writer: LogWriter) -> None:
    """SQLite empties it by itself, though not after each commit."""
    group = [event("reading", ref_id=f"r/{n}", payload={"n": n}) for n in range(10_000)]
    sizes = []
    for _ in range(8):
        writer.append(group, {})
        sizes.append(writer.wal_bytes())
    assert sizes[1] > sizes[0]
    assert not is_large(max(sizes))


def test_positions_are_committed_with_their_events(db: Path) -> None:
    """A producer's position is known after a restart, with the time of the commit; that of an unknown one is 0."""
    writer = LogWriter.open(db, FakeClock(wall_ms=NOON))
    writer.append([event()], {"kernel": 3, "worker-1": 1})
    writer.append([], {"kernel": 4})
    assert json.loads(meta(db)["lane:kernel"]) == {"seq": 4, "ts": NOON}
    writer = reopened(writer, db)
    assert [writer.position(name) for name in ("kernel", "worker-1", "nobody")] == [4, 1, 0]
    writer.close()


def test_empty_append_makes_no_commit(db: Path, writer: LogWriter) -> None:
    """The file stays unchanged."""
    version = sql(db, "PRAGMA data_version")
    writer.append([], {})
    assert sql(db, "PRAGMA data_version") == version
    assert writer.wal_bytes() == Path(f"{db}-wal").stat().st_size


def test_positions_are_deleted_only_on_request(db: Path) -> None:
    """Another boot does not delete them: the lanes that they are of may still be there."""
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


def test_damaged_position_raises_store_error(db: Path, writer: LogWriter) -> None:
    """The message has the damaged value."""
    sql(db, "INSERT INTO meta VALUES ('lane:x', 'seven')")
    with pytest.raises(StoreError, match=r"damaged position.*seven"):
        writer.position("x")


def test_damaged_settled_below_prevents_opening(db: Path, writer: LogWriter) -> None:
    """A writer must know which runs are open."""
    writer.close()
    sql(db, "INSERT INTO meta VALUES ('settled_below', 'all')")
    with pytest.raises(StoreError, match="damaged settled_below in its table meta: 'all'"):
        LogWriter.open(db)


class TestFailedCommits:
    """A failed commit has changed nothing, and can be repeated."""

    def check(self, db: Path, writer: LogWriter) -> None:
        """Assert that no part of a failed batch was committed, and that the next one is committed completely."""
        assert sql(db, "SELECT count(*) FROM logs WHERE type = 'failing'") == [(0,)]
        assert (writer.position("p"), writer.committed) == (1, 1)
        assert list(writer._open_runs) == ["cpu/open"]
        writer.append([completed("cpu/open"), started("cpu/2")], {"p": 2})
        assert sql(db, "SELECT id FROM logs ORDER BY id") == [(1,), (2,), (3,)]
        assert meta(db)["settled_below"] == "3"
        assert list(writer._open_runs) == ["cpu/2"]

    @pytest.fixture
    def begun(self, writer: LogWriter) -> LogWriter:
        """A writer with one commit and one open run."""
        writer.append([started("cpu/open")], {"p": 1})
        return writer

    def test_full_disk(self, db: Path, begun: LogWriter) -> None:
        """It raises DiskError, and the batch is rolled back."""
        (pages,) = begun._connection.execute("PRAGMA page_count").fetchone()
        begun._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        failing = [completed("cpu/open"), *(event("failing", payload="x" * 1000) for _ in range(200))]
        with pytest.raises(DiskError, match="the disk is full"):
            begun.append(failing, {"p": 2})
        begun._connection.execute("PRAGMA max_page_count = 1000000")
        self.check(db, begun)

    def test_value_out_of_range(self, db: Path, begun: LogWriter) -> None:
        """It raises a StoreError that is not a DiskError: a retry can't help."""
        failing = [completed("cpu/open"), event("failing"), event("failing", ts=2**63)]
        with pytest.raises(StoreError, match="can't hold a value") as caught:
            begun.append(failing, {"p": 2})
        assert not isinstance(caught.value, DiskError)
        self.check(db, begun)

    def test_lock_of_another_program(self, db: Path, begun: LogWriter) -> None:
        """It raises DiskError: the other program may release it."""
        begun._connection.execute("PRAGMA busy_timeout = 0")
        failing = [completed("cpu/open"), event("failing")]
        with closing(sqlite3.connect(db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DiskError, match="locked by another program"):
                begun.append(failing, {"p": 2})
        self.check(db, begun)

    def test_interrupt_during_a_commit(self, db: Path, begun: LogWriter) -> None:
        """The transaction does not stay open."""

        class Interrupting(list[Any]):
            def __getitem__(self, at: Any) -> Any:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            begun.append(Interrupting([completed("cpu/open"), event("failing")]), {"p": 2})
        self.check(db, begun)


class TestOpenRuns:
    """The log knows which runs are open, across restarts."""

    def test_settled_below_follows_the_oldest_open_run(self, db: Path, writer: LogWriter) -> None:
        """All runs below it are complete; it is written only when it changes."""
        writer.append([started("a"), started("b"), completed("b")], {})
        assert "settled_below" not in meta(db)  # it is 1 by default
        writer.append([completed("a"), event(), started("c")], {})
        assert meta(db)["settled_below"] == "6"
        writer.append([completed("c")], {})
        assert meta(db)["settled_below"] == "8"

    def test_open_runs_are_recalled_from_settled_below_on(self, db: Path, writer: LogWriter) -> None:
        """A start below it is ignored."""
        writer.append([started("a"), started("b"), completed("b"), started("c")], {})
        writer = reopened(writer, db)
        assert list(writer._open_runs) == ["a", "c"]
        sql(db, "INSERT INTO meta VALUES ('settled_below', '2')")
        writer = reopened(writer, db)
        assert list(writer._open_runs) == ["c"]
        writer.close()

    def test_new_boot_completes_the_open_runs_of_the_last_one(self, db: Path, writer: LogWriter) -> None:
        """Each gets an error and a completion, in the order of their start; complete runs get nothing."""
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

    def test_restarted_writer_keeps_open_runs_open(self, db: Path, writer: LogWriter) -> None:
        """In the same boot the runs continue, and complete later."""
        writer.begin_boot("boot-1", Stamp(NOON, 0))
        writer.append([started("a/1")], {})
        writer = reopened(writer, db)
        assert writer.begin_boot("boot-1", Stamp(NOON, 0)) == 0
        assert sql(db, "SELECT count(*) FROM logs") == [(1,)]
        assert list(writer._open_runs) == ["a/1"]
        writer.close()


class TestPurge:
    """Archived rows are deleted in chunks, and no other rows can be."""

    DAY = "2023-11-15"

    def test_day_is_deleted_in_chunks(self, db: Path, writer: LogWriter) -> None:
        """A chunk smaller than its limit is the last; other days and later ids stay."""
        day = [event(ts=NOON + n) for n in (5, 1, 4, 2, 3)]
        writer.append([event(ts=NOON - 86_400_000), *day, event(ts=NOON + 86_400_000), event(ts=NOON)], {})
        assert [writer.purge_chunk(self.DAY, 7, limit=2) for _ in range(4)] == [2, 2, 1, 0]
        assert sql(db, "SELECT id FROM logs ORDER BY id") == [(1,), (7,), (8,)]

    def test_entries_of_open_runs_are_not_deleted(self, db: Path, writer: LogWriter) -> None:
        """They are not in the archive; rows without a ref_id belong to no run."""
        writer.append([event(ref_id=ref) for ref in ("a/1", None, "b/1", "a/1", "c")], {})
        assert writer.purge_chunk(self.DAY, 5, 10, ("a/1", "b/1")) == 2
        assert sql(db, "SELECT id FROM logs ORDER BY id") == [(1,), (3,), (4,)]
        assert writer.purge_chunk(self.DAY, 5, 10, ("a/1", "b/1")) == 0

    def test_watermark_covers_deleted_rows_and_never_decreases(self, db: Path, writer: LogWriter) -> None:
        """It is the end of the day, and the greatest deleted id."""
        writer.append([event(ts=NOON), event(ts=NOON), event(ts=5), event(ts=NOON)], {})
        writer.purge_chunk(self.DAY, 2)
        assert (meta(db)["watermark_ts"], meta(db)["watermark_id"]) == ("1700092800000", "2")
        writer.purge_chunk("1970-01-01", 3)
        assert (meta(db)["watermark_ts"], meta(db)["watermark_id"]) == ("1700092800000", "3")
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            sql(db, "DELETE FROM logs WHERE id = 4")

    def test_each_archive_file_is_recorded_once(self, db: Path, writer: LogWriter) -> None:
        """It is identified by its number, also by the next writer."""
        for number in (1, 2, 1, 2):
            writer.record_file(event(f"file {number}"), number)
        with closing(LogWriter.open(db)) as successor:
            successor.record_file(event("file 2"), 2)
            successor.record_file(event("file 3"), 3)
        assert [row[0] for row in sql(db, "SELECT type FROM logs ORDER BY id")] == ["file 1", "file 2", "file 3"]

    def test_last_run_of_the_archiver_is_remembered(self, db: Path, writer: LogWriter) -> None:
        """A later run replaces it."""
        writer.note_archive_run(Conclude(0, ts=5, files=1, rows=2))
        writer.note_archive_run(Conclude(0, ts=6, files=0, rows=0))
        assert json.loads(meta(db)["archive_run"]) == {"ts": 6, "files": 0, "rows": 0}

    @pytest.mark.parametrize("day", ["2023-13-01", "", "yesterday"])
    def test_invalid_day_is_refused(self, writer: LogWriter, day: str) -> None:
        """Orders come from another process, and are checked."""
        with pytest.raises(StoreError, match="is not a valid day"):
            writer.purge_chunk(day, 1)


class TestMaintenance:
    """The size of the file is kept small."""

    def fill(self, writer: LogWriter) -> None:
        """Write some hundred pages, and delete them again."""
        writer.append([event(payload="x" * 2000, ts=NOON) for _ in range(400)], {})
        writer.purge_chunk("2023-11-15", 400)

    def test_incremental_vacuum_frees_a_number_of_pages(self, db: Path, writer: LogWriter) -> None:
        """It returns how many, at last 0; a checkpoint then makes the file smaller."""
        self.fill(writer)
        writer.checkpoint()
        before = db.stat().st_size
        freed = [writer.incremental_vacuum(64)]
        assert freed == [64]
        while freed[-1]:
            freed.append(writer.incremental_vacuum(64))
        assert writer.checkpoint()
        assert db.stat().st_size == before - 4096 * sum(freed)

    def test_vacuum_rebuilds_the_file(self, db: Path, writer: LogWriter) -> None:
        """There are no unused pages then, and auto_vacuum stays as it was."""
        self.fill(writer)
        writer.vacuum()
        assert sql(db, "PRAGMA freelist_count") == [(0,)]
        assert db.stat().st_size < 100_000
        assert sql(db, "PRAGMA auto_vacuum") == [(2,)]
        assert writer._connection.execute("PRAGMA temp_store").fetchone() == (2,)

    def test_vacuum_is_cancelled_when_the_writer_must_end(
        self, db: Path, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file stays as it was, and the next commit succeeds."""
        monkeypatch.setattr(connection, "VACUUM_STEPS", 10)
        writer.append([event(payload="x" * 2000, ts=NOON) for _ in range(400)], {})
        with pytest.raises(StoreError, match="there was no time left for it"):
            writer.vacuum(lambda: True)
        writer.append([event()], {})
        assert sql(db, "SELECT count(*) FROM logs") == [(401,)]
        assert sql(db, "PRAGMA integrity_check") == [("ok",)]

    def test_checkpoint_empties_the_wal(self, writer: LogWriter) -> None:
        """Its size is 0 then."""
        writer.append([event()], {})
        assert writer.wal_bytes() > 0
        assert writer.checkpoint()
        assert writer.wal_bytes() == 0

    def test_checkpoint_does_not_wait_long_for_a_reader(
        self, db: Path, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It returns False if a read of an older state is open; the timeout of later writes is as before."""
        monkeypatch.setattr(connection, "CHECKPOINT_WAIT_MS", 1)
        with closing(sqlite3.connect(db, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM logs").fetchall()
            writer.append([event()], {})
            assert not writer.checkpoint()
        assert writer._connection.execute("PRAGMA busy_timeout").fetchone() == (5000,)
        assert writer.checkpoint()

    def test_close_may_be_called_twice(self, db: Path, writer: LogWriter) -> None:
        """The database is then the only file in its folder."""
        writer.append([event()], {})
        writer.close()
        writer.close()
        assert [path.name for path in db.parent.iterdir()] == ["logs.db"]
        assert writer.wal_bytes() == 0
