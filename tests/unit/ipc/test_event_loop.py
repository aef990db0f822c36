"""The event loop: sources that are ready are called, and those that were forgotten are not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from nerve.ipc.channel import Channel
from nerve.ipc.event_loop import Loop
from nerve.processes.messages import Finish, Ready


class Pipe:
    """A source that becomes readable when it is poked, and counts its acts."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()
        self.ours.settimeout(0)
        self.unsent = False
        self.acts = 0

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self.ours.fileno()

    def poke(self) -> None:
        """Make it readable."""
        self._theirs.send(b"x")

    def act(self) -> None:
        """Count the call, and read everything."""
        self.acts += 1
        try:
            self.ours.recv(100)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close both ends."""
        self.ours.close()
        self._theirs.close()


def has_unsent(channel: Channel[Ready]) -> bool:
    """Return True if something waits for room; hides from mypy that it is still the same value."""
    return channel.unsent


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that is closed afterwards."""
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pipes() -> Iterator[list[Pipe]]:
    """Three sources."""
    pipes = [Pipe(), Pipe(), Pipe()]
    yield pipes
    for pipe in pipes:
        pipe.close()


def test_wait_calls_each_source_that_is_ready_once(loop: Loop, pipes: list[Pipe]) -> None:
    """Sources that are not ready are not called."""
    for pipe in pipes:
        loop.watch(pipe, pipe.act)
    pipes[0].poke()
    pipes[2].poke()
    loop.wait(10)
    assert [pipe.acts for pipe in pipes] == [1, 0, 1]
    loop.wait(0)
    assert [pipe.acts for pipe in pipes] == [1, 0, 1]


def test_wait_returns_at_its_timeout(loop: Loop, pipes: list[Pipe], monkeypatch: pytest.MonkeyPatch) -> None:
    """The selector waits as long as the loop is told to, if nothing happens."""
    timeouts = []
    select = loop._selector.select

    def note_timeout(timeout: float | None) -> object:
        timeouts.append(timeout)
        return select(timeout)

    monkeypatch.setattr(loop._selector, "select", note_timeout)
    loop.watch(pipes[0], pipes[0].act)
    loop.wait(0.001)
    loop.wait(0)
    assert timeouts == [0.001, 0]
    assert pipes[0].acts == 0


def test_a_source_with_unsent_data_is_watched_for_writing(loop: Loop, pipes: list[Pipe]) -> None:
    """It is not any more once all is sent: the loop would spin."""
    pipe = pipes[0]
    loop.watch(pipe, pipe.act)
    pipe.unsent = True
    loop.wait(10)
    assert pipe.acts == 1
    pipe.unsent = False
    loop.wait(0)
    assert pipe.acts == 1


def test_a_watched_channel_is_flushed_when_there_is_room(loop: Loop) -> None:
    """What did not fit into the socket is sent when the peer reads."""
    ours, theirs = socket.socketpair()
    channel: Channel[Ready] = Channel(ours, Ready)

    def flush() -> None:
        channel.flush()

    loop.watch(channel, flush)
    rounds = 0
    while not channel.unsent:
        channel.send(Finish())
    while has_unsent(channel) and rounds < 1000:
        theirs.recv(1 << 20)
        loop.wait(0)
        rounds += 1
    assert not has_unsent(channel)
    channel.close()
    theirs.close()


def test_a_forgotten_source_is_not_called(loop: Loop, pipes: list[Pipe]) -> None:
    """A source may be forgotten twice, or without having been watched."""
    pipe, never, _ = pipes
    loop.watch(pipe, pipe.act)
    pipe.poke()
    loop.forget(pipe)
    loop.forget(pipe)
    loop.forget(never)
    loop.forget_descriptor(-1)
    loop.wait(0)
    assert pipe.acts == 0


def test_an_act_may_forget_another_source_that_is_ready(loop: Loop, pipes: list[Pipe]) -> None:
    """The other one is then not called in the same round."""
    first, second, _ = pipes

    def forget_both() -> None:
        first.acts += 1
        loop.forget(first)
        loop.forget(second)

    loop.watch(first, forget_both)
    loop.watch(second, forget_both)
    first.poke()
    second.poke()
    loop.wait(10)
    assert first.acts == 1


def test_an_act_may_watch_a_new_source(loop: Loop, pipes: list[Pipe]) -> None:
    """It is called from the next round on."""
    first, second, _ = pipes

    def watch_second() -> None:
        first.act()
        loop.watch(second, second.act)

    loop.watch(first, watch_second)
    first.poke()
    second.poke()
    loop.wait(10)
    assert second.acts == 0
    loop.wait(10)
    assert second.acts == 1


def test_a_closed_descriptor_can_be_forgotten_and_watched_again(loop: Loop, pipes: list[Pipe]) -> None:
    """The system gives the same number to the next file that is opened."""
    old, new, _ = pipes
    descriptor = os.dup(old.fileno())

    class Source:
        def fileno(self) -> int:
            return descriptor

    loop.watch(Source(), old.act)
    os.close(descriptor)
    loop.forget_descriptor(descriptor)
    assert os.dup(new.fileno()) == descriptor
    loop.watch(Source(), new.act)
    new.poke()
    loop.wait(10)
    assert (old.acts, new.acts) == (0, 1)
    os.close(descriptor)


def test_a_closed_loop_watches_nothing(pipes: list[Pipe]) -> None:
    """Sources can still be forgotten."""
    loop = Loop()
    loop.watch(pipes[0], pipes[0].act)
    loop.close()
    loop.forget(pipes[0])
    assert pipes[0].acts == 0
