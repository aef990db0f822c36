"""Restoring a day: it can be queried like a log, and no other file is overwritten."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from support.archives import append, archive_before, at, folder_of
from support.entries import event, sql

from nerve.errors import DiskError, StoreError
from nerve.store.archive import restore
from nerve.store.archive.restore import Restored, restore_day
from nerve.store.query import query_logs
from nerve.store.verification.verify import verify

DAY, NEXT = "2026-11-01", "2026-11-02"


@pytest.fixture
def log(db: Path) -> Path:
    """A log of two archived days; the first has late entries in a second, compressed file."""
    append(db, [event(payload={"n": n}, ts=at(n % 2, n)) for n in range(20)])
    archive_before(db, 2)
    append(db, [event("late", payload="ü\n", ref_id=None, ts=at(0)), event("late", ts=at(2))])
    archive_before(db, 2, compress="zstd")
    return db


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A path in a folder that does not exist yet."""
    return tmp_path / "restored" / "day.db"


def test_restored_day_can_be_queried_like_the_log(log: Path, target: Path) -> None:
    """It has all entries of the day, unchanged, the late ones too."""
    expected = query_logs(log, archived=True, until=at(1) - 1)
    assert restore_day(folder_of(log), DAY, target) == Restored(11, 2, ())
    assert query_logs(target) == expected
    assert query_logs(target, type="late", archived=True) == expected[-1:]
    assert query_logs(log) == query_logs(log, type="late", since=at(2))


def test_restored_day_has_the_schema_of_the_log(log: Path, target: Path) -> None:
    """It is valid, readable by its owner alone, and has no WAL."""
    restore_day(folder_of(log), DAY, target)
    schema = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    assert sql(target, schema) == sql(log, schema)
    assert sql(target, "PRAGMA integrity_check") == [("ok",)]
    assert sql(target, "SELECT value FROM meta WHERE key IN ('restored_day', 'schema_version')") == [(DAY,), ("1",)]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_progress_is_reported_in_entries(log: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each report has the total."""
    monkeypatch.setattr(restore, "BATCH", 4)
    reports: list[tuple[int, int]] = []
    restore_day(folder_of(log), DAY, target, progress=lambda *progress: reports.append(progress))
    assert reports == [(4, 11), (8, 11), (11, 11)]


@pytest.mark.parametrize("name", ["2026-11-01.jsonl", "2026-11-01.1.jsonl.zst"])
def test_changed_file_raises_store_error(log: Path, target: Path, name: str) -> None:
    """It does so before a database is created."""
    path = folder_of(log) / name
    path.write_bytes(path.read_bytes()[:-2] + b" \n")
    with pytest.raises(StoreError, match=f"{name} is not what was archived .*: see `nerve verify`"):
        restore_day(folder_of(log), DAY, target)
    assert not target.parent.exists()
    path.unlink()
    with pytest.raises(StoreError, match=f"{name} can't be used: No such file"):
        restore_day(folder_of(log), DAY, target)


def test_missing_day_raises_store_error(log: Path, target: Path, tmp_path: Path) -> None:
    """The message has the days that exist."""
    with pytest.raises(
        StoreError, match=r"2026-11-03 \(UTC\) is not in the archive \(it has 2 days from 2026-11-01 to 20"
    ):
        restore_day(folder_of(log), "2026-11-03", target)
    with pytest.raises(StoreError, match="nothing has been archived yet"):
        restore_day(tmp_path / "none", DAY, target)


def test_only_a_restored_day_is_overwritten(log: Path, target: Path) -> None:
    """Without `force`, not even that."""
    restore_day(folder_of(log), DAY, target)
    with pytest.raises(StoreError, match=r"day.db already exists: .* with -o, or replace it with --force"):
        restore_day(folder_of(log), NEXT, target)
    assert len(query_logs(target)) == 11
    restore_day(folder_of(log), NEXT, target, force=True)
    assert len(query_logs(target)) == 10
    text = target.with_name("notes.txt")
    text.write_text("mine")
    for path in (log, text, target.parent):
        with pytest.raises(StoreError, match="is not the database of a restored day: name another file"):
            restore_day(folder_of(log), DAY, path, force=True)
    assert text.read_text() == "mine"
    assert verify(log, lambda *_: None).ok


def test_database_in_use_is_not_replaced(log: Path, target: Path) -> None:
    """Its WAL belongs to the existing database."""
    restore_day(folder_of(log), DAY, target)
    target.with_name("day.db-wal").touch()
    with pytest.raises(StoreError, match=r"day.db is in use \(day.db-wal exists\)"):
        restore_day(folder_of(log), DAY, target, force=True)


@pytest.mark.parametrize("error", [DiskError("full"), KeyboardInterrupt()])
def test_failed_restore_leaves_no_files(
    log: Path, target: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Neither an incomplete database nor a temporary file is left."""

    def fail(*_: Any) -> None:
        raise error

    with pytest.raises(type(error)):
        restore_day(folder_of(log), DAY, target, progress=fail)
    assert list(target.parent.iterdir()) == []


def test_wrong_count_in_the_manifest_raises_store_error(log: Path, target: Path) -> None:
    """A restored day has all entries in the manifest, or is not created."""
    manifest = folder_of(log) / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes().replace(b'"rows":10', b'"rows":11'))
    with pytest.raises(StoreError, match="2026-11-01 has 11 entries, the manifest says 12: see `nerve verify`"):
        restore_day(folder_of(log), DAY, target)
    assert list(target.parent.iterdir()) == []


def test_only_files_of_one_log_are_restored(log: Path, target: Path) -> None:
    """Another log has used the same ids: its files are named. Without a log id, the last log is restored."""
    (old,) = sql(log, "SELECT value FROM meta WHERE key = 'log_id'")[0]
    log.unlink()
    append(log, [event("new", ts=at(0))])
    [entry] = archive_before(log, 1)
    others = ("2026-11-01.jsonl", "2026-11-01.1.jsonl.zst")
    assert restore_day(folder_of(log), DAY, target) == Restored(1, 1, others)
    assert [found.type for found in query_logs(target)] == ["new"]
    assert restore_day(folder_of(log), DAY, target, log_id=old, force=True) == Restored(11, 2, (entry.file,))
    assert restore_day(folder_of(log), NEXT, target, log_id=entry.log_id, force=True).rows == 10
