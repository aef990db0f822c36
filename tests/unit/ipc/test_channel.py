"""Channels and frames: any split of a stream is read, garbage is refused, a dead peer's messages are received."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import NoReturn

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nerve.errors import WireError
from nerve.ipc import channel as wire
from nerve.ipc.channel import Channel, FrameReader, pack


class Text(msgspec.Struct, frozen=True, tag=1, array_like=True):
    """A message of these tests."""

    text: str


class Numbers(msgspec.Struct, frozen=True, tag=2, array_like=True):
    """Another one."""

    numbers: list[int]


Message = Text | Numbers
messages = st.builds(Text, st.text(max_size=300)) | st.builds(
    Numbers, st.lists(st.integers(-(2**63), 2**64 - 1), max_size=20)
)
Pair = tuple[Channel[Message], socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A channel, and the socket of its peer."""
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.SEND_BUFFER_BYTES)  # macOS gives 8 KiB
    with closing(Channel[Message](ours, Message)) as channel, theirs:
        yield channel, theirs


def feed_all(stream: bytes, cuts: list[int]) -> list[Message]:
    """Feed a reader with a stream that is cut at these offsets; return the messages."""
    reader: FrameReader[Message] = FrameReader(Message)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [message for start, end in pairwise(places) for message in reader.feed(stream[start:end])]


@settings(deadline=None)
@given(sent=st.lists(messages, max_size=8), cuts=st.lists(st.integers(0, 3000), max_size=20))
def test_any_split_of_the_stream_results_in_the_same_messages(sent: list[Message], cuts: list[int]) -> None:
    """All of them arrive, in order."""
    assert feed_all(b"".join(map(pack, sent)), cuts) == sent


def test_a_stream_that_arrives_byte_by_byte_is_read() -> None:
    """Each frame is complete with its last byte."""
    sent = [Text("a"), Numbers([1, 2]), Text("")]
    stream = b"".join(map(pack, sent))
    assert feed_all(stream, list(range(len(stream)))) == sent


@settings(deadline=None)
@given(garbage=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=4))
@example(garbage=b"\0\0\0\x05\x92\x01\xa2\xff\xff", cuts=[])  # not UTF-8
@example(garbage=b"\0\0\0\x09\x92\x02\xdd\xff\xff\xff\xff\x90\x90", cuts=[])  # announces 4 billion items
@example(garbage=b"\0\0\x40\0" + b"\x93\x01\xa0" + b"\x91" * (0x4000 - 3), cuts=[])  # nested too deep
def test_garbage_raises_no_other_exception_than_wire_error(garbage: bytes, cuts: list[int]) -> None:
    """Any bytes are part of a frame, valid messages, or a WireError."""
    with suppress(WireError):
        assert all(isinstance(message, Message) for message in feed_all(garbage, cuts))


@settings(deadline=None)
@given(body=st.binary(min_size=1, max_size=200))
def test_a_complete_frame_is_a_message_or_a_wire_error(body: bytes) -> None:
    """The reader never waits for more of it."""
    reader: FrameReader[Message] = FrameReader(Message)
    with suppress(WireError):
        assert len(reader.feed(struct.pack("!i", len(body)) + body)) == 1


@pytest.mark.parametrize("length", [0, -1, -(2**31), wire.MAX_FRAME + 1, 2**31 - 1])
def test_an_invalid_length_is_refused_before_the_body_arrives(length: int) -> None:
    """No memory is used for a frame that can't be valid."""
    with pytest.raises(WireError, match=f"announces {length} bytes"):
        FrameReader(Message).feed(struct.pack("!i", length))


def test_the_longest_frame_is_read_and_a_longer_one_can_not_be_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sender and reader have the same limit."""
    monkeypatch.setattr(wire, "MAX_FRAME", 100)
    longest = Text("x" * 96)
    assert len(pack(longest)) == 4 + 100
    assert feed_all(pack(longest), []) == [longest]
    with pytest.raises(WireError, match=r"^a Text of 101 bytes is too large to send \(at most 100\)$"):
        pack(Text("x" * 97))


def test_frames_are_those_of_multiprocessing_connection(pair: Pair) -> None:
    """The standard library's Connection reads what a channel sends, and the other way round."""
    channel, theirs = pair
    other = Connection(os.dup(theirs.fileno()))
    with other:
        channel.send(Text("hello"))
        assert msgspec.msgpack.decode(other.recv_bytes(), type=Message) == Text("hello")
        for message in (Text("short"), Text("longer than 16 KiB" * 1000)):
            other.send_bytes(msgspec.msgpack.encode(message))
            assert channel.wait(5) == [message]


