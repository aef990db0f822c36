"""A run's deadline at any moment of `send`: never half a frame, never a held lock, never an event twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.eventqueue import StepWriter, event, names
from support.interrupters import installed_interrupter

from nerve.clock import SystemClock
from nerve.eventqueue import EventSender
from nerve.runtime.interruption import Interruption

RUNS = 400
LONGEST_SECONDS = 0.003


@pytest.fixture
def writer(folder: Path) -> Iterator[StepWriter]:
    """A writer with the clock of the machine."""
    with closing(StepWriter(folder, SystemClock())) as made:
        yield made


def test_an_interruption_at_any_moment_leaves_the_lane_whole(writer: StepWriter) -> None:
    """Every send that returned is committed, and of the one that was interrupted all or nothing."""
    rng = random.Random(7)
    with installed_interrupter() as interrupter:
        producer = writer.producer(capacity=64 * 1024)
        queue = EventSender(producer.lane, interrupter)
        for run in range(RUNS):
            returned: list[int] = []

            def log(run: int = run, returned: list[int] = returned) -> None:
                while True:
                    queue.send([event(f"{run}/{len(returned)}", payload="x" * 100)])
                    returned.append(len(returned))

            with pytest.raises(Interruption):
                interrupter.run(log, rng.uniform(0.0, LONGEST_SECONDS))
            assert queue._lock.acquire(blocking=False)
            queue._lock.release()
            assert interrupter._depth == 0
            stored = names(writer.commit().events)
            assert stored == [f"{run}/{n}" for n in range(len(stored))]
            assert len(returned) <= len(stored) <= len(returned) + 1
        assert [lane.corrupt for lane in writer.receiver.lanes] == [None]
        queue.close()
