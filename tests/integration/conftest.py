"""Fixtures of the integration tests: every test starts the real command in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.engine import Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Give a workspace of its own; whatever is left of its engine is killed afterwards."""
    made = Engine()
    yield made
    made.destroy()
