"""Fixtures: a log for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nerve.store.table.writer import LogWriter


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """The path of a log that does not exist yet."""
    return tmp_path / "logs.db"


@pytest.fixture
def writer(db: Path) -> Iterator[LogWriter]:
    """The writer of an empty log; it is closed afterwards."""
    opened = LogWriter.open(db)
    yield opened
    opened.close()
