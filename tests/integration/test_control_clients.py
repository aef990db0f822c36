"""Clients of the control socket that hang, talk nonsense, or never listen: nobody else notices."""

from __future__ import annotations

import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise

import pytest
from support.engine import Engine
from support.waiting import pause

from nerve.control.protocol import PROTOCOL, Envelope, GetStatus
from nerve.ipc.channel import pack

BEAT_MS = 50
LATE_MS = 400
ANSWER_SECONDS = 3.0
"""What a command may take on a busy machine, most of it for starting Python."""

ASK = bytes(pack(Envelope(PROTOCOL, GetStatus())))


@pytest.fixture
def beating(engine: Engine) -> Iterator[Engine]:
    """An engine with a quick beat, which is checked at the end: it was kept, whatever clients did."""
    engine.sense("tick", "def compute(ctx): ...\n")
    engine.config(f"workers: 2\nsenses: {{tick: {{}}}}\nreflexes: [{{sense: tick, interval: {BEAT_MS}ms}}]\n")
    engine.start()
    engine.until_run("tick", "ok")
    yield engine
    check_beat(engine)
    assert engine.stop() == 0


def check_beat(engine: Engine) -> None:
    """Nearly every beat of the engine was kept, none of them far too late."""
    starts = engine.rows("type = 'run_start'")
    late = max(start.payload["lateness_ms"] for start in starts[1:])
    assert late < LATE_MS, f"a beat was {late} ms late"
    gap = max(later.ts - earlier.ts for earlier, later in pairwise(starts))
    assert gap < LATE_MS + BEAT_MS, f"no beat for {gap} ms"


def check_others_are_answered(engine: Engine) -> None:
    """A status, a run and a scale are answered as if nobody else were there."""
    for command in (["status"], ["trigger", "tick", "--wait"], ["scale", "2"]):
        began = time.monotonic()
        found = engine.run(*command)
        took = time.monotonic() - began
        assert found.returncode == 0, found.stderr
        assert took < ANSWER_SECONDS, f"{command} took {took:.1f} s"


def connected(engine: Engine, stack: ExitStack) -> socket.socket:
    """Connect a client that knows the socket, but not its manners."""
    client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    client.settimeout(5)
    client.connect(str(engine.home / "data" / "run" / "control.sock"))
    return client


def say_nothing(_client: socket.socket) -> None:
    """Connect, and leave it at that."""


def say_half(client: socket.socket) -> None:
    """Send the first half of a request."""
    client.sendall(ASK[: len(ASK) // 2])


def announce_much(client: socket.socket) -> None:
    """Announce a large frame, and send a part of it."""
    client.sendall(struct.pack("!i", 60_000_000) + b"x" * 1_000_000)


def talk_nonsense(client: socket.socket) -> None:
    """Send bytes that are no frame, or a frame that is no request."""
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")


def ask_without_reading(client: socket.socket) -> None:
    """Ask again and again, and never take an answer."""
    client.settimeout(0.2)
    with suppress(OSError):  # sooner or later it is not listened to any more
        for _ in range(20_000):
            client.sendall(ASK)


MANNERS = (say_nothing, say_half, announce_much, talk_nonsense, ask_without_reading)


@pytest.mark.parametrize("behave", MANNERS)
def test_a_hostile_client_holds_up_nobody(beating: Engine, behave: Callable[[socket.socket], None]) -> None:
    """While it is there, and after it has gone, others are answered and the beat is kept."""
    with ExitStack() as stack:
        behave(connected(beating, stack))
        check_others_are_answered(beating)
    check_others_are_answered(beating)


def test_a_client_that_talks_nonsense_is_told_and_recorded(beating: Engine) -> None:
    """It gets a refusal and is disconnected; the log says so."""
    with ExitStack() as stack:
        client = connected(beating, stack)
        client.sendall(struct.pack("!i", 3) + b"abc")
        answer = b""
        while chunk := client.recv(4096):
            answer += chunk
    assert b"the request is not valid" in answer
    [error] = beating.until(lambda: beating.errors("wire"), "it is recorded")
    assert "client of the control socket" in error.payload["message"]


def test_a_hundred_clients_that_hang_hold_up_nobody(beating: Engine) -> None:
    """More of them than the engine serves at a time: a person with a question is answered all the same."""
    with ExitStack() as stack:
        for n in range(100):
            with suppress(OSError):
                MANNERS[n % 3](connected(beating, stack))
        pause(0.3)
        check_others_are_answered(beating)
    check_others_are_answered(beating)


def test_a_hundred_at_once_are_all_answered(beating: Engine) -> None:
    """A hundred clients that ask at the same time, and listen, each get their status."""
    with ExitStack() as stack:
        clients = []
        for _ in range(100):
            client = connected(beating, stack)
            client.sendall(ASK)
            clients.append(client)
        answers = [client.recv(4) for client in clients]
    assert all(len(answer) == 4 for answer in answers), f"{answers.count(b'')} got no answer"


def test_a_command_gives_up_on_a_kernel_that_hangs(engine: Engine) -> None:
    """Every call has a timeout: one line, exit code 1, and nothing left behind for the kernel once it goes on."""
    engine.start()
    engine.signal(signal.SIGSTOP)
    asked = engine.run("scale", "2")
    engine.signal(signal.SIGCONT)
    assert asked.returncode == 1
    assert asked.stderr.startswith("nerve: the engine did not answer within 5 s: ")
    assert engine.status()["problems"] == []


def test_a_flood_that_comes_and_goes_leaves_nothing_behind(beating: Engine) -> None:
    """A thousand clients in a row leave the kernel with the descriptors that it had."""
    kernel = beating.child("kernel")
    before = kernel.num_fds()
    for n in range(1000):
        with ExitStack() as stack, suppress(OSError):
            MANNERS[n % 2](connected(beating, stack))
    beating.until(lambda: kernel.num_fds() <= before, f"the kernel has its {before} descriptors again")
    check_others_are_answered(beating)
