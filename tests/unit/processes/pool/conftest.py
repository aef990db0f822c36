"""A pool that is ready."""

from __future__ import annotations

import pytest
from support.pool import Rig


@pytest.fixture
def rig() -> Rig:
    """Give a pool of two workers, both idle."""
    rig = Rig()
    rig.start()
    return rig
