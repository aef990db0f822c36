"""The writer's end: what a commit holds and in which order, and that no producer can do the others harm."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from multiprocessing.connection import Client
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.eventqueue import CountingClock, StepWriter, event, names, short_folder, tend

from nerve.eventqueue import Done, Lane, Purge, Vacuum, receiver
from nerve.eventqueue.messages import Ack, Batch, FromWriter, Goodbye, Hello, Welcome
from nerve.ipc import channel as wire
from nerve.ipc.channel import Channel, pack

MakeLane = Callable[..., Lane]
LATER = 1_000_000
"""A stamp that no test's clock reaches."""


class Producer:
    """A process that has joined, and says what the test has it say."""

    def __init__(self, writer: StepWriter, *messages: msgspec.Struct) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(writer.address))
        self._writer = writer
        self.channel: Channel[FromWriter] = Channel(sock, FromWriter)
        self.say(*messages)

    def say(self, *messages: msgspec.Struct) -> None:
        """Send messages, and have the writer handle them."""
        for message in messages:
            self.channel.send(message)
        self._writer.receiver.drain()

    def hear(self) -> list[FromWriter]:
        """Take what the writer has said."""
        return self.channel.receive()

    @property
    def disconnected(self) -> bool:
        """The writer has hung up."""
        self.channel.receive()
        self.channel.receive()
        return self.channel.ended


Join = Callable[..., Producer]


@pytest.fixture
def join(writer: StepWriter) -> Iterator[Join]:
    """Have processes join that begin with these messages; they leave at the end."""
    with ExitStack() as stack:

        def make(*messages: msgspec.Struct) -> Producer:
            producer = Producer(writer, *messages)
            stack.callback(producer.channel.close)
            return producer

        yield make


def batch(seq: int, *stamps: int) -> Batch:
    """Make a batch of events with these stamps."""
    return Batch(seq, [event(f"{seq}@{stamp}", stamp) for stamp in stamps or (1,)])


# What a commit holds.


def test_a_commit_is_acknowledged_to_each_producer(writer: StepWriter, join: Join) -> None:
    """Each producer hears how far its own batches are committed, and those without any hear nothing."""
    one, two, three = join(Hello("one")), join(Hello("two")), join(Hello("three"))
    one.say(batch(1), batch(2))
    two.say(batch(1))
    assert writer.receiver.producers == 3
    assert writer.receiver.waiting == 3
    assert writer.commit().positions == {"one": 2, "two": 1}
    assert writer.receiver.waiting == 0
    assert one.hear() == [Welcome(0), Ack(2)]
    assert two.hear() == [Welcome(0), Ack(1)]
    assert three.hear() == [Welcome(0)]


def test_events_come_in_order_of_time(writer: StepWriter, join: Join) -> None:
    """Batches of several producers are merged by their stamps; equal stamps keep the order of their arrival."""
    one, two = join(Hello("one")), join(Hello("two"))
    one.say(Batch(1, [event("1", 1), event("4", 4), event("5", 5)]))
    two.say(Batch(1, [event("2", 2), event("4 too", 4)]), Batch(2, [event("4 again", 4)]))
    assert names(writer.receiver.take(LATER, 100).events) == ["1", "2", "4", "4 too", "4 again", "5"]


def test_what_is_stamped_after_the_cutoff_waits(writer: StepWriter, join: Join) -> None:
    """A batch belongs to the first commit whose cutoff is not before its last event."""
    producer = join(Hello("p"))
    for _ in range(100):
        writer.clock.now()
    producer.say(batch(1, 10), batch(2, 5, 30), batch(3, 20))
    assert names(writer.receiver.take(9, 100).events) == []
    assert names(writer.receiver.take(29, 100).events) == ["1@10"]
    assert writer.receiver.waiting == 3
    gathered = writer.receiver.take(30, 100)
    assert names(gathered.events) == ["2@5", "3@20", "2@30"]
    assert gathered.positions == {"p": 3}


def test_a_stamp_from_the_future_holds_nothing_up(writer: StepWriter, join: Join) -> None:
    """Who joins with another clock is committed like everybody else: its events can't be younger than their arrival."""
    producer = join(Hello("p"))
    producer.say(batch(1, LATER), batch(2, 3))
    assert names(writer.commit().events) == ["2@3", f"1@{LATER}"]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_commit_is_bounded_and_takes_the_earliest(writer: StepWriter, join: Join, *, backwards: bool) -> None:
    """A long backlog goes in several commits, the oldest first, whoever sent it; no busy producer keeps others out."""
    busy, other = join(Hello("busy")), join(Hello("other"))
    stamps = [2 * n + 1 for n in range(20)]
    for seq, stamp in enumerate(reversed(stamps) if backwards else stamps, 1):
        busy.say(batch(seq, stamp))
    other.say(batch(1, 2))
    commits = [writer.receiver.take(LATER, 5) for _ in range(5)]
    assert [len(commit.events) for commit in commits] == [5, 5, 5, 5, 1]
    assert [commit.positions for commit in commits] == [
        {"busy": 4, "other": 1},
        *({"busy": n} for n in (9, 14, 19, 20)),
    ]
    assert writer.receiver.waiting == 0


