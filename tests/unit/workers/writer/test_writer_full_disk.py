"""On a bad disk everybody waits, nothing is lost, and whoever asks is told why."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from support.eventqueue import event, names
from support.writer import A_WHILE, Stage

from nerve.errors import StoreError
from nerve.eventqueue.group_commit import GROUP_SECONDS
from nerve.processes.messages import Finish, GetReport, WriterReport
from nerve.workers import writer as writer_module
from nerve.workers.writer import DISK_RETRY_SECONDS, ORPHAN_SECONDS


def test_producers_wait_for_a_full_disk(stage: Stage, naps: list[Callable[[], object]]) -> None:
    """Nothing is acknowledged and nothing lost; afterwards one entry tells about it."""
    lane = stage.producer()
    lane.publish(event("a"))
    stage.store.failures = 3
    settled: list[bool] = []
    naps += [lambda: settled.append(lane.lane.settled)] * 3
    stage.turns(1)
    assert settled == [False, False, False]
    assert names(stage.store.events) == ["a"]
    assert lane.lane.settled
    stage.clock.time += GROUP_SECONDS
    stage.turns(5)
    stage.clock.time += A_WHILE
    stage.turns(5)
    (error,) = stage.errors()
    assert error.kind == "disk"
    assert f"for {3 * DISK_RETRY_SECONDS:.1f} s (the disk is full)" in error.message


def test_the_kernel_is_told_why_nothing_is_written(stage: Stage, naps: list[Callable[[], object]]) -> None:
    """While the disk is full the writer still answers; afterwards there is no outage."""
    stage.producer().publish(event("a"))
    stage.store.failures = 2
    naps.append(lambda: stage.kernel.send(GetReport()))
    stage.turns(1)
    stage.kernel.send(GetReport())
    stage.turns(1)
    outages = [report.outage for report in stage.kernel.receive() if isinstance(report, WriterReport)]
    assert outages == ["the disk is full", None]


def test_finishing_on_a_full_disk_leaves_everything_in_its_lane(stage: Stage, naps: list[Callable[[], object]]) -> None:
    """Told to finish while it can't write, the writer says how much waits where; the next one writes all of it."""
    lane = stage.producer()
    lane.publish(event("a"), event("b"))
    stage.store.failures = 1_000_000
    naps += [lambda: None, lambda: [lane.publish(event("c")), stage.kernel.send(Finish())]]
    with pytest.raises(StoreError, match=r"the disk is full.*wait in .*data/run/lanes"):
        stage.writer.run()
    assert not naps
    assert [path.name for path in stage.folder.iterdir()] == ["p.lane"]
    stage.store.failures = 0
    stage.succeed()
    stage.turns(1)
    assert names(stage.store.events) == ["a", "b", "c"]


def test_an_orphan_gives_a_full_disk_up(stage: Stage, naps: list[Callable[[], object]]) -> None:
    """When the kernel is gone the writer tries for a moment more, and ends in time."""
    stage.producer().publish(event("a"))
    stage.store.failures = 1_000_000
    naps.append(stage.kernel.close)
    began = stage.clock.time
    with pytest.raises(StoreError, match="the next start writes them"):
        stage.writer.run()
    assert stage.clock.time - began == pytest.approx(ORPHAN_SECONDS, abs=2.1 * DISK_RETRY_SECONDS)


def test_between_attempts_it_hears_the_kernel_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message ends the pause; an orphan has nobody to hear, and does not spin."""
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    with monkeypatch.context() as patched:
        patched.setattr(writer_module, "DISK_RETRY_SECONDS", 3600)
        stage.kernel.send(Finish())
        stage.writer._pause()
    stage.kernel.close()
    stage.turns(2)
    stage.writer._pause()
    assert naps == [DISK_RETRY_SECONDS]
