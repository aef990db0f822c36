"""The recorder never blocks, loses nothing, and calls back when something is committed; at rest it asks for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from support.clock import FakeClock
from support.eventqueue import CountingClock, Producer, StepWriter, event, names, short_folder

from nerve.eventqueue.lane_file import NEVER, NOTIFY_AT
from nerve.kernel import recorder as recorder_module
from nerve.kernel.recorder import SECOND_LOOK_SECONDS, Recorder

CAPACITY = 16 * 1024


class Rig:
    """A recorder, and the writer at the other end of its lane."""

    def __init__(self, writer: StepWriter) -> None:
        self.writer = writer
        self.clock = FakeClock()
        self.producer: Producer = writer.producer("kernel", CAPACITY)
        self.served = True
        self.recorder = Recorder(self.producer.lane, self.clock, lambda: self.served)
        self.called: list[str] = []

    def submit(self, name: str, *, size: int = 0, called: bool = False) -> None:
        """Submit an event; with `called`, note when it is committed."""
        self.recorder.submit([event(name, payload="x" * size)], (lambda: self.called.append(name)) if called else None)

    @property
    def asks(self) -> bool:
        """The writer is to tell the kernel of a commit."""
        return self.producer.words[NOTIFY_AT] != NEVER


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A recorder that is full when half of its lane is."""
    monkeypatch.setattr(recorder_module, "RECORD_BYTES", CAPACITY // 2)
    with short_folder() as folder, closing(StepWriter(folder, CountingClock())) as writer:
        rig = Rig(writer)
        yield rig
        rig.recorder.close()


def test_what_is_submitted_is_out_at_once(rig: Rig) -> None:
    """The death of the kernel loses none of it."""
    rig.submit("a")
    rig.submit("b")
    assert rig.recorder.open
    assert (rig.recorder.settled, rig.recorder.unacknowledged) == (False, 2)
    assert names(rig.writer.commit().events) == ["a", "b"]
    assert (rig.recorder.settled, rig.recorder.unacknowledged) == (True, 0)


def test_before_there_was_a_writer_nothing_may_start(rig: Rig) -> None:
    """Though there is room."""
    rig.served = False
    assert not rig.recorder.open
    rig.served = True
    assert rig.recorder.open


def test_a_callback_comes_with_the_commit_and_in_order(rig: Rig) -> None:
    """Not when the event is submitted, and once."""
    for name in "abc":
        rig.submit(name, called=name != "b")
    rig.recorder.maintain()
    assert rig.called == []
    rig.writer.commit()
    rig.recorder.maintain()
    rig.recorder.maintain()
    assert rig.called == ["a", "c"]


def test_the_writer_is_asked_only_where_somebody_waits(rig: Rig) -> None:
    """Whatever nobody waits for is committed in silence."""
    rig.submit("a")
    rig.recorder.maintain()
    assert (rig.asks, rig.recorder.next_deadline()) == (False, None)
    rig.submit("b", called=True)
    rig.recorder.maintain()
    assert rig.asks
    assert rig.recorder.next_deadline() == rig.clock.time + SECOND_LOOK_SECONDS
    rig.clock.time += SECOND_LOOK_SECONDS
    rig.recorder.maintain()
    assert rig.asks
    assert rig.recorder.next_deadline() is None
    gathered = rig.writer.gather()
    assert rig.writer.receiver.acknowledge(gathered.positions)
    rig.recorder.notified()
    rig.recorder.maintain()
    assert (rig.called, rig.asks, rig.recorder.next_deadline()) == (["b"], False, None)


def test_a_question_that_the_writer_has_just_overwritten_is_asked_again(rig: Rig) -> None:
    """It answers the last question at the moment at which the next one is asked: its answer makes up for that."""
    rig.submit("a", called=True)
    rig.recorder.maintain()
    rig.writer.commit()
    rig.submit("b", called=True)
    rig.recorder.maintain()
    rig.producer.words[NOTIFY_AT] = NEVER
    rig.recorder.notified()
    rig.recorder.maintain()
    assert rig.asks


def test_a_full_recorder_lets_nothing_start_and_keeps_what_comes_all_the_same(rig: Rig) -> None:
    """In order, through its memory where the lane has no room at all; and it asks to be told of room."""
    sent = [str(n) for n in range(40)]
    for name in sent:
        rig.submit(name, size=1000, called=True)
    rig.recorder.maintain()
    assert not rig.recorder.open
    assert rig.recorder.unacknowledged == 40
    assert rig.asks
    while not rig.recorder.settled:
        rig.writer.commit()
        rig.recorder.maintain()
    rig.recorder.maintain()
    assert names(rig.writer.log.events) == sent
    assert rig.called == sent
    assert rig.recorder.open
    assert not rig.asks


def test_a_recorder_that_is_only_full_asks_for_room(rig: Rig) -> None:
    """Nobody waits for a commit, but runs wait for room."""
    while rig.recorder.open:
        rig.submit("a", size=1000)
    rig.recorder.maintain()
    assert rig.asks
    rig.writer.commit()
    rig.recorder.maintain()
    assert rig.recorder.open
    assert not rig.asks