def test_a_batch_larger_than_a_commit_is_taken_whole(writer: StepWriter, join: Join) -> None:
    """A batch is committed with its position, so it is never divided."""
    producer = join(Hello("p"))
    producer.say(batch(1, 1, 2, 3), batch(2, 4))
    assert names(writer.receiver.take(LATER, 2).events) == ["1@1", "1@2", "1@3"]
    assert names(writer.receiver.take(LATER, 2).events) == ["2@4"]


class Race:
    """Three producers that send by a list of turns, in which None ends what happens before, or after, one read."""

    def __init__(self, writer: StepWriter, lanes: list[Lane], turns: list[int | None]) -> None:
        self._clock = writer.clock
        self._lanes = lanes
        self._turns = iter(turns)
        self.made: dict[str, int] = {}
        self.out: dict[str, int] = {}
        for inlet in writer.receiver._inlets:
            inlet.channel.receive = partial(self.receive, inlet.channel.receive)

    def receive(self, receive: Callable[[], list[Any]]) -> list[Any]:
        """Receive what an inlet has, as the receiver would have."""
        self._send()
        messages = receive()
        self._send()
        return messages

    def _send(self) -> None:
        for turn in self._turns:
            if turn is None:
                return
            name = f"event {len(self.made)}"
            self.made[name] = self._clock.stamp().mono
            self._lanes[turn].submit([event(name, self.made[name])])
            assert self._lanes[turn].clear
            self.out[name] = self._clock.stamp().mono


@settings(deadline=None)
@given(turns=st.lists(st.none() | st.integers(0, 2), max_size=60), max_events=st.sampled_from([1, 2, 3, 1000]))
@example(turns=[None] * 6 + [0, 1], max_events=1)
def test_no_effect_is_committed_before_its_cause(turns: list[int | None], max_events: int) -> None:
    """Whatever is sent while a drain goes from lane to lane, what was out before an event was made comes no later."""
    with short_folder() as folder, closing(StepWriter(folder, CountingClock())) as writer, ExitStack() as stack:
        lanes = [stack.enter_context(closing(Lane(writer.address, f"p{n}"))) for n in range(3)]
        for _ in range(2):
            for lane in lanes:
                tend(lane)
            writer.receiver.drain()
        race = Race(writer, lanes, turns)
        while len(writer.log.events) < len(turns) - turns.count(None):
            writer.commit(max_events)
        committed = {name: n for n, commit in enumerate(writer.log.commits) for name in names(commit)}
        for cause, out in race.out.items():
            for effect, made in race.made.items():
                assert out > made or committed[cause] <= committed[effect], (cause, effect)


# Producers that come back, and those that go.


def test_what_a_producer_sent_before_it_went_is_committed(writer: StepWriter, join: Join) -> None:
    """The batches of a dead producer count, its half frame does not, and its connection is forgotten."""
    producer = join(Hello("p"))
    producer.channel.send(batch(1))
    producer.channel.send_frame(pack(batch(2))[:-1])
    producer.channel.close()
    assert writer.commit().positions == {"p": 1}
    writer.turn()
    assert writer.receiver.producers == 0
    assert writer.log.positions == {"p": 1}
    assert writer.offences == []


def test_an_acknowledgement_that_finds_nobody_takes_nothing_away(writer: StepWriter, join: Join) -> None:
    """What a producer sent between its first commit and its death is read, though it can't be told so."""
    producer = join(Hello("p"))
    producer.say(batch(1))
    gathered = writer.gather()
    producer.channel.send(batch(2))
    producer.channel.close()
    writer.receiver.acknowledge(gathered.positions)
    assert writer.commit().positions == {"p": 2}


def test_a_producer_that_comes_back_loses_and_doubles_nothing(writer: StepWriter, join: Join) -> None:
    """While its first connection still has batches waiting, a second one is welcomed at what is committed."""
    first = join(Hello("p"))
    first.say(batch(1))
    writer.commit()
    first.say(batch(2), batch(3))
    first.channel.send(batch(4))  # sent, but not yet read
    second = join(Hello("p", 1))
    assert second.hear() == [Welcome(1)]
    second.say(batch(2), batch(3), batch(4), batch(5))
    assert first.disconnected
    assert writer.receiver.producers == 1
    gathered = writer.commit()
    assert names(gathered.events) == ["2@1", "3@1", "4@1", "5@1"]
    assert gathered.positions == {"p": 5}
    assert second.hear() == [Ack(5)]
    assert writer.offences == []


