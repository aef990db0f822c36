"""A log of a million entries, nearly all of them in the archive: its answers are quick, in little memory."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.archives import at, folder_of, write_large, write_table
from support.commands import NERVE
from support.waiting import wait_until

from nerve.store.archive.restore import restore_day
from nerve.store.filters import Filter
from nerve.store.full_log import FullLog
from nerve.store.query import query_logs
from nerve.store.table.reader import LogReader
from nerve.store.utc_days import DAY_MS

ROWS_A_DAY, DAYS = 99_999, 9
ROWS_OF_A_LARGE_DAY = 300_000
MOST_BYTES = 100 * 1024 * 1024


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the log, in a workspace."""
    home = tmp_path_factory.mktemp("large")
    (home / "nerve.yaml").touch()
    (home / "data").mkdir()
    db = home / "data" / "logs.db"
    assert write_large(db, archived_days=DAYS, rows_a_day=ROWS_A_DAY) == 999_990
    return db


def test_all_of_it_comes_in_order_and_in_little_memory(large: Path) -> None:
    """Each entry once; the memory that it takes doesn't come near the size of the log."""
    process = psutil.Process()
    with FullLog(large) as log:
        before = process.memory_info().rss
        ids = (entry.id for entry in log.stream(Filter()))
        assert all(number == expected for expected, number in enumerate(ids, 1))
        assert process.memory_info().rss - before < MOST_BYTES / 2


def test_a_day_far_back_is_found_at_once(large: Path) -> None:
    """Only its file is read; so are the newest, when a few are wanted."""
    started = time.monotonic()
    assert len(query_logs(large, archived=True, type="reading", since=at(2), until=at(3) - 1)) == ROWS_A_DAY // 3
    assert [entry.id for entry in query_logs(large, archived=True, limit=2)] == [999_989, 999_990]
    assert time.monotonic() - started < 5


def told_by(db: Path, *arguments: str) -> str:
    """Run `nerve` on a log, in the memory that a command may take; give what it says."""
    out = db.parent / "out"
    with out.open("w") as file:
        process = psutil.Popen(
            [*NERVE, "--home", str(db.parent.parent), *arguments], stdout=file, stderr=subprocess.DEVNULL
        )
    most = 0

    def has_ended() -> bool:
        nonlocal most
        with suppress(psutil.Error):
            most = max(most, process.memory_info().rss)
        return process.poll() is not None

    wait_until(has_ended, f"nerve {arguments[0]} has ended", timeout=50)
    assert process.returncode == 0
    assert 0 < most < MOST_BYTES
    return out.read_text()


def test_it_is_verified_in_little_memory(large: Path) -> None:
    """By the command as a whole."""
    told = told_by(large, "verify")
    assert told.startswith("nerve: the log is whole: entries 1 to 999990, 99999 in the table and 899991 in 9 files of")


def test_all_its_runs_are_summed_up(large: Path) -> None:
    """Wherever they are: three entries each."""
    told = json.loads(told_by(large, "stats", "--archived", "--json"))
    assert [(sense["name"], sense["runs"], sense["failures"]) for sense in told["senses"]] == [("cpu", 333_330, 0)]


@pytest.mark.parametrize("day", [3, DAYS])
def test_a_run_is_traced_wherever_it_is(large: Path, day: int) -> None:
    """By its id, in a file of the archive or in the table."""
    run = query_logs(large, archived=True, type="run_start", since=at(day, DAY_MS // 2), until=at(day + 1), limit=1)[0]
    told = json.loads(told_by(large, "trace", run.ref_id or "", "--archived", "--json"))
    assert (told["root"], told["tree"]["run"], told["tree"]["status"]) == (run.ref_id, run.ref_id, "ok")


def test_a_large_day_is_archived_in_little_memory(tmp_path: Path) -> None:
    """By the command, while no engine runs: then all are in one file, and nothing is in the table."""
    (tmp_path / "nerve.yaml").touch()
    (tmp_path / "data").mkdir()
    db = tmp_path / "data" / "logs.db"
    write_table(db, ROWS_OF_A_LARGE_DAY)
    told_by(db, "archive", "--retention", "1d")
    with LogReader(db) as reader:
        assert {entry.type for entry in reader.query(Filter())} == {"archive"}
    with (folder_of(db) / "2026-11-01.jsonl").open("rb") as file:
        assert sum(1 for _line in file) == ROWS_OF_A_LARGE_DAY
    assert "the log is whole" in told_by(db, "verify")


def test_a_day_is_restored_with_all_its_entries(large: Path, tmp_path: Path) -> None:
    """In seconds."""
    restored = restore_day(folder_of(large), "2026-11-05", tmp_path / "day.db")
    assert restored.rows == ROWS_A_DAY
    [entry] = query_logs(tmp_path / "day.db", limit=1)
    assert entry.id == 5 * ROWS_A_DAY
