"""Fixtures of the tests of the event queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support.eventqueue import CountingClock, StepWriter, short_folder, tend

from nerve.eventqueue import Lane


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


MakeLane = Callable[..., Lane]


@pytest.fixture(params=[False, True], ids=["socket", "pipe"])
def make_lane(folder: Path, request: pytest.FixtureRequest) -> Iterator[MakeLane]:
    """Make lanes to the writer, by the name of their producer, of each kind; they are closed afterwards."""
    with ExitStack() as stack:

        def make(producer: str = "p", limit_bytes: int = 1024 * 1024) -> Lane:
            lane = Lane(folder / "events", producer, limit_bytes, piped=request.param)
            stack.callback(lane.close)
            return lane

        yield make


@pytest.fixture
def joined(writer: StepWriter, make_lane: MakeLane) -> MakeLane:
    """Make lanes that the writer has welcomed already."""

    def join(producer: str = "p", limit_bytes: int = 1024 * 1024) -> Lane:
        lane = make_lane(producer, limit_bytes)
        tend(lane)
        writer.turn()  # accepts
        writer.turn()  # welcomes
        tend(lane)
        return lane

    return join