def test_a_message_for_which_there_is_no_room_waits_for_flush(pair: Pair) -> None:
    """It is sent in pieces, and later messages stay behind it."""
    channel, theirs = pair
    sent = [Text("x" * 5_000_000), Text("y"), Text("z")]
    for message in sent:
        channel.send(message)
    assert channel.unsent
    received: list[Message] = []
    with closing(Channel[Message](theirs.dup(), Message)) as other:
        while len(received) < len(sent):
            received += other.receive()
            channel.flush()
    assert received == sent
    assert not channel.unsent
    assert channel.flush()


def test_wait_sends_unsent_data(pair: Pair) -> None:
    """A client that waits for a reply can send all of a large request, although nothing arrives yet."""
    channel, theirs = pair
    question = pack(Text("x" * 5_000_000))

    def answer() -> None:
        left = len(question)
        while left:
            left -= len(theirs.recv(left))
        theirs.sendall(pack(Text("answer")))

    channel.send_frame(question)
    other = threading.Thread(target=answer, daemon=True)
    other.start()
    received: list[Message] = []
    while not received:
        received = channel.wait(None)
    other.join()
    assert received == [Text("answer")]


def test_wait_returns_at_a_message_at_the_timeout_or_at_the_end(pair: Pair) -> None:
    """A negative timeout counts as 0, and None as no limit."""
    channel, theirs = pair
    assert channel.wait(0) == []
    assert channel.wait(-1) == []
    assert not channel.ended
    theirs.sendall(pack(Text("a")) + pack(Text("b")))
    assert channel.wait(None) == [Text("a"), Text("b")]
    theirs.close()
    assert channel.wait(None) == []
    assert channel.ended


def test_messages_of_a_dead_peer_are_received_after_a_failed_send(pair: Pair) -> None:
    """The failed send makes the channel broken, but not ended."""
    channel, theirs = pair
    theirs.sendall(pack(Text("last words")))
    theirs.close()
    channel.send(Text("nobody reads this"))
    channel.send(Text("nor this"))
    assert channel.broken
    assert not channel.unsent
    assert not channel.ended
    assert channel.receive() == [Text("last words")]
    assert channel.receive() == []
    assert channel.ended


def test_an_incomplete_frame_at_the_end_of_the_stream_is_dropped(pair: Pair) -> None:
    """The messages before it are received."""
    channel, theirs = pair
    theirs.sendall(pack(Text("whole")) + pack(Text("half"))[:-2])
    theirs.close()
    assert channel.receive() + channel.receive() == [Text("whole")]
    assert channel.ended


def test_receive_returns_during_a_flood_and_loses_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call reads a limited number of times, so that a peer that never stops sending can't block the others."""
    monkeypatch.setattr(wire, "READ_BYTES", 10)
    monkeypatch.setattr(wire, "MAX_READS", 3)
    channel, theirs = pair
    sent = [Text(str(n)) for n in range(20)]
    theirs.sendall(b"".join(map(pack, sent)))
    received = channel.receive()
    assert 0 < len(received) < len(sent)
    while len(received) < len(sent):
        received += channel.receive()
    assert received == sent


class FailingSocket(socket.socket):
    """A socket whose calls fail as on macOS."""

    def send(self, *_args: object) -> NoReturn:
        """Fail although the peer is there: the system is short of buffers."""
        raise OSError(errno.ENOBUFS, "No buffer space available")

    def setsockopt(self, *_args: object) -> NoReturn:
        """Fail as if the peer had gone."""
        raise OSError(errno.EINVAL, "Invalid argument")


def test_a_channel_that_can_not_send_ends_although_its_peer_is_there() -> None:
    """So nothing waits forever on a connection that has lost a message."""
    ours, theirs = socket.socketpair()
    failing = FailingSocket(fileno=ours.detach())
    with closing(Channel[Message](failing, Message)) as channel, theirs:
        theirs.sendall(pack(Text("said before")))
        channel.send(Text("lost"))
        assert channel.broken
        assert channel.receive() == [Text("said before")]
        assert channel.receive() == []
        assert channel.ended


def test_a_closed_channel_sends_and_receives_nothing(pair: Pair) -> None:
    """It raises nothing either, and may be closed twice."""
    channel, theirs = pair
    theirs.sendall(pack(Text("unread")))
    channel.close()
    channel.close()
    channel.send(Text("x"))
    assert channel.fileno() == -1
    assert channel.receive() == []
    assert channel.flush()
    assert channel.ended
