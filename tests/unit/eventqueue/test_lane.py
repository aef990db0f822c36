"""A producer's lane: it never blocks, keeps what is not acknowledged, and outlives its writers."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest
from support.eventqueue import StepWriter, event, listen, names, tend

from nerve.errors import WireError
from nerve.eventqueue import Done, Lane, Purge
from nerve.eventqueue.messages import Ack, Batch, Goodbye, Hello, ToWriter, Welcome
from nerve.eventqueue.pipe import WriterChannel
from nerve.ipc import channel as wire

MakeLane = Callable[..., Lane]


def accepted(listener: socket.socket) -> closing[WriterChannel]:
    """Give the writer's end of a lane that has connected; it is closed at the end of its block."""
    sock, _address = listener.accept()
    return closing(WriterChannel(sock))


def seqs(messages: list[ToWriter]) -> list[int]:
    """The numbers of the batches among these messages."""
    return [message.seq for message in messages if isinstance(message, Batch)]


def test_without_a_writer_everything_is_kept(make_lane: MakeLane) -> None:
    """Nobody listens: connecting fails, and what is submitted is neither out of the process nor lost."""
    lane = make_lane()
    assert not lane.connect()
    assert lane.submit([event("a")]) == 1
    assert lane.submit([event("b")]) == 2
    lane.flush()
    assert lane.receive() == []
    assert not lane.connected
    assert lane.fileno() == -1
    assert not lane.clear
    assert not lane.settled
    assert lane.unacknowledged == 2
    assert (lane.committed_seq, lane.last_seq) == (0, 2)


def test_a_lane_introduces_itself_and_waits_for_its_welcome(folder: Path, make_lane: MakeLane) -> None:
    """Batches go out once the writer has said where it stands, and not before."""
    with listen(folder / "events") as listener:
        lane = make_lane("worker-1")
        assert lane.connect()
        lane.submit([event("a")])
        with accepted(listener) as theirs:
            assert theirs.receive() == [Hello("worker-1", 0)]
            assert lane.connected
            assert not lane.clear
            theirs.send(Welcome(0))
            assert lane.receive() == []
            assert lane.clear
            assert theirs.receive() == [Batch(1, [event("a")])]


def test_an_acknowledgement_frees_what_it_covers(folder: Path, make_lane: MakeLane) -> None:
    """A lane is full by its unacknowledged bytes, and settled when there are none."""
    with listen(folder / "events") as listener:
        lane = make_lane(limit_bytes=250)
        lane.connect()
        with accepted(listener) as theirs:
            theirs.send(Welcome(0))
            lane.receive()
            for name in "abc":
                assert not lane.full
                lane.submit([event(name, payload="x" * 80)])
            assert lane.full
            theirs.send(Ack(2))
            lane.receive()
            assert not lane.full
            assert (lane.committed_seq, lane.unacknowledged, lane.settled) == (2, 1, False)
            theirs.send(Ack(3))
            lane.receive()
            assert (lane.committed_seq, lane.unacknowledged, lane.settled) == (3, 0, True)


def test_a_new_connection_begins_where_the_writer_stands(folder: Path, make_lane: MakeLane) -> None:
    """What the writer has is forgotten, the rest is sent again in order, and new batches follow it."""
    with listen(folder / "events") as listener:
        lane = make_lane("p")
        lane.connect()
        with accepted(listener) as theirs:
            theirs.send(Welcome(0))
            lane.receive()
            for name in "abcd":
                lane.submit([event(name)])
            theirs.send(Ack(1))
        lane.receive()
        lane.receive()
        assert not lane.connected
        assert not lane.clear
        assert lane.submit([event("e")]) == 5
        assert lane.connect()
        assert lane.connections == 2
        with accepted(listener) as theirs:
            assert theirs.receive() == [Hello("p", 1, 5)]
            theirs.send(Welcome(3))
            lane.receive()
            lane.submit([event("f")])
            assert seqs(theirs.receive()) == [4, 5, 6]
            assert lane.committed_seq == 3


def test_a_writer_that_has_gone_is_noticed_by_the_next_submit(writer: StepWriter, joined: MakeLane) -> None:
    """The batch that finds no writer is kept for the next one, and the lane does not claim that it is out."""
    lane = joined()
    assert lane.clear
    writer.restart()
    lane.submit([event("a")])
    assert not lane.connected
    assert not lane.clear
    tend(lane)
    writer.turn()
    writer.turn()
    tend(lane)
    assert lane.clear
    assert names(writer.commit().events) == ["a"]


def test_a_writer_that_forgot_a_silent_producer_does_not_stop_it(writer: StepWriter, joined: MakeLane) -> None:
    """A lane tells what it knows to be committed, so that a position that was thrown away is no gap."""
    lane = joined("silent")
    lane.submit([event("before")])
    writer.commit()
    lane.receive()
    writer.log.forget("silent")
    writer.restart()
    tend(lane)
    tend(lane)
    lane.submit([event("after")])
    writer.turn()
    writer.turn()
    tend(lane)
    writer.commit()
    lane.receive()
    assert writer.offences == []
    assert lane.settled
    assert names(writer.log.events) == ["before", "after"]


