"""Tests of the pipe that a producer hands to the writer."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest
from support.eventqueue import StepWriter, event, names, tend

from nerve.eventqueue import Lane
from nerve.eventqueue.messages import Batch, Hello
from nerve.ipc.channel import pack


@pytest.fixture
def lane(writer: StepWriter) -> Iterator[Lane]:
    """A piped lane that the writer has welcomed."""
    with closing(Lane(writer.address, "p", piped=True)) as made:
        welcome(made, writer)
        yield made


def welcome(lane: Lane, writer: StepWriter) -> None:
    """Have a lane join."""
    tend(lane)
    writer.turn()
    writer.turn()
    tend(lane)


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/dev/fd").iterdir()))


def test_frames_go_through_the_pipe_and_answers_through_the_socket(writer: StepWriter, lane: Lane) -> None:
    """The writer waits for the pipe alone, unless it has more to say than the socket takes."""
    (inlet,) = writer.receiver._inlets
    assert stat.S_ISFIFO(os.fstat(inlet.channel.fileno()).st_mode)
    assert list(inlet.watched) == [inlet.channel.fileno()]
    assert stat.S_ISSOCK(os.fstat(lane.fileno()).st_mode)
    lane.submit([event("through")])
    assert lane.clear
    assert names(writer.commit().events) == ["through"]
    tend(lane)
    assert lane.settled


def test_a_lane_waits_for_room_in_its_pipe(writer: StepWriter, lane: Lane) -> None:
    """The socket, which always has room, is only read from."""
    (answers,) = lane.interests()
    lane.submit([event("large", payload="x" * 3_000_000)])
    assert list(lane.interests()) == [answers, *(lane.interests().keys() - {answers})]
    assert len(lane.interests()) == 2
    while lane.unsent:
        writer.turn()
        lane.flush()
    assert list(lane.interests()) == [answers]


def test_what_is_in_the_pipe_outlives_its_producer(writer: StepWriter, lane: Lane) -> None:
    """A producer that has gone has lost nothing, whether the writer had read it or not."""
    lane.submit([event("last words")])
    assert lane.clear
    assert lane._channel is not None
    lane._channel.close()
    assert names(writer.commit().events) == ["last words"]
    writer.turn()
    assert writer.receiver.producers == 0


def test_a_lane_sends_again_through_a_new_pipe(writer: StepWriter, lane: Lane) -> None:
    """What a dead writer left in the pipe goes to its successor."""
    lane.submit([event("once")])
    writer.restart()
    tend(lane)
    assert not lane.connected
    welcome(lane, writer)
    assert names(writer.commit().events) == ["once"]


def test_both_ends_close_their_pipes(writer: StepWriter) -> None:
    """No descriptor is left behind by any number of connections."""
    before = open_descriptors()
    for _ in range(3):
        with closing(Lane(writer.address, "p", piped=True)) as lane:
            welcome(lane, writer)
        writer.turn()  # hears its goodbye
        writer.turn()
        assert writer.receiver.producers == 0
    assert open_descriptors() == before


def test_no_descriptor_left_for_a_pipe_is_like_no_writer(writer: StepWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again later, and what had been opened for it is closed."""

    def fails(*_arguments: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    with closing(Lane(writer.address, "p", piped=True)) as lane:
        before = open_descriptors()
        for module, name in ((os, "pipe"), (socket, "send_fds")):
            with monkeypatch.context() as patched:
                patched.setattr(module, name, fails)
                assert not lane.connect()
                assert not lane.connected
        assert open_descriptors() == before
        welcome(lane, writer)
        assert lane.clear


def test_a_small_pipe_does_too(writer: StepWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may refuse a user further large ones."""

    def refuse(*_arguments: object) -> NoReturn:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with closing(Lane(writer.address, "p", piped=True)) as lane:
        welcome(lane, writer)
        lane.submit([event("small")])
        assert names(writer.commit().events) == ["small"]


def test_what_is_handed_over_must_be_a_pipe(writer: StepWriter, lane: Lane) -> None:
    """A file can't be waited for: who hands one over is disconnected, and the others never notice."""
    before = open_descriptors()
    with socket.socket(socket.AF_UNIX) as stranger, tempfile.TemporaryFile() as file:
        stranger.connect(str(writer.address))
        socket.send_fds(stranger, [pack(Hello("stranger"))], [file.fileno()])
        writer.receiver.drain()
        assert writer.offences == ["a producer (unknown) was disconnected: what was handed over is no pipe"]
    assert open_descriptors() == before
    lane.submit([event("on")])
    assert names(writer.commit().events) == ["on"]


def test_a_descriptor_that_comes_later_is_ignored(writer: StepWriter) -> None:
    """Only the first bytes can bring a pipe: a stream is never changed in its middle."""
    before = open_descriptors()
    with socket.socket(socket.AF_UNIX) as producer, tempfile.TemporaryFile() as file:
        producer.connect(str(writer.address))
        producer.sendall(pack(Hello("late")))
        writer.receiver.drain()
        socket.send_fds(producer, [pack(Batch(1, [event("plain")]))], [file.fileno()])
        assert names(writer.commit().events) == ["plain"]
        assert open_descriptors() == before + 3
    assert writer.offences == []


def test_a_producer_can_not_have_the_writer_wait(writer: StepWriter) -> None:
    """Whether an end blocks belongs to all who share it: so the writer has opened the pipe for itself."""
    reading, writing = os.pipe()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(writer.address))
        socket.send_fds(sock, [pack(Hello("rude-1/x"))], [reading])
        writer.turn()
        writer.turn()
        os.set_blocking(reading, True)
        (inlet,) = writer.receiver._inlets
        assert not os.get_blocking(inlet.channel.fileno())
        os.write(writing, b"\0\0")
        writer.turn()
    os.close(reading)
    os.close(writing)