def test_connections_may_overlap_in_any_order(writer: StepWriter, join: Join) -> None:
    """Of three connections of one producer the last to introduce itself counts; nothing that waits is lost."""
    third, second, first = join(), join(), join(Hello("p"))
    first.say(batch(1))
    second.say(Hello("p"), batch(1), batch(2))
    third.say(Hello("p"), batch(1), batch(2), batch(3))
    assert first.disconnected
    assert second.disconnected
    assert names(writer.commit().events) == ["1@1", "2@1", "3@1"]
    assert third.hear() == [Welcome(0), Ack(3)]


def test_what_is_left_on_an_old_connection_counts(writer: StepWriter, join: Join) -> None:
    """A producer that comes back and dies before it could send again has lost nothing that was out of it."""
    second, first = join(), join(Hello("p"))
    first.channel.send(batch(1))
    second.say(Hello("p"))
    second.channel.close()
    assert writer.commit().positions == {"p": 1}


def test_goodbye_forgets_a_position(writer: StepWriter, join: Join) -> None:
    """Who leaves for good leaves nothing behind."""
    producer = join(Hello("p"))
    producer.say(batch(1))
    writer.commit()
    assert writer.log.positions == {"p": 1}
    producer.say(Goodbye())
    assert writer.log.positions == {}
    producer.channel.close()
    writer.turn()
    assert writer.receiver.producers == 0


def test_a_new_writer_knows_where_producers_stood(writer: StepWriter, join: Join) -> None:
    """What was committed before a crash is recognised, though it was never acknowledged."""
    join(Hello("p")).say(batch(1), batch(2))
    writer.commit(acknowledge=False)
    writer.restart()
    again = join(Hello("p"))
    assert again.hear() == [Welcome(2)]
    again.say(batch(1), batch(2), batch(3))
    assert names(writer.commit().events) == ["3@1"]


def test_a_producer_knows_what_the_log_has_forgotten(writer: StepWriter, join: Join) -> None:
    """The larger of both memories counts."""
    assert join(Hello("remembered", 7)).hear() == [Welcome(7)]
    writer.log.positions["ahead"] = 9
    ahead = join(Hello("ahead", 7))
    assert ahead.hear() == [Welcome(9)]
    ahead.say(batch(10))
    assert writer.commit().positions == {"ahead": 10}


