"""Closing the log on a full disk: committed entries need no checkpoint."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.entries import event, sql

from nerve.errors import DiskError
from nerve.store.table.writer import LogWriter


@contextmanager
def full_disk(bytes: int = 4096) -> Iterator[None]:
    """Limit the files of this process to one page."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_closing_on_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """The checkpoint is skipped without an error, and the next reader finds every entry in the WAL."""
    writer = LogWriter.open(tmp_path / "logs.db")
    writer.append([event(payload="x" * 100) for _ in range(100)], {})
    with full_disk():
        with pytest.raises(DiskError):
            writer.checkpoint()
        writer.close()
    assert sql(tmp_path / "logs.db", "SELECT count(*) FROM logs") == [(100,)]
