"""A log with 300,000 entries, most of them in the archive: commands take little memory, and read no needless files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.archives import at, folder_of, write_large, write_table
from support.commands import NERVE
from support.waiting import wait_until

from nerve.store.archive.manifest import ManifestEntry
from nerve.store.archive.reader import ArchivedFiles
from nerve.store.archive.restore import restore_day
from nerve.store.archive.row_filter import RowFilter
from nerve.store.filters import Filter
from nerve.store.full_log import FullLog
from nerve.store.query import query_logs
from nerve.store.schema import Row
from nerve.store.table.reader import LogReader
from nerve.store.utc_days import DAY_MS

ROWS_A_DAY, DAYS = 30_000, 9
LAST_ID = ROWS_A_DAY * (DAYS + 1)
ROWS_OF_A_LARGE_DAY = 150_000
MOST_BYTES = 100 * 1024 * 1024
"""Limit on the memory of a command; 150,000 entries in a list would exceed it."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log, in a workspace."""
    home = tmp_path_factory.mktemp("large")
    (home / "nerve.yaml").touch()
    (home / "data").mkdir()
    db = home / "data" / "logs.db"
    assert write_large(db, archived_days=DAYS, rows_a_day=ROWS_A_DAY) == LAST_ID
    return db


def run(db: Path, *arguments: str) -> str:
    """Run `nerve` in the workspace of a log, within MOST_BYTES, and return its output."""
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


def test_streaming_a_large_log_takes_little_memory(large: Path) -> None:
    """Each entry comes once, in order, and the memory stays far below the size of the log."""
    process = psutil.Process()
    with FullLog(large) as log:
        before = process.memory_info().rss
        ids = (entry.id for entry in log.stream(Filter()))
        assert all(number == expected for expected, number in enumerate(ids, 1))
        assert process.memory_info().rss - before < MOST_BYTES / 2


def test_query_of_one_day_opens_its_file_only(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query of the newest entries opens no file."""
    opened, rows = [], ArchivedFiles.rows

    def keep_and_read(files: ArchivedFiles, entry: ManifestEntry, row_filter: RowFilter) -> Generator[Row, None, None]:
        opened.append(entry.file)
        yield from rows(files, entry, row_filter)

    monkeypatch.setattr(ArchivedFiles, "rows", keep_and_read)
    assert len(query_logs(large, archived=True, type="reading", since=at(2), until=at(3) - 1)) == ROWS_A_DAY // 3
    assert opened == ["2026-11-03.jsonl"]
    assert [entry.id for entry in query_logs(large, archived=True, limit=2)] == [LAST_ID - 1, LAST_ID]
    assert len(opened) == 1


def test_verify_takes_little_memory(large: Path) -> None:
    """The whole command stays below the limit."""
    report = json.loads(run(large, "verify", "--json"))
    assert (report["ok"], report["entries"], report["runs"]) == (True, LAST_ID, LAST_ID // 3)
    assert (report["table"], report["archive"], report["files"]) == (ROWS_A_DAY, ROWS_A_DAY * DAYS, DAYS)


def test_stats_count_all_runs_of_table_and_archive(large: Path) -> None:
    """A run has three entries."""
    statistics = json.loads(run(large, "stats", "--archived", "--json"))
    assert [(sense["name"], sense["runs"], sense["failures"]) for sense in statistics["senses"]] == [
        ("cpu", LAST_ID // 3, 0)
    ]


@pytest.mark.parametrize("day", [3, DAYS])
def test_run_is_traced_in_table_and_archive(large: Path, day: int) -> None:
    """The run is given by its full id."""
    start = query_logs(large, archived=True, type="run_start", since=at(day, DAY_MS // 2), until=at(day + 1), limit=1)[
        0
    ]
    trace = json.loads(run(large, "trace", start.ref_id or "", "--archived", "--json"))
    assert (trace["root"], trace["tree"]["run"], trace["tree"]["status"]) == (start.ref_id, start.ref_id, "ok")


def test_archiving_a_large_day_takes_little_memory(tmp_path: Path) -> None:
    """Without an engine, the command moves all rows to one file, and leaves only its own entry."""
    (tmp_path / "nerve.yaml").touch()
    (tmp_path / "data").mkdir()
    db = tmp_path / "data" / "logs.db"
    write_table(db, ROWS_OF_A_LARGE_DAY)
    run(db, "archive", "--retention", "1d")
    with LogReader(db) as reader:
        assert {entry.type for entry in reader.query(Filter())} == {"archive"}
    with (folder_of(db) / "2026-11-01.jsonl").open("rb") as file:
        assert sum(1 for _line in file) == ROWS_OF_A_LARGE_DAY
    assert json.loads(run(db, "verify", "--json"))["ok"]


def test_large_day_is_restored_with_all_its_entries(large: Path, tmp_path: Path) -> None:
    """The last entry has the last id of the day."""
    restored = restore_day(folder_of(large), "2026-11-05", tmp_path / "day.db")
    assert restored.rows == ROWS_A_DAY
    [entry] = query_logs(tmp_path / "day.db", limit=1)
    assert entry.id == 5 * ROWS_A_DAY
