"""What the archiver orders and the kernel asks is done between commits, and answered."""

from __future__ import annotations

import pytest
from support.eventqueue import event, names
from support.writer import A_WHILE, Stage

from nerve.eventqueue.group_commit import GROUP_SECONDS
from nerve.maintenance.commit_rate import RATE_SECONDS
from nerve.maintenance.orders import AdaptiveBatchSize
from nerve.processes.messages import ArchiveNow, GetReport, WriterReport
from nerve.store.archive.order_messages import Conclude, Done, Purge, Record, Vacuum


def test_a_purge_goes_in_chunks_between_commits(stage: Stage) -> None:
    """It is answered with the number of rows, and holds nobody up meanwhile."""
    archiver, lane = stage.archiver(), stage.producer()
    first, second = AdaptiveBatchSize().size, AdaptiveBatchSize().after(AdaptiveBatchSize().size, 0.0).size
    stage.store.rows = first + second + 5
    archiver.send(Purge(7, "2026-11-23", 99))
    stage.turns(1)
    lane.publish(event("a"))
    stage.turns(1)
    assert stage.store.done == [f"purge {n} of 2026-11-23 up to 99" for n in (first, second)]
    assert names(stage.store.events) == ["a"]
    assert archiver.receive() == []
    stage.turns(1)
    assert archiver.receive() == [Done(7, first + second + 5)]
    assert stage.timeouts[-1] == 0
    stage.turns(1)
    assert stage.timeouts[-1] != 0


def test_a_purge_ends_where_its_order_does(stage: Stage) -> None:
    """So that the archiver hears of it every so many rows."""
    archiver = stage.archiver()
    stage.store.rows = 1000
    archiver.send(Purge(1, "2026-11-23", 99, most=AdaptiveBatchSize().size + 7))
    stage.turns(2)
    assert archiver.receive() == [Done(1, AdaptiveBatchSize().size + 7)]
    assert stage.store.rows == 1000 - AdaptiveBatchSize().size - 7


def test_a_purge_of_nothing_is_answered(stage: Stage) -> None:
    """There may be no row left of an order that is given twice."""
    archiver = stage.archiver()
    archiver.send(Purge(1, "2026-11-23", 99))
    stage.turns(1)
    assert archiver.receive() == [Done(1, 0)]


def test_an_order_that_fails_is_answered_with_the_reason(stage: Stage) -> None:
    """The next order is carried out all the same."""
    archiver = stage.archiver()
    stage.store.rows, stage.store.failures = 5, 1
    archiver.send(Purge(1, "2026-11-23", 99))
    archiver.send(Purge(2, "2026-11-23", 99))
    stage.turns(2)
    assert archiver.receive() == [Done(1, 0, "the disk is full"), Done(2, 5)]


def test_a_file_of_the_archive_is_recorded_on_order(stage: Stage) -> None:
    """Its event is committed when the archiver is told so."""
    archiver = stage.archiver()
    archiver.send(Record(1, event("moved"), 7))
    stage.turns(1)
    assert archiver.receive() == [Done(1, 0)]
    assert names(stage.store.events) == ["moved"]
    assert stage.store.done == ["recorded file 7"]


def test_the_file_is_rebuilt_on_order(stage: Stage) -> None:
    """It is answered when that is done, or couldn't be."""
    archiver = stage.archiver()
    archiver.send(Vacuum(2))
    stage.turns(1)
    assert archiver.receive() == [Done(2, 0)]
    assert stage.store.done == ["vacuum"]
    stage.store.failures = 1
    archiver.send(Vacuum(3))
    stage.turns(1)
    assert archiver.receive() == [Done(3, 0, "no room for a second copy")]


def test_unused_space_is_given_back_when_there_is_time(stage: Stage) -> None:
    """After a run of the archiver, in steps, none of them while events wait; then the writer sleeps again."""
    archiver, lane = stage.archiver(), stage.producer()
    stage.store.free_pages = AdaptiveBatchSize().size + 1
    lane.publish(event("first"))
    archiver.send(Conclude(1, 5, 2, 30))
    stage.turns(1)
    assert archiver.receive() == [Done(1, 0)]
    lane.publish(event("second"))
    stage.turns(2)
    assert stage.store.done == ["noted 30 rows in 2 files at 5"]
    stage.clock.time += GROUP_SECONDS
    stage.turns(3)
    assert names(stage.store.events) == ["first", "second"]
    assert stage.store.done[1:] == [f"{AdaptiveBatchSize().size} pages", "1 pages", "0 pages"]
    stage.clock.time += A_WHILE
    stage.turns(3)
    assert stage.timeouts[-1] is None


def test_it_reports_how_it_is(stage: Stage) -> None:
    """The kernel is told what is committed, how fast, how late, and what waits."""
    lane = stage.producer()
    stamp = stage.clock.stamp().mono
    stage.clock.time += 0.5
    lane.publish(event("a", stamp), event("b", stamp))
    stage.turns(1)
    lane.publish(event("c", stamp))
    stage.store.wal = 4096
    stage.turns(1)
    stage.kernel.send(GetReport())
    stage.turns(1)
    (report,) = stage.kernel.receive()
    assert isinstance(report, WriterReport)
    assert (report.committed, report.queue_depth, report.wal_bytes) == (2, 1, 4096)
    assert report.events_per_s == pytest.approx(2 / RATE_SECONDS)
    assert report.lag_ms == pytest.approx(500)


def test_a_message_that_is_not_for_it_is_only_noted(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The writer goes on."""
    stage.kernel.send(ArchiveNow(1.0, vacuum=False))
    stage.turns(1)
    assert "the kernel sent the writer a ArchiveNow" in caplog.text
    lane = stage.producer()
    lane.publish(event("a"))
    stage.turns(1)
    assert names(stage.store.events) == ["a"]
