"""Fixtures of the integration tests: every test starts the real command in its own folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.engine import Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A workspace with an engine to start; processes that are left are killed afterwards."""
    made = Engine()
    yield made
    made.destroy()
