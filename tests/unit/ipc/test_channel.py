"""Frames survive any chunking, garbage is refused in one way, and what a dead peer sent can still be read."""

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
from nerve.ipc.sockets import same_user


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
    """A channel, and the plain socket at its other end."""
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.SEND_BUFFER_BYTES)  # macOS gives 8 KiB
    with closing(Channel[Message](ours, Message)) as channel, theirs:
        yield channel, theirs


def feed_all(stream: bytes, cuts: list[int]) -> list[Message]:
    """Feed a reader with a stream, cut at these places."""
    reader: FrameReader[Message] = FrameReader(Message)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [message for start, end in pairwise(places) for message in reader.feed(stream[start:end])]


@settings(deadline=None)
@given(sent=st.lists(messages, max_size=8), cuts=st.lists(st.integers(0, 3000), max_size=20))
def test_any_split_of_the_stream_gives_the_same_messages(sent: list[Message], cuts: list[int]) -> None:
    """However the bytes are cut on their way, what was sent arrives, in order."""
    assert feed_all(b"".join(map(pack, sent)), cuts) == sent


def test_a_stream_can_arrive_byte_by_byte() -> None:
    """Frames complete one byte at a time, each at its last byte."""
    sent = [Text("a"), Numbers([1, 2]), Text("")]
    stream = b"".join(map(pack, sent))
    assert feed_all(stream, list(range(len(stream)))) == sent


@settings(deadline=None)
@given(garbage=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=4))
@example(garbage=b"\0\0\0\x05\x92\x01\xa2\xff\xff", cuts=[])  # no UTF-8
@example(garbage=b"\0\0\0\x09\x92\x02\xdd\xff\xff\xff\xff\x90\x90", cuts=[])  # 4 billion items are announced
@example(garbage=b"\0\0\x40\0" + b"\x93\x01\xa0" + b"\x91" * (0x4000 - 3), cuts=[])  # nested too deeply
def test_garbage_is_refused_in_one_way(garbage: bytes, cuts: list[int]) -> None:
    """Whatever bytes come, they are a part of a frame, messages, or a WireError; nothing else is raised."""
    with suppress(WireError):
        assert all(isinstance(message, Message) for message in feed_all(garbage, cuts))


@settings(deadline=None)
@given(body=st.binary(min_size=1, max_size=200))
def test_a_frame_with_a_garbled_body_is_a_message_or_an_error(body: bytes) -> None:
    """A frame that is whole never leaves the reader without a verdict."""
    reader: FrameReader[Message] = FrameReader(Message)
    with suppress(WireError):
        assert len(reader.feed(struct.pack("!i", len(body)) + body)) == 1


@pytest.mark.parametrize("length", [0, -1, -(2**31), wire.MAX_FRAME + 1, 2**31 - 1])
def test_an_impossible_length_is_refused_before_its_body_comes(length: int) -> None:
    """Nothing is kept in memory for a frame that can't be one of ours."""
    with pytest.raises(WireError, match=f"announces {length} bytes"):
        FrameReader(Message).feed(struct.pack("!i", length))


def test_the_longest_frame_is_read_and_a_longer_one_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader would refuse never goes out: both ends have the same limit."""
    monkeypatch.setattr(wire, "MAX_FRAME", 100)
    longest = Text("x" * 96)
    assert len(pack(longest)) == 4 + 100
    assert feed_all(pack(longest), []) == [longest]
    with pytest.raises(WireError, match=r"^a Text of 101 bytes is too large to send \(at most 100\)$"):
        pack(Text("x" * 97))


def test_frames_are_those_of_multiprocessing_connection(pair: Pair) -> None:
    """The stdlib's Connection reads what a channel sends, and a channel what it sends."""
    channel, theirs = pair
    other = Connection(os.dup(theirs.fileno()))
    with other:
        channel.send(Text("hello"))
        assert msgspec.msgpack.decode(other.recv_bytes(), type=Message) == Text("hello")
        for message in (Text("short"), Text("longer than 16 KiB" * 1000)):
            other.send_bytes(msgspec.msgpack.encode(message))
            assert channel.wait(5) == [message]


def test_what_finds_no_room_waits_for_flush(pair: Pair) -> None:
    """A message larger than the socket's buffer goes out in pieces, and those after it stay in order."""
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


def test_waiting_sends_what_is_unsent(pair: Pair) -> None:
    """Whoever waits for an answer gets all of its question out, though nothing has arrived yet."""
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


def test_waiting_ends_with_what_comes_first(pair: Pair) -> None:
    """`wait` sends what is unsent, gives what has arrived, and returns empty-handed at its timeout or at the end."""
    channel, theirs = pair
    assert channel.wait(0) == []
    assert channel.wait(-1) == []
    assert not channel.ended
    theirs.sendall(pack(Text("a")) + pack(Text("b")))
    assert channel.wait(None) == [Text("a"), Text("b")]
    theirs.close()
    assert channel.wait(None) == []
    assert channel.ended


def test_what_a_dead_peer_sent_is_received_after_a_failed_send(pair: Pair) -> None:
    """A send that finds the other end gone takes nothing away from what has arrived before."""
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


def test_half_a_frame_at_the_end_of_the_stream_is_no_message(pair: Pair) -> None:
    """Whoever dies in the middle of a frame has said what came before it."""
    channel, theirs = pair
    theirs.sendall(pack(Text("whole")) + pack(Text("half"))[:-2])
    theirs.close()
    assert channel.receive() + channel.receive() == [Text("whole")]
    assert channel.ended


def test_a_flood_ends_a_receive_but_is_not_lost(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call reads a bounded number of times, so that nobody who sends without end holds the others up."""
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
    """A socket on which a call fails as the system may have it fail."""

    def send(self, *_args: object) -> NoReturn:
        """Fail, though the other end is there: macOS does when its buffers are short."""
        raise OSError(errno.ENOBUFS, "No buffer space available")

    def setsockopt(self, *_args: object) -> NoReturn:
        """Fail as on macOS when the other end has gone."""
        raise OSError(errno.EINVAL, "Invalid argument")


def test_a_channel_that_can_not_send_ends_though_the_other_end_is_there() -> None:
    """Nobody waits for ever on a connection that has lost a message."""
    ours, theirs = socket.socketpair()
    failing = FailingSocket(fileno=ours.detach())
    with closing(Channel[Message](failing, Message)) as channel, theirs:
        theirs.sendall(pack(Text("said before")))
        channel.send(Text("lost"))
        assert channel.broken
        assert channel.receive() == [Text("said before")]
        assert channel.receive() == []
        assert channel.ended


def test_a_closed_channel_is_silent(pair: Pair) -> None:
    """It may be closed twice; then it sends and gives nothing, and raises nothing."""
    channel, theirs = pair
    theirs.sendall(pack(Text("unread")))
    channel.close()
    channel.close()
    channel.send(Text("x"))
    assert channel.fileno() == -1
    assert channel.receive() == []
    assert channel.flush()
    assert channel.ended


def test_a_process_of_the_same_user_is_known() -> None:
    """The system tells whose process is at the other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert same_user(ours, os.getuid())


@pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux can tell")
def test_a_process_of_another_user_is_known() -> None:
    """Who is not asked for is not let in."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not same_user(ours, os.getuid() + 1)
