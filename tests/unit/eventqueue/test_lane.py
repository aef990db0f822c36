"""The producer's end of a lane: what is published stays, what is not published was never there."""

from __future__ import annotations

import errno
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.eventqueue import CountingClock, Producer, StepWriter, event, names, short_folder

from nerve.errors import WireError
from nerve.eventqueue import lane as lane_module
from nerve.eventqueue.lane import pack
from nerve.eventqueue.lane_file import HEAD, NEVER, TAIL, WAKE_AT

CAPACITY = 4096


def rung(writer: StepWriter) -> bool:
    """Return True if the wakeup has been rung since the last look."""
    ringing = bool(select.select([writer.wakeup], [], [], 0)[0])
    writer.wakeup.clear()
    return ringing


def test_what_is_published_is_read(writer: StepWriter) -> None:
    """In order, each once, and acknowledged to its producer."""
    producer = writer.producer()
    for name in "abc":
        assert producer.publish(event(name))
    assert not producer.lane.settled
    assert names(writer.commit().events) == ["a", "b", "c"]
    assert producer.lane.settled
    assert (producer.lane.tail, producer.words[TAIL]) == (producer.lane.head, producer.words[HEAD])
    assert writer.commit().events == []


def test_a_frame_without_its_head_was_never_there(writer: StepWriter) -> None:
    """A producer that dies before the last store has published nothing, however much of the frame it had written."""
    producer = writer.producer()
    producer.publish(event("a"))
    head = producer.words[HEAD]
    producer.publish(event("b"))
    producer.words[HEAD] = head
    producer.die()
    assert names(writer.commit().events) == ["a"]
    assert writer.receiver.lanes[0].corrupt is None


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, CAPACITY // 2 + 100), min_size=1, max_size=60))
def test_frames_go_round_the_ring(sizes: list[int]) -> None:
    """Whatever their sizes, also those that are larger than the half of it, and lie in files."""
    with short_folder() as folder:
        writer = StepWriter(folder, CountingClock())
        producer = writer.producer(capacity=CAPACITY)
        for n, size in enumerate(sizes):
            made = event(str(n), payload="x" * size)
            while not producer.publish(made):
                writer.commit()
        writer.commit()
        assert [(stored.type, len(stored.payload)) for stored in writer.log.events] == [
            (str(n), size) for n, size in enumerate(sizes)
        ]
        assert sorted(path.name for path in folder.iterdir()) == ["p.lane"]
        producer.die()
        writer.close()


def test_a_full_lane_takes_nothing_until_its_oldest_is_committed(writer: StepWriter) -> None:
    """Nothing that is not committed is overwritten."""
    producer = writer.producer(capacity=CAPACITY)
    count = 0
    while producer.publish(event(str(count), payload="x" * 100)):
        count += 1
    assert count > 10
    writer.gather()
    assert not producer.publish(event("too much"))
    writer.restart()
    assert len(writer.commit().events) == count
    assert producer.publish(event("next"))


def test_a_large_event_waits_in_a_file_of_its_own_until_it_is_committed(writer: StepWriter, folder: Path) -> None:
    """One at a time: the next event waits for its commit, as for any that fills a lane."""
    producer = writer.producer(capacity=CAPACITY)
    producer.publish(event("small"))
    assert producer.publish(event("large", payload="x" * 100_000))
    [body] = folder.glob("p.*.body")
    assert body.stat().st_mode & 0o777 == 0o600
    assert not producer.publish(event("next"))
    assert not producer.publish(event("large, too", payload="x" * 100_000))
    writer.gather()
    writer.restart()
    assert [len(stored.payload) for stored in writer.commit().events] == [4, 100_000]
    assert list(folder.glob("p.*.body")) == []
    assert producer.publish(event("next"))
    assert names(writer.commit().events) == ["next"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_large_event_on_a_full_disk_waits(
    writer: StepWriter, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It leaves nothing behind, and what is smaller goes on."""
    producer = writer.producer(capacity=CAPACITY)
    full: Callable[..., Any] = lambda *_: (_ for _ in ()).throw(OSError(number, "full"))  # noqa: E731
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", full)
        assert not producer.publish(event("large", payload="x" * 10_000))
    assert sorted(path.name for path in folder.iterdir()) == ["p.lane"]
    assert producer.publish(event("small"))
    assert producer.publish(event("large", payload="x" * 10_000))
    assert names(writer.commit().events) == ["small", "large"]


def test_a_large_event_that_can_not_be_written_for_another_reason_is_an_error(
    writer: StepWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting would not help."""
    producer = writer.producer(capacity=CAPACITY)

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(PermissionError):
        producer.publish(event("large", payload="x" * 10_000))


def test_what_is_too_large_at_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch has a bound, whoever made it."""
    monkeypatch.setattr(lane_module, "MAX_BODY", 1000)
    with pytest.raises(WireError, match="too large"):
        pack([event("a", payload="x" * 1000)])


def test_only_a_sleeping_writer_is_woken(writer: StepWriter) -> None:
    """By the first who publishes; a busy one looks by itself."""
    producer = writer.producer()
    producer.words[WAKE_AT] = NEVER
    producer.publish(event("a"))
    assert not rung(writer)
    writer.commit()
    writer.receiver.wake_on_publish()
    producer.publish(event("b"))
    assert rung(writer)
    assert producer.words[WAKE_AT] == NEVER
    producer.publish(event("c"))
    assert not rung(writer)


def test_a_writer_that_gathers_is_woken_before_the_lane_is_full(writer: StepWriter) -> None:
    """The producer need not wait for the end of the pause."""
    producer = writer.producer(capacity=CAPACITY)
    writer.receiver.wake_when_pressed()
    count = 0
    while not rung(writer):
        assert not writer.receiver.is_pressed
        assert producer.publish(event(str(count), payload="x" * 100))
        count += 1
    assert writer.receiver.is_pressed
    assert producer.publish(event("there is room left"))


def test_a_producer_that_waits_for_room_has_the_writer_woken_once(writer: StepWriter) -> None:
    """It has nothing to publish that would do so."""
    producer = writer.producer()
    writer.receiver.wake_on_publish()
    producer.lane.request_room()
    assert rung(writer)
    producer.lane.request_room()
    assert not rung(writer)


def test_a_lane_goes_on_where_its_file_stands(writer: StepWriter) -> None:
    """Also when it is opened again, as the kernel's is after a fork."""
    producer = writer.producer()
    producer.publish(event("a"))
    producer.die()
    again = Producer.__new__(Producer)
    again.lane = lane_module.Lane(producer.path, writer.wakeup)
    again.publish(event("b"))
    assert names(writer.commit().events) == ["a", "b"]
    again.die()
