"""A log of a million entries, nearly all of them in the archive: its answers are quick, in little memory."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.archives import at, folder_of, write_large
from support.commands import NERVE
from support.waiting import wait_until

from nerve.store import Filter, WholeLog, query_logs
from nerve.store.archive.restoring import restore_day

ROWS_A_DAY, DAYS = 99_999, 9
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
    with WholeLog(large) as log:
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


def test_it_is_verified_in_little_memory(large: Path, tmp_path: Path) -> None:
    """By the command as a whole."""
    arguments = ["--home", str(large.parent.parent), "verify"]
    with (tmp_path / "out").open("w") as out:
        process = psutil.Popen([*NERVE, *arguments], stdout=out, stderr=subprocess.DEVNULL)
    most = 0

    def has_ended() -> bool:
        nonlocal most
        with suppress(psutil.Error):
            most = max(most, process.memory_info().rss)
        return process.poll() is not None

    wait_until(has_ended, "the log is verified", timeout=50)
    told = (tmp_path / "out").read_text()
    assert told.startswith("nerve: the log is whole: entries 1 to 999990, 99999 in the table and 899991 in 9 files of")
    assert 0 < most < MOST_BYTES


def test_a_day_is_restored_with_all_its_entries(large: Path, tmp_path: Path) -> None:
    """In seconds."""
    restored = restore_day(folder_of(large), "2026-11-05", tmp_path / "day.db")
    assert restored.rows == ROWS_A_DAY
    [entry] = query_logs(tmp_path / "day.db", limit=1)
    assert entry.id == 5 * ROWS_A_DAY
