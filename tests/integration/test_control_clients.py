"""Clients of the control socket that hang, send garbage, or read nothing: no other client is affected."""

from __future__ import annotations

import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
from support.engine import Engine

from nerve.control.protocol import PROTOCOL, Envelope, GetStatus
from nerve.ipc.channel import pack

REQUEST = bytes(pack(Envelope(PROTOCOL, GetStatus())))


@pytest.fixture
def ticking(engine: Engine) -> Iterator[Engine]:
    """An engine with a sense that runs every 50 ms; it must still be able to stop at the end."""
    engine.sense("tick", "def compute(ctx): ...\n")
    engine.config("workers: 2\nsenses: {tick: {}}\nreflexes: [{sense: tick, interval: 50ms}]\n")
    engine.start()
    engine.until_run("tick", "ok")
    yield engine
    assert engine.stop() == 0


def check_others_are_served(engine: Engine) -> None:
    """Check that commands get their replies before their timeouts, and that the interval goes on."""
    for command in (["status"], ["trigger", "tick", "--wait"], ["scale", "2"]):
        found = engine.run(*command)
        assert found.returncode == 0, found.stderr
    before = len(engine.runs("tick"))
    engine.until(lambda: len(engine.runs("tick")) > before, "the interval goes on")


def connected(engine: Engine, stack: ExitStack) -> socket.socket:
    """Return a client of the control socket, which is closed with the stack."""
    client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    client.settimeout(5)
    client.connect(str(engine.home / "data" / "run" / "control.sock"))
    return client


def say_nothing(_client: socket.socket) -> None:
    """Send nothing."""


def say_half(client: socket.socket) -> None:
    """Send the first half of a request."""
    client.sendall(REQUEST[: len(REQUEST) // 2])


def announce_much(client: socket.socket) -> None:
    """Announce a large frame, and send only a part of it."""
    client.sendall(struct.pack("!i", 60_000_000) + b"x" * 1_000_000)


def send_garbage(client: socket.socket) -> None:
    """Send bytes that are not a frame."""
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")


def send_without_reading(client: socket.socket) -> None:
    """Send requests without end, and read no reply."""
    client.settimeout(0.2)
    with suppress(OSError):  # at some point the engine disconnects it
        for _ in range(20_000):
            client.sendall(REQUEST)


BEHAVIOURS = (say_nothing, say_half, announce_much, send_garbage, send_without_reading)


@pytest.mark.parametrize("behave", BEHAVIOURS)
def test_a_hostile_client_does_not_affect_others(ticking: Engine, behave: Callable[[socket.socket], None]) -> None:
    """Neither while it is connected, nor after it has gone."""
    with ExitStack() as stack:
        behave(connected(ticking, stack))
        check_others_are_served(ticking)
    check_others_are_served(ticking)


def test_a_client_that_sends_garbage_is_refused_and_recorded(ticking: Engine) -> None:
    """It gets a reply that says why, and is disconnected; the log has an error of kind wire."""
    with ExitStack() as stack:
        client = connected(ticking, stack)
        client.sendall(struct.pack("!i", 3) + b"abc")
        answer = b""
        while chunk := client.recv(4096):
            answer += chunk
    assert b"the request is not valid" in answer
    [error] = ticking.until(lambda: ticking.errors("wire"), "the error is recorded")
    assert "client of the control socket" in error.payload["message"]


def test_a_hundred_clients_that_hang_do_not_affect_others(ticking: Engine) -> None:
    """Some send nothing, some half a request, and some a part of a large frame."""
    with ExitStack() as stack:
        for n in range(100):
            with suppress(OSError):
                BEHAVIOURS[n % 3](connected(ticking, stack))
        check_others_are_served(ticking)
    check_others_are_served(ticking)


def test_a_hundred_clients_at_once_all_get_their_reply(ticking: Engine) -> None:
    """Each of them asks for the status."""
    with ExitStack() as stack:
        clients = []
        for _ in range(100):
            client = connected(ticking, stack)
            client.sendall(REQUEST)
            clients.append(client)
        answers = [client.recv(4) for client in clients]
    assert all(len(answer) == 4 for answer in answers), f"{answers.count(b'')} got no reply"


def test_a_command_fails_after_its_timeout_if_the_kernel_hangs(engine: Engine) -> None:
    """It prints one line and exits with 1, and the kernel has no problem when it continues."""
    engine.start()
    engine.signal(signal.SIGSTOP)
    found = engine.run("scale", "2")
    engine.signal(signal.SIGCONT)
    assert found.returncode == 1
    assert found.stderr == "nerve: the engine did not answer within 5 s: try again, or check the engine's output\n"
    assert engine.status()["problems"] == []


def test_a_thousand_clients_leave_no_descriptor_open_in_the_kernel(ticking: Engine) -> None:
    """They connect one after the other, and half of them send a part of a request."""
    kernel = ticking.child("kernel")
    before = kernel.num_fds()
    for n in range(1000):
        with ExitStack() as stack, suppress(OSError):
            BEHAVIOURS[n % 2](connected(ticking, stack))
    ticking.until(lambda: kernel.num_fds() <= before, f"the kernel has its {before} descriptors again")
    check_others_are_served(ticking)
