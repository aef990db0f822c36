"""A log of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nerve.store.table.writer import LogWriter


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Give the path of a log that isn't there yet."""
    return tmp_path / "logs.db"


@pytest.fixture
def writer(db: Path) -> Iterator[LogWriter]:
    """Give the writer of an empty log; it is closed afterwards."""
    opened = LogWriter.open(db)
    yield opened
    opened.close()
