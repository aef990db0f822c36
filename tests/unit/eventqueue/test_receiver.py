"""The writer's end of all lanes: what a commit holds and in which order, and what becomes of a lane."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.eventqueue import CountingClock, Producer, StepWriter, event, names, short_folder

from nerve.eventqueue.lane_file import NOTIFY_AT
from nerve.eventqueue.lane_reader import LaneReader

LATER = 1_000_000
"""A stamp that no test's clock reaches."""


def test_a_commit_is_acknowledged_to_each_producer(writer: StepWriter) -> None:
    """Each lane moves on as far as its own batches are committed."""
    one, two, three = writer.producer("one"), writer.producer("two"), writer.producer("three")
    one.publish(event("a"))
    one.publish(event("b"))
    two.publish(event("c"))
    writer.receiver.drain()
    assert writer.receiver.waiting == 3
    assert writer.commit().positions == {"one": one.lane.head, "two": two.lane.head}
    assert writer.receiver.waiting == 0
    assert [producer.lane.settled for producer in (one, two, three)] == [True, True, True]


def test_events_come_in_order_of_time(writer: StepWriter) -> None:
    """Batches of several producers are merged by their stamps; equal ones by the end of their batches."""
    one, two = writer.producer("one"), writer.producer("two")
    for _ in range(10):
        writer.clock.now()
    one.publish(event("1", 1), event("4", 4), event("5", 5))
    two.publish(event("2", 2), event("4 too", 4))
    two.publish(event("4 again", 4))
    writer.receiver.drain()
    assert names(writer.receiver.take(LATER, 100).events) == ["1", "2", "4 too", "4 again", "4", "5"]


def test_what_is_stamped_after_the_cutoff_waits(writer: StepWriter) -> None:
    """A batch belongs to the first commit whose cutoff is not before its last event."""
    producer = writer.producer()
    for _ in range(100):
        writer.clock.now()
    for stamps in ((10,), (5, 30), (20,)):
        producer.publish(*(event(str(stamp), stamp) for stamp in stamps))
    writer.receiver.drain()
    assert names(writer.receiver.take(9, 100).events) == []
    assert names(writer.receiver.take(29, 100).events) == ["10"]
    assert writer.receiver.waiting == 3
    gathered = writer.receiver.take(30, 100)
    assert names(gathered.events) == ["5", "20", "30"]
    assert gathered.positions == {"p": producer.lane.head}


def test_a_stamp_from_the_future_holds_nothing_up(writer: StepWriter) -> None:
    """An event can't be younger than the moment at which it is read."""
    producer = writer.producer()
    producer.publish(event("future", LATER))
    producer.publish(event("past", 3))
    writer.receiver.drain()
    assert names(writer.commit().events) == ["past", "future"]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_commit_is_bounded_and_takes_the_earliest(writer: StepWriter, *, backwards: bool) -> None:
    """A long backlog goes in several commits, the oldest first, whoever sent it; no busy producer keeps others out."""
    busy, other = writer.producer("busy"), writer.producer("other")
    stamps = [2 * n + 1 for n in range(20)]
    for stamp in reversed(stamps) if backwards else stamps:
        busy.publish(event("busy", stamp))
    other.publish(event("other", 2))
    for _ in range(100):
        writer.clock.now()
    writer.receiver.drain()
    commits = [writer.receiver.take(LATER, 5) for _ in range(5)]
    assert [len(commit.events) for commit in commits] == [5, 5, 5, 5, 1]
    assert ["other" in commit.positions for commit in commits] == [True, False, False, False, False]
    ends = [commit.positions["busy"] for commit in commits]
    assert ends == sorted(ends)
    assert ends[-1] == busy.lane.head


def test_a_large_backlog_is_read_piece_by_piece_and_committed_in_its_order(writer: StepWriter) -> None:
    """What a commit needs is read, from whichever lane is the oldest, and little more: a writer gets on at once."""
    producers = [writer.producer(f"p{n}", 1024 * 1024) for n in range(4)]
    made = 0
    for lane in (0, 1, 2, 3, 2, 1, 0, 3):
        for _ in range(1000):
            stamp = writer.clock.stamp().mono
            assert producers[lane].publish(event(str(made), stamp, "x" * 50))
            made += 1
    commits = []
    while len(writer.log.events) < made:
        cutoff = writer.clock.stamp().mono
        writer.receiver.drain(500)
        gathered = writer.receiver.take(cutoff, 500)
        assert writer.receiver.waiting < 500 + 2 * 3000
        writer.log.append(gathered.events, gathered.positions)
        writer.receiver.acknowledge(gathered.positions)
        commits.append(len(gathered.events))
    assert names(writer.log.events) == [str(n) for n in range(made)]
    assert min(commits) == 500
    assert not writer.receiver.has_news


