"""The kernel's loop: whoever is ready is called, and whoever was forgotten is not."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from nerve.ipc.channel import Channel
from nerve.ipc.event_loop import Loop
from nerve.processes.messages import Finish, Ready


class Pipe:
    """Something to watch: readable when poked."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()
        self.ours.settimeout(0)
        self.unsent = False
        self.acts = 0

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self.ours.fileno()

    def poke(self) -> None:
        """Make it readable."""
        self._theirs.send(b"x")

    def act(self) -> None:
        """Count, and read what is there."""
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
    """Tell whether something still waits for room."""
    return channel.unsent


@pytest.fixture
def loop() -> Iterator[Loop]:
    """Give a loop, closed afterwards."""
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pipes() -> Iterator[list[Pipe]]:
    """Give three things to watch."""
    pipes = [Pipe(), Pipe(), Pipe()]
    yield pipes
    for pipe in pipes:
        pipe.close()


def test_all_that_are_ready_are_called_and_nobody_else(loop: Loop, pipes: list[Pipe]) -> None:
    """One wait, each once."""
    for pipe in pipes:
        loop.watch(pipe, pipe.act)
    pipes[0].poke()
    pipes[2].poke()
    loop.wait(10)
    assert [pipe.acts for pipe in pipes] == [1, 0, 1]
    loop.wait(0)
    assert [pipe.acts for pipe in pipes] == [1, 0, 1]


def test_a_wait_ends_with_its_timeout(loop: Loop, pipes: list[Pipe]) -> None:
    """It waits about as long as it was told when nothing happens, and not at all for zero."""
    loop.watch(pipes[0], pipes[0].act)
    started = time.monotonic()
    loop.wait(0.02)
    assert 0.015 <= time.monotonic() - started < 5
    loop.wait(0)
    assert pipes[0].acts == 0


def test_what_has_something_unsent_is_watched_for_room(loop: Loop, pipes: list[Pipe]) -> None:
    """Only as long as there is something: else the loop would spin."""
    pipe = pipes[0]
    loop.watch(pipe, pipe.act)
    pipe.unsent = True
    loop.wait(10)
    assert pipe.acts == 1
    pipe.unsent = False
    loop.wait(0)
    assert pipe.acts == 1


def test_a_channel_is_flushed_by_being_watched(loop: Loop) -> None:
    """What didn't fit into the socket goes out when the other end reads."""
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


def test_what_is_forgotten_is_not_called(loop: Loop, pipes: list[Pipe]) -> None:
    """Forgetting may be done twice, and to what was never watched."""
    pipe, never, _ = pipes
    loop.watch(pipe, pipe.act)
    pipe.poke()
    loop.forget(pipe)
    loop.forget(pipe)
    loop.forget(never)
    loop.forget_descriptor(-1)
    loop.wait(0)
    assert pipe.acts == 0


def test_an_act_may_forget_one_that_is_ready_as_well(loop: Loop, pipes: list[Pipe]) -> None:
    """Whichever comes first, the other is not called any more."""
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


def test_an_act_may_watch_a_new_one(loop: Loop, pipes: list[Pipe]) -> None:
    """The new one is called in the next round."""
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


def test_a_descriptor_that_was_closed_can_be_forgotten_and_used_again(loop: Loop, pipes: list[Pipe]) -> None:
    """The system gives the number to the next one, and so does the loop."""
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
    """Sources can still be forgotten after it."""
    loop = Loop()
    loop.watch(pipes[0], pipes[0].act)
    loop.close()
    loop.forget(pipes[0])
    assert pipes[0].acts == 0
