"""Fixtures of the tests of the event queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.eventqueue import CountingClock, StepWriter, short_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with short_folder() as made:
        yield made


@pytest.fixture
def writer(folder: Path) -> Iterator[StepWriter]:
    """A writer that the test drives step by step; every moment that it sees is another one."""
    with closing(StepWriter(folder, CountingClock())) as made:
        yield made
