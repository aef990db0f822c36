"""The control socket: what it answers, and what it survives."""

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
from nerve.errors import ControlError, NotRunningError
from nerve.ipc.channel import pack
from nerve.ipc.event_loop import Loop
from nerve.ipc.progress import Archived, ArchiveProgress
from nerve.ipc.sockets import socket_listening_at


class Served:
    """A control server on a socket of its own, turned by hand."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="nv-", dir="/tmp")) / "c.sock"
        self.loop = Loop()
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.offences: list[str] = []
        self.server = ControlServer(socket_listening_at(self.path), self.loop, self._handle, self.offences.append)

    def _handle(self, request: Request, answer: Answer) -> None:
        self.requests.append(request)
        self.answers.append(answer)
        answer(Accepted())

    def client(self) -> ControlClient:
        """Connect as a command does."""
        return ControlClient(self.path, self.path.parent)

    def stranger(self) -> socket.socket:
        """Connect with a bare socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(self.path))
        return sock

    def turn(self, times: int = 3) -> None:
        """Let the server do what it can do without waiting."""
        for _ in range(times):
            self.loop.wait(0)

    def close(self) -> None:
        """Hang up, and remove the socket."""
        self.server.close()
        self.loop.close()
        self.path.unlink(missing_ok=True)
        self.path.parent.rmdir()


@pytest.fixture
def served() -> Iterator[Served]:
    """Give a server for one test."""
    made = Served()
    yield made
    made.close()


def test_a_request_is_handed_on_and_answered(served: Served) -> None:
    """What the client sends arrives typed, and so does the answer."""
    with served.client() as client:
        client.send(StopEngine())
        served.turn()
        assert client.expect(Accepted, 1) == Accepted()
    assert served.requests == [StopEngine()]


def test_another_protocol_is_refused_in_words(served: Served) -> None:
    """A command of another version is told so, and its request is not carried out."""
    with served.stranger() as sock:
        sock.sendall(pack(Envelope(PROTOCOL + 1, StopEngine())))
        served.turn()
        assert b"protocol" in sock.recv(4096)
    assert served.requests == []


def test_an_unexpected_answer_and_a_refusal_are_errors(served: Served) -> None:
    """The client never takes one kind of answer for another."""
    with served.client() as client:
        client.send(StopEngine())
        served.turn()
        with pytest.raises(ControlError, match="unexpected Accepted"):
            client.expect(Refused, 1)


def test_progress_is_passed_on_until_the_answer_comes(served: Served) -> None:
    """However much of it there is; who takes none of it gets no more than has room."""
    progress = ArchiveProgress("2026-11-20", 1, 0, 2)
    with served.client() as client:
        client.send(RunArchive(None, vacuum=False))
        served.turn()
        assert client.expect(Accepted, 1)
        answer = served.answers.pop()
        for _ in range(3):
            answer(progress)
        answer(Archived(1, 2))
        heard: list[ArchiveProgress] = []
        assert client.expect(Archived, 1, heard.append) == Archived(1, 2)
        assert heard == [progress] * 3
        for _ in range(100_000):
            answer(progress)
        (channel,) = served.server._clients
        assert len(channel._outbox) <= 1


def test_a_client_that_waits_in_vain_gives_up(served: Served) -> None:
    """A hung engine is said to be one after the timeout."""
    with served.client() as client, pytest.raises(ControlError, match="did not answer within"):
        client.expect(Accepted, 0.01)


def test_an_engine_that_goes_away_is_noticed_at_once(served: Served) -> None:
    """The end of the connection ends the waiting."""
    with served.client() as client:
        served.turn()
        served.server.close()
        with pytest.raises(NotRunningError, match="has ended"):
            client.expect(Accepted, 5)


def test_nobody_there_is_not_running(tmp_path: Path) -> None:
    """A missing socket, and one that nobody listens at, mean the same."""
    with pytest.raises(NotRunningError, match="nerve start"):
        ControlClient(tmp_path / "none", tmp_path)


def test_a_client_that_takes_no_answers_is_hung_up_on(served: Served) -> None:
    """Answers are not hoarded for a client that only asks: memory stays bounded."""
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
    assert served.offences
    assert "before it has taken its answers" in served.offences[0]


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=400), st.booleans())
def test_any_bytes_are_survived(data: bytes, framed: bool) -> None:
    """Whatever arrives, nothing is raised, nothing is carried out by accident, and the next client is served."""
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


def test_a_client_that_asks_again_before_it_is_answered_is_hung_up_on(served: Served) -> None:
    """Nobody can have the kernel do the same thing a thousand times at once."""
    served.server._handle = lambda request, answer: served.requests.append(request)
    with served.client() as client:
        for _ in range(1000):
            client.send(GetStatus())
        served.turn()
        assert len(served.requests) == 1
        assert "asks for more" in served.offences[0]