def test_a_writer_that_talks_nonsense_is_left_for_another(
    folder: Path, make_lane: MakeLane, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes that are no frame end the connection and nothing else."""
    with listen(folder / "events") as listener:
        lane = make_lane()
        lane.submit([event("a")])
        lane.connect()
        sock, _address = listener.accept()
        with sock:
            sock.sendall(b"\0\0\0\0 this is not the event queue")
            with caplog.at_level(logging.ERROR, "nerve.eventqueue"):
                assert lane.receive() == []
        assert "made no sense" in caplog.text
        assert not lane.connected
        assert lane.connect()
        with accepted(listener) as theirs:
            theirs.send(Welcome(0))
            lane.receive()
            assert seqs(theirs.receive()) == [1]


def test_no_descriptor_left_is_like_no_writer(
    folder: Path, make_lane: MakeLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has used up its descriptors tries again later; its lane's thread does not die of it."""

    def no_socket(*_args: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    with listen(folder / "events"):
        lane = make_lane()
        with monkeypatch.context() as patched:
            patched.setattr(socket, "socket", no_socket)
            assert not lane.connect()
        assert lane.connect()


def test_what_does_not_fit_the_socket_is_unsent_until_flushed(writer: StepWriter, joined: MakeLane) -> None:
    """A batch larger than the socket's buffer is out of the process when its last byte is."""
    lane = joined()
    lane.submit([event("large", payload="x" * 8_000_000)])
    assert lane.unsent
    assert not lane.clear
    while lane.unsent:
        writer.turn()
        lane.flush()
    assert lane.clear
    assert names(writer.commit().events) == ["large"]


def test_events_that_are_too_many_for_a_frame_become_several_batches(
    writer: StepWriter, joined: MakeLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a writer would have to refuse is never sent: it would be refused again after each reconnect."""
    monkeypatch.setattr(wire, "MAX_FRAME", 200)
    lane = joined()
    sent = [event(str(n), payload="x" * 60) for n in range(7)]
    assert lane.submit(sent) > 1
    writer.turn()
    assert writer.offences == []
    assert names(writer.commit().events) == [str(n) for n in range(7)]
    lane.receive()
    assert lane.settled


@pytest.mark.parametrize(
    ("refused", "why"),
    [(event("x" * 300), WireError), (event("\ud800"), UnicodeEncodeError)],
    ids=["too large", "no text"],
)
def test_an_event_that_can_not_be_sent_leaves_no_gap(
    writer: StepWriter, joined: MakeLane, monkeypatch: pytest.MonkeyPatch, refused: object, why: type[Exception]
) -> None:
    """It is refused before it has a number, so the batches after it are those that the writer expects."""
    monkeypatch.setattr(wire, "MAX_FRAME", 200)
    lane = joined()
    with pytest.raises(why):
        lane.submit([refused])  # type: ignore[list-item]
    assert lane.last_seq == 0
    lane.submit([event("next")])
    writer.turn()
    assert names(writer.commit().events) == ["next"]
    assert writer.offences == []


def test_no_events_make_no_batch(writer: StepWriter, joined: MakeLane) -> None:
    """There is nothing to commit, and nothing to wait for."""
    lane = joined()
    assert lane.submit([]) == 0
    assert lane.settled


def test_orders_are_answered_and_not_kept(folder: Path, make_lane: MakeLane) -> None:
    """An order reaches a writer that is there; without one it is refused at once."""
    order = Purge(7, "2026-11-23", 100)
    with listen(folder / "events") as listener:
        lane = make_lane()
        assert not lane.order(order)
        lane.connect()
        assert not lane.order(order)
        with accepted(listener) as theirs:
            theirs.send(Welcome(0))
            lane.receive()
            assert lane.order(order)
            assert theirs.receive() == [Hello("p"), order]
            theirs.send(Done(7, 42))
            assert lane.receive() == [Done(7, 42)]


@pytest.mark.parametrize("settled", [True, False])
def test_goodbye_is_said_by_those_who_have_nothing_left(folder: Path, make_lane: MakeLane, *, settled: bool) -> None:
    """A position is forgotten only when nothing will be sent again; closing twice is closing once."""
    with listen(folder / "events") as listener:
        lane = make_lane()
        lane.connect()
        with accepted(listener) as theirs:
            theirs.send(Welcome(0))
            lane.receive()
            lane.submit([event("a")])
            if settled:
                theirs.send(Ack(1))
                lane.receive()
            lane.close()
            lane.close()
            said = theirs.receive()
            assert (Goodbye() in said) == settled
            assert not lane.connected
            theirs.receive()
            assert theirs.ended