def test_a_batch_larger_than_a_commit_is_taken_whole(writer: StepWriter) -> None:
    """A batch is committed with its position, so it is never divided."""
    producer = writer.producer()
    for _ in range(10):
        writer.clock.now()
    producer.publish(*(event(str(n), n) for n in (1, 2, 3)))
    producer.publish(event("4", 4))
    writer.receiver.drain()
    assert names(writer.receiver.take(LATER, 2).events) == ["1", "2", "3"]
    assert names(writer.receiver.take(LATER, 2).events) == ["4"]


class Race:
    """Three producers that publish by a list of turns, in which None ends what happens before, or after, one read."""

    def __init__(self, writer: StepWriter, producers: list[Producer], turns: list[int | None]) -> None:
        self._clock = writer.clock
        self._producers = producers
        self._turns = iter(turns)
        self.made: dict[str, int] = {}
        self.out: dict[str, int] = {}
        self._look = LaneReader.look

    def look(self, lane: LaneReader) -> None:
        """Look at a lane as the receiver would have, with something happening before and after."""
        self._publish()
        self._look(lane)
        self._publish()

    def _publish(self) -> None:
        for turn in self._turns:
            if turn is None:
                return
            name = f"event {len(self.made)}"
            self.made[name] = self._clock.stamp().mono
            assert self._producers[turn].publish(event(name, self.made[name]))
            self.out[name] = self._clock.stamp().mono


@settings(deadline=None)
@given(turns=st.lists(st.none() | st.integers(0, 2), max_size=60), max_events=st.sampled_from([1, 2, 3, 1000]))
@example(turns=[None] * 6 + [0, 1], max_events=1)
@example(turns=[None, 1, 0, None], max_events=1000)
def test_no_effect_is_committed_before_its_cause(turns: list[int | None], max_events: int) -> None:
    """Whatever is published while heads are read in turn, what was out before an event was made is committed first."""
    with short_folder() as folder, closing(StepWriter(folder, CountingClock())) as writer:
        producers = [writer.producer(f"p{n}") for n in range(3)]
        race = Race(writer, producers, turns)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(LaneReader, "look", lambda lane: race.look(lane))  # noqa: PLW0108 - a function becomes a method
            while len(writer.log.events) < len(turns) - turns.count(None):
                writer.commit(max_events)
        order = {name: n for n, name in enumerate(names(writer.log.events))}
        for cause, out in race.out.items():
            for effect, made in race.made.items():
                assert out > made or order[cause] < order[effect], (cause, effect)
        for producer in producers:
            producer.die()


def test_the_kernel_is_told_only_of_what_it_asked_for(writer: StepWriter) -> None:
    """Once for each question."""
    kernel, other = writer.producer("kernel"), writer.producer("other")
    kernel.publish(event("a"))
    assert not writer.receiver.acknowledge(writer.gather().positions)
    kernel.publish(event("b"))
    kernel.lane.notify_at(kernel.lane.head)
    other.publish(event("c"))
    gathered = writer.gather()
    assert not writer.receiver.acknowledge({"other": gathered.positions["other"]})
    assert writer.receiver.acknowledge({"kernel": gathered.positions["kernel"]})
    assert kernel.words[NOTIFY_AT] > kernel.lane.head
    kernel.publish(event("d"))
    assert not writer.receiver.acknowledge(writer.gather().positions)


def test_a_lane_ends_when_its_producer_is_gone_and_all_is_committed(writer: StepWriter, folder: Path) -> None:
    """Not before, whichever comes first; then nothing is left of it."""
    producer = writer.producer()
    producer.publish(event("last words"))
    [lane] = writer.receiver.lanes
    assert writer.receiver.ended() == []
    lane.gone = True
    assert writer.receiver.ended() == []
    gathered = writer.gather()
    assert writer.receiver.ended() == []
    writer.receiver.acknowledge(gathered.positions)
    assert writer.receiver.ended() == [lane]
    writer.receiver.remove([lane])
    assert writer.receiver.lanes == []
    assert list(folder.iterdir()) == []
    producer.die()


def test_a_lane_is_opened_once_and_only_if_it_is_there(writer: StepWriter) -> None:
    """To be told of it again changes nothing."""
    producer = writer.producer()
    producer.publish(event("a"))
    writer.receiver.drain()
    assert writer.receiver.open("p") is writer.receiver.lanes[0]
    assert writer.receiver.open("nobody") is None
    assert names(writer.commit().events) == ["a"]
    assert writer.reports == []


def test_the_backlog_is_what_each_lane_holds(writer: StepWriter) -> None:
    """Bytes that are not committed, and since when the oldest event waits."""
    one, two = writer.producer("one"), writer.producer("two")
    stamp = writer.clock.stamp().mono
    one.publish(event("a", stamp))
    one.publish(event("b", stamp + 5))
    first, second = writer.receiver.backlog()
    assert (first.producer, first.bytes, first.pid) == ("one", one.lane.head, second.pid)
    assert first.age_ms > 0
    assert (second.producer, second.bytes, second.age_ms) == ("two", 0, 0.0)
    assert two.lane.settled
