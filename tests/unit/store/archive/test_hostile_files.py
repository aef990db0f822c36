"""An archive into which somebody has put files of their own: reading ends soon, and with one line."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from support.entries import event

from nerve.errors import StoreError
from nerve.store.archive.directory import read_manifest
from nerve.store.archive.manifest import ManifestEntry
from nerve.store.archive.restore import restore_day
from nerve.store.filters import Filter
from nerve.store.full_log import FullLog
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter
from nerve.store.verification.archive_check import MAX_DAMAGED_LINES
from nerve.store.verification.verify import verify

DAY = "2020-01-01"
LINE = b'{"id":%d,"source":"s","type":"t","ref_id":null,"payload":1,"ts":1577880000000}\n'


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Return a log whose archive has one file, which its manifest names; the test writes it."""
    path = tmp_path / "logs.db"
    with closing(LogWriter.open(path)) as writer:
        writer.append([event() for _ in range(20)], {})
    with closing(LogReader(path)) as reader:
        log_id = reader.meta("log_id") or ""
    folder = tmp_path / "archive" / "logs"
    folder.mkdir(parents=True)
    entry = ManifestEntry(
        day=DAY, file=f"{DAY}.jsonl", rows=2, first_id=1, last_id=2, sha256="", bytes=0, ts=1577966400000, log_id=log_id
    )
    (folder / "manifest.jsonl").write_bytes(msgspec.json.encode(entry) + b"\n")
    return path


def file_of(db: Path) -> Path:
    """Return the archive's file."""
    return db.parent / "archive" / "logs" / f"{DAY}.jsonl"


@pytest.mark.parametrize("wanted", [Filter(), Filter(type="x"), Filter(limit=50)])
def test_a_file_is_read_no_further_than_its_entries(db: Path, wanted: Filter) -> None:
    """A small file can have billions of lines."""
    file_of(db).write_bytes(b"".join(LINE % n for n in range(1, 10)))
    with FullLog(db) as log, pytest.raises(StoreError, match="it continues after its 2 entries"):
        log.query(wanted)


def test_a_check_stops_after_many_damaged_lines(db: Path) -> None:
    """They are counted so far, and the file is said to be damaged."""
    file_of(db).write_bytes(b"\n" * 50_000)
    report = verify(db, lambda *_: None, archive=file_of(db).parent, quick=True)
    assert not report.ok
    assert len(report.damage) + sum(report.left_out.values()) < MAX_DAMAGED_LINES + 20


@pytest.mark.parametrize("place", ["file", "manifest"])
def test_a_named_pipe_blocks_nothing(db: Path, tmp_path: Path, place: str) -> None:
    """Each way to read the archive refuses it."""
    path = file_of(db) if place == "file" else file_of(db).with_name("manifest.jsonl")
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(StoreError, match="is not a regular file"), FullLog(db) as log:
        log.query(Filter())
    with pytest.raises(StoreError, match="is not a regular file"):
        restore_day(path.parent, DAY, tmp_path / "restored.db")
    if place == "manifest":
        with pytest.raises(StoreError, match="is not a regular file"):
            read_manifest(path.parent)
    report = verify(db, lambda *_: None, archive=path.parent, quick=True)
    assert any("is not a regular file" in str(damage) for damage in report.damage)
