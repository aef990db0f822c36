"""A pool that is ready."""

from __future__ import annotations

import pytest
from support.pool import PoolRig


@pytest.fixture
def rig() -> PoolRig:
    """Return a pool of two workers, both idle."""
    rig = PoolRig()
    rig.start()
    return rig
