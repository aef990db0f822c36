"""The archiver with a real engine: old days leave the table for files, and nothing else is touched."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from contextlib import closing

import pytest
from support.engine import Engine
from support.entries import event, started

from nerve.clock import Stamp
from nerve.events.catalog import from_sense
from nerve.store.table.writer import LogWriter

DAY_MS = 86_400_000


def log_in_the_past(engine: Engine, days: int, rows: int) -> str:
    """Append rows that are `days` old, before any engine runs; give their UTC day."""
    ts = (time.time_ns() // 1_000_000 // DAY_MS - days) * DAY_MS + 1000
    engine.db.parent.mkdir(exist_ok=True)
    writer = LogWriter.open(engine.db)
    try:
        old = [from_sense(Stamp(ts + n, n), "old/0", "reading", {"n": n}) for n in range(rows)]
        writer.append(old, {})
    finally:
        writer.close()
    return time.strftime("%Y-%m-%d", time.gmtime(ts / 1000))


@pytest.fixture
def aged(engine: Engine) -> Engine:
    """A workspace with 3,000 entries of 40 days ago, and 10 of yesterday."""
    engine.config("senses: {}\nlogs: {retention: 30d}\n")
    log_in_the_past(engine, 40, 3000)
    log_in_the_past(engine, 1, 10)
    return engine


def archived(engine: Engine) -> list[dict[str, object]]:
    """Every entry in the archive's files, in order of file name."""
    files = sorted((engine.home / "data" / "archive" / "logs").glob("????-??-??*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_old_days_move_to_files_and_leave_the_table(aged: Engine) -> None:
    """At its start the archiver exports what is due; the writer deletes it; it is all recorded."""
    before = {entry.id: entry for entry in aged.rows("type = 'reading'")}
    aged.start()
    [event] = aged.until(lambda: aged.rows("source = 'system' AND type = 'archive'"), "the archive is recorded")
    aged.until(lambda: aged.how_many("type = 'reading'") == 10, "the old rows have left the table")
    entries = archived(aged)
    assert [entry["id"] for entry in entries] == list(range(1, 3001))
    for entry in entries[:: len(entries) // 7]:
        original = before[int(str(entry["id"]))]
        assert entry == {**original._asdict()}
    file = aged.home / "data" / "archive" / "logs" / str(event.payload["file"])
    assert event.payload["rows"] == 3000
    assert event.ref_id == file.name.removesuffix(".jsonl")
    assert event.payload["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert aged.status()["archiver"]["archived_up_to"] == event.ref_id
    assert aged.stop() == 0


def test_a_row_that_is_not_archived_can_not_be_deleted(aged: Engine) -> None:
    """After an archive run, too, DELETE and UPDATE fail for what is still in the table."""
    assert aged.run("archive").returncode == 0
    with closing(sqlite3.connect(aged.db)) as connection:
        for statement in ("DELETE FROM logs", "UPDATE logs SET payload = '{}'", "REPLACE INTO logs SELECT * FROM logs"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
    assert aged.how_many("type = 'reading'") == 10


def test_late_rows_of_an_archived_day_get_a_file_of_their_own(aged: Engine) -> None:
    """What arrives for a day that is archived already goes to `.1`, and no file is ever written again."""
    assert aged.run("archive").returncode == 0
    day = log_in_the_past(aged, 40, 5)
    folder = aged.home / "data" / "archive" / "logs"
    first = (folder / f"{day}.jsonl").read_bytes()
    assert aged.run("archive").returncode == 0
    assert (folder / f"{day}.jsonl").read_bytes() == first
    assert len((folder / f"{day}.1.jsonl").read_text().splitlines()) == 5
    assert len(archived(aged)) == 3005
    assert aged.how_many("type = 'reading'") == 10


def test_the_command_asks_a_running_engine_and_works_without_one(aged: Engine) -> None:
    """`nerve archive` gives the same with and without an engine, and --dry-run changes nothing."""
    planned = aged.run("archive", "--dry-run")
    assert planned.returncode == 0
    assert "3000 entries" in planned.stdout
    assert archived(aged) == []
    aged.start()
    aged.until(lambda: aged.how_many("type = 'reading'") == 10, "the archiver has done its first run")
    found = aged.run("archive", "--retention", "1s", "--vacuum")
    assert found.returncode == 0, found.stderr
    assert "10 entries" in found.stdout
    assert aged.how_many("type = 'reading'") == 0
    assert len(archived(aged)) == 3010
    assert aged.stop() == 0
    assert aged.run("archive").returncode == 0


def test_whoever_asked_hears_how_far_it_is(aged: Engine) -> None:
    """From the archiver through the kernel; here with no pause between one word and the next."""
    aged.config("senses: {}\nlogs: {retention: 60d}\n")
    aged.prelude = (
        "import nerve.cli.progress, nerve.workers.archiver\n"
        "nerve.cli.progress.LINE_SECONDS = nerve.workers.archiver.PROGRESS_SECONDS = 0.0\n"
    )
    aged.start()
    found = aged.run("archive", "--retention", "30d")
    assert found.returncode == 0, found.stderr
    assert "(1000/3000 archived, 0 deleted): 16%" in found.stderr
    assert "(3000/3000 archived, 3000 deleted): 100%" in found.stderr
    assert aged.how_many("type = 'reading'") == 10
    assert aged.stop() == 0


def test_an_open_run_stays_until_the_next_start_has_closed_it(aged: Engine) -> None:
    """Here of a boot that was killed; then it is archived, too, and all of it compressed from now on."""
    moment = aged.rows()[0].ts
    with closing(LogWriter.open(aged.db)) as writer:
        writer.append([started("old/1", ts=moment), event(ref_id="old/1", ts=moment)], {})
    assert aged.run("archive").returncode == 0
    assert [entry.ref_id for entry in aged.rows("ts = ?", moment)] == ["old/1", "old/1"]
    aged.config("senses: {}\nlogs: {retention: 30d, compress: zstd}\n")
    aged.start()
    aged.until(lambda: aged.how_many("ts = ?", moment) == 0, "the entries of the run have left the table")
    assert [entry.payload["status"] for entry in aged.runs("old")] == ["lost"]
    files = sorted(path.name for path in (aged.home / "data" / "archive" / "logs").glob("2*"))
    assert [name[10:] for name in files] == [".1.jsonl.zst", ".jsonl"]
    verified = aged.run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert aged.stop() == 0


def test_a_stray_file_and_a_log_too_large_are_problems_of_the_status(aged: Engine) -> None:
    """Archiving goes on; each is recorded once, however often the archiver looks."""
    aged.config("senses: {}\nlogs: {retention: 30d, archive_interval: 50ms, max_size: 1KB}\n")
    folder = aged.home / "data" / "archive" / "logs"
    folder.mkdir(parents=True)
    (folder / "2020-01-01.jsonl").write_text("mine\n")
    aged.start()
    aged.until(lambda: aged.how_many("type = 'reading'") == 0, "what can go has gone, also yesterday's entries")
    runs = aged.status()["archiver"]["last_ts"]
    aged.until(lambda: aged.status()["archiver"]["last_ts"] > runs, "another run is over")
    stray, large = aged.status()["problems"]
    assert "2020-01-01.jsonl" in stray
    assert "larger than logs.max_size" in large
    assert [entry.payload["kind"] for entry in aged.errors()] == ["archive", "disk"]
    assert [entry.payload["reason"] for entry in aged.rows("type = 'archive'")] == ["retention", "max_size"]
    assert aged.stop() == 0


def test_killing_the_archiver_again_and_again_loses_and_doubles_nothing(engine: Engine) -> None:
    """SIGKILL at any moment of its runs: in the end each row is in exactly one place."""
    engine.config("senses: {}\nlogs: {retention: 30d, archive_interval: 50ms}\n")
    for days in range(40, 52):
        log_in_the_past(engine, days, 2000)
    log_in_the_past(engine, 1, 10)
    engine.start()
    for _ in range(6):
        engine.child("archiver").kill()
    engine.until(lambda: engine.how_many("type = 'reading'") == 10, "all old rows have left the table", timeout=40)
    assert engine.stop() == 0
    ids = [entry["id"] for entry in archived(engine)]
    assert sorted(ids) == list(range(1, 24_001))
    assert len({entry.id for entry in engine.rows("type = 'reading'")}) == 10


def test_a_command_without_an_engine_says_everything_once(aged: Engine) -> None:
    """What is recorded, and would be in the engine's diagnostics, is not printed twice."""
    folder = aged.home / "data" / "archive" / "logs"
    folder.mkdir(parents=True)
    (folder / "2020-01-01.jsonl").write_text("mine\n")
    found = aged.run("archive")
    assert found.returncode == 0
    assert found.stderr.count("2020-01-01.jsonl") == 1
