"""The control socket: requests are answered, and no client can harm the engine."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nerve.control.client import ControlClient
from nerve.control.protocol import (
    PROTOCOL,
    Accepted,
    Answer,
    Envelope,
    GetStatus,
    Refused,
    Request,
    RunArchive,
    StopEngine,
)
from nerve.control.server import ControlServer
from nerve.errors import ControlError, ControlTimeoutError, NotRunningError
from nerve.ipc import sockets
from nerve.ipc.channel import pack
from nerve.ipc.event_loop import Loop
from nerve.ipc.progress import Archived, ArchiveProgress
from nerve.ipc.sockets import socket_listening_at


class Served:
    """A control server whose loop the test turns; `answering` False leaves requests without a reply."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="nv-", dir="/tmp")) / "c.sock"
        self.loop = Loop()
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.protocol_errors: list[str] = []
        self.answering = True
        listener = socket_listening_at(self.path)
        self.server = ControlServer(listener, self.loop, self._handle, self.protocol_errors.append)

    def _handle(self, request: Request, answer: Answer) -> None:
        self.requests.append(request)
        self.answers.append(answer)
        if self.answering:
            answer(Accepted())

    def client(self) -> ControlClient:
        """Connect as a command does."""
        return ControlClient(self.path, self.path.parent)

    def stranger(self) -> socket.socket:
        """Connect a plain socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(self.path))
        return sock

    def turn(self, times: int = 3) -> None:
        """Let the server do everything that it can do without waiting."""
        for _ in range(times):
            self.loop.wait(0)

    def close(self) -> None:
        """Close the server, and remove its socket."""
        self.server.close()
        self.loop.close()
        self.path.unlink(missing_ok=True)
        self.path.parent.rmdir()


@pytest.fixture
def served() -> Iterator[Served]:
    """A server for one test."""
    served = Served()
    yield served
    served.close()


def test_a_request_is_handled_and_answered(served: Served) -> None:
    """Request and reply arrive as what they were sent as."""
    with served.client() as client:
        client.send(StopEngine())
        served.turn()
        assert client.expect(Accepted, 1) == Accepted()
    assert served.requests == [StopEngine()]


def test_a_request_of_another_protocol_version_is_refused(served: Served) -> None:
    """The reply says why, and the request is not carried out."""
    with served.stranger() as sock:
        sock.sendall(pack(Envelope(PROTOCOL + 1, StopEngine())))
        served.turn()
        assert b"protocol" in sock.recv(4096)
    assert served.requests == []


def test_a_reply_of_another_kind_is_an_error(served: Served) -> None:
    """The client never takes one kind of reply for another."""
    with served.client() as client:
        client.send(StopEngine())
        served.turn()
        with pytest.raises(ControlError, match="unexpected Accepted"):
            client.expect(Refused, 1)


def test_progress_is_passed_on_until_the_reply_comes(served: Served) -> None:
    """For a client that reads none of it, only as much is kept as its socket has room for."""
    progress = ArchiveProgress("2026-11-20", 1, 0, 2)
    with served.client() as client:
        client.send(RunArchive(None, vacuum=False))
        served.turn()
        assert client.expect(Accepted, 1)
        answer = served.answers.pop()
        for _ in range(3):
            answer(progress)
        answer(Archived(1, 2))
        received: list[ArchiveProgress] = []
        assert client.expect(Archived, 1, received.append) == Archived(1, 2)
        assert received == [progress] * 3
        for _ in range(100_000):
            answer(progress)
        (channel,) = served.server._clients
        assert len(channel._outbox) <= 1


def test_a_reply_that_does_not_come_is_an_error_after_the_timeout(served: Served) -> None:
    """A command does not wait forever for an engine that hangs."""
    with served.client() as client, pytest.raises(ControlTimeoutError, match="did not answer within"):
        client.expect(Accepted, 0.01)


def test_an_engine_that_ends_before_its_reply_is_noticed_at_once(served: Served) -> None:
    """The closed connection ends the wait."""
    with served.client() as client:
        served.turn()
        served.server.close()
        with pytest.raises(NotRunningError, match="stopped before it answered"):
            client.expect(Accepted, 5)


def test_without_a_listening_engine_none_is_running(tmp_path: Path) -> None:
    """The message says how to start one."""
    with pytest.raises(NotRunningError, match="nerve start"):
        ControlClient(tmp_path / "none", tmp_path)


def test_a_client_that_reads_no_replies_is_disconnected(served: Served) -> None:
    """Replies do not pile up in the kernel's memory."""
    with served.stranger() as sock:
        sock.setblocking(False)
        frame = bytes(pack(Envelope(PROTOCOL, GetStatus()))) * 2000
        for _ in range(2000):
            try:
                sock.send(frame)
            except BlockingIOError:
                served.turn(1)
            except OSError:
                break
        served.turn(20)
    assert served.protocol_errors
    assert "before reading the previous reply" in served.protocol_errors[0]


def test_a_client_of_another_user_is_refused_and_reported(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is closed before it can send anything."""
    monkeypatch.setattr(sockets, "same_user", lambda _sock, _uid: False)
    with served.stranger() as sock:
        served.turn()
        assert sock.recv(1) == b""
    assert ["another user" in line for line in served.protocol_errors] == [True]


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=400), st.booleans())
def test_no_bytes_from_a_client_harm_the_server(data: bytes, framed: bool) -> None:
    """Nothing is raised, nothing is carried out by accident, and the next client is served."""
    served = Served()
    try:
        with served.stranger() as sock:
            sock.sendall(len(data).to_bytes(4, "big") + data if framed else data)
            served.turn()
        served.turn()
        valid = framed and _is_envelope(data)
        assert bool(served.requests) <= valid or not framed
        with served.client() as client:
            client.send(StopEngine())
            served.turn()
            assert client.expect(Accepted, 1)
    finally:
        served.close()
    assert not served.path.exists()


def _is_envelope(data: bytes) -> bool:
    try:
        msgspec.msgpack.decode(data, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def test_a_client_that_sends_requests_without_waiting_is_disconnected(served: Served) -> None:
    """Only the first of a thousand requests is handled."""
    served.answering = False
    with served.client() as client:
        for _ in range(1000):
            client.send(GetStatus())
        served.turn()
        assert len(served.requests) == 1
        assert "before reading the previous reply" in served.protocol_errors[0]