def test_acknowledgements_that_find_no_room_arrive_later(
    writer: StepWriter, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads nothing for long hears everything at last, though it sends nothing more."""
    monkeypatch.setattr(wire, "SEND_BUFFER_BYTES", 1)
    producer = join(Hello("p"))
    for seq in range(1, 1001):
        producer.say(batch(seq))
        writer.commit()
    assert writer.receiver._inlets[0].channel.unsent
    heard: list[FromWriter] = []
    while more := producer.hear():
        heard += more
        writer.turn()
    assert heard == [Welcome(0), *(Ack(seq) for seq in range(1, 1001))]
    assert writer._selector.select(0) == []  # and nobody waits for room any more


# Orders.


def test_orders_wait_in_line_and_are_answered(writer: StepWriter, join: Join) -> None:
    """Each answer goes to who asked."""
    one, two = join(Hello("one")), join(Hello("two"))
    one.say(Purge(1, "2026-11-23", 5))
    two.say(Vacuum(1))
    first, second = writer.receiver.requests
    assert (first.order, second.order) == (Purge(1, "2026-11-23", 5), Vacuum(1))
    writer.receiver.answer(first, Done(1, 5))
    writer.receiver.answer(second, Done(1, 0, "no room"))
    assert not writer.receiver.requests
    assert one.hear() == [Welcome(0), Done(1, 5)]
    assert two.hear() == [Welcome(0), Done(1, 0, "no room")]


def test_an_order_goes_with_who_gave_it(writer: StepWriter, join: Join) -> None:
    """Nobody waits for the answer any more, so nothing is done for it; the others' orders stay."""
    one, two = join(Hello("one")), join(Hello("two"))
    one.say(Purge(1, "2026-11-23", 5))
    two.say(Purge(2, "2026-11-23", 5))
    one.channel.close()
    writer.turn()
    assert [request.order.request for request in writer.receiver.requests] == [2]


# Those who break the rules.


class Unknown(msgspec.Struct, frozen=True, tag=99, array_like=True):
    """What no producer says."""

    text: str


OFFENCES = {
    "a batch before the introduction": [batch(1)],
    "a goodbye before the introduction": [Goodbye()],
    "a purge before the introduction": [Purge(1, "2026-11-23", 5)],
    "a vacuum before the introduction": [Vacuum(1)],
    "no name": [Hello("")],
    "an endless name": [Hello("x" * 201)],
    "a negative position": [Hello("p", -1)],
    "two introductions": [Hello("p"), Hello("p")],
    "another name": [Hello("p"), Hello("q")],
    "a gap at the start": [Hello("p"), batch(2)],
    "a gap": [Hello("p"), batch(1), batch(2), batch(4)],
    "a batch after the goodbye": [Hello("p"), batch(1), Goodbye(), batch(2)],
    "an empty batch": [Hello("p"), Batch(1, [])],
    "a message that nobody knows": [Hello("p"), Unknown("?")],
    "a time that no column holds": [Hello("p"), Batch(1, [msgspec.structs.replace(event("x"), ts=2**60)])],
}


@pytest.mark.parametrize("messages", OFFENCES.values(), ids=OFFENCES.keys())
def test_who_breaks_the_rules_is_disconnected(writer: StepWriter, join: Join, messages: list[msgspec.Struct]) -> None:
    """It is reported once, in words; what it sent after that is not read, and everybody else goes on."""
    bystander = join(Hello("bystander"))
    offender = join(*messages, *messages, *messages)
    assert offender.disconnected
    assert len(writer.offences) == 1
    assert "was disconnected: " in writer.offences[0]
    bystander.say(batch(1))
    assert "bystander" in writer.commit().positions
    assert writer.receiver.producers == 1
    assert len(writer.offences) == 1


def test_what_came_before_an_offence_is_committed(writer: StepWriter, join: Join) -> None:
    """The batches that were in order have been taken, and a gap does not take them back."""
    join(Hello("p"), batch(1), batch(3))
    assert writer.offences == ["a producer (p) was disconnected: batch 3 follows batch 1"]
    assert writer.commit().positions == {"p": 1}


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=100) | st.sampled_from([bytes(pack(Hello("p"))), bytes(pack(batch(1)))]), max_size=5)
)
def test_no_bytes_break_the_writer(chunks: list[bytes]) -> None:
    """Whatever is sent to its socket, the writer goes on, and so does who keeps to the rules."""
    with short_folder() as folder, closing(StepWriter(folder, CountingClock())) as writer:
        bystander = Producer(writer, Hello("bystander"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(writer.address))
            for chunk in chunks:
                try:
                    sock.sendall(chunk)
                except OSError:
                    break  # disconnected already
                writer.turn()
                writer.turn()
        writer.commit()
        assert len(writer.offences) <= 1
        bystander.say(batch(1))
        assert writer.commit().positions == {"bystander": 1}
        bystander.channel.close()


def test_a_process_of_another_user_is_refused(writer: StepWriter, join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told apart before it can say a word."""
    monkeypatch.setattr(receiver, "same_user", lambda _sock, _uid: False)
    stranger = join(Hello("p"))
    assert stranger.disconnected
    assert writer.receiver.producers == 0
    assert writer.offences == ["a process of another user tried to join the event queue; it was refused"]


# Joining from outside.


def test_any_process_can_join_with_the_standard_library(writer: StepWriter) -> None:
    """`multiprocessing.connection.Client` speaks the frames; the rest is MessagePack arrays."""
    with Client(str(writer.address)) as client:
        say, hear = msgspec.msgpack.encode, msgspec.msgpack.decode
        client.send_bytes(say([1, "script"]))
        writer.receiver.drain()
        assert hear(client.recv_bytes()) == [1, 0]
        client.send_bytes(say([2, 1, [["sense", "from outside", None, '{"x": 1}', 1_700_000_000_000, 0]]]))
        client.send_bytes(say([2, 2, [["sense", "x" * 100_000, "ref", "null", 1_700_000_000_000, 0]]]))
        assert len(writer.commit().events) == 2
        assert hear(client.recv_bytes()) == [2, 2]
        client.send_bytes(say([3]))
        writer.receiver.drain()
        assert writer.log.positions == {}
    assert writer.log.events[0].payload == '{"x": 1}'
    assert writer.offences == []


def test_closing_closes_every_connection(writer: StepWriter, join: Join) -> None:
    """Also those that have ended while their batches still waited; it may be done twice."""
    gone, there = join(Hello("gone")), join(Hello("there"))
    gone.say(batch(1))
    gone.channel.close()
    writer.turn()
    assert writer.receiver.waiting == 1
    writer.receiver.close()
    writer.receiver.close()
    assert there.disconnected
    assert writer.receiver.producers == 0
