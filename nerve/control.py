"""The control socket: typed requests and replies between `nerve ...` commands and the running kernel."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from nerve.errors import ControlError, NotRunningError, WireError
from nerve.events import Status
from nerve.loop import Loop
from nerve.progress import ArchiveProgress
from nerve.status import EngineStatus
from nerve.wire import Channel, same_user

PROTOCOL = 1
MAX_CLIENTS = 256
CONNECT_SECONDS = 2.0


class GetStatus(msgspec.Struct, frozen=True, tag=1):
    """Ask how the engine is."""


class TriggerSense(msgspec.Struct, frozen=True, tag=2):
    """Ask for a run of a sense; `payload` is JSON text. With `wait` a Finished follows the Accepted."""

    sense: str
    payload: str | None
    wait: bool


class StopEngine(msgspec.Struct, frozen=True, tag=3):
    """Ask for a graceful stop; the connection ends when the kernel does."""


class RunArchive(msgspec.Struct, frozen=True, tag=4):
    """Ask for a run of the archiver at once; `retention` in seconds, None for the configured one."""

    retention: float | None
    vacuum: bool


class ScaleWorkers(msgspec.Struct, frozen=True, tag=5):
    """Ask for another number of workers."""

    workers: int


class ReloadFiles(msgspec.Struct, frozen=True, tag=6):
    """Ask to look at nerve.yaml and all senses now, and to load all that is good anew."""


class Envelope(msgspec.Struct, frozen=True):
    """What every request travels in: the version of this protocol that the client speaks."""

    protocol: int
    request: GetStatus | TriggerSense | StopEngine | RunArchive | ScaleWorkers | ReloadFiles


class Refused(msgspec.Struct, frozen=True, tag=1):
    """The kernel won't, and says why in one line."""

    message: str


class Accepted(msgspec.Struct, frozen=True, tag=2):
    """The kernel will."""


class StatusReply(msgspec.Struct, frozen=True, tag=3):
    """How the engine is."""

    status: EngineStatus


class Finished(msgspec.Struct, frozen=True, tag=4):
    """A run that was waited for has ended, and all of it is committed."""

    run_id: str
    status: Status


class ArchiveDone(msgspec.Struct, frozen=True, tag=5):
    """A run of the archiver has ended; `notes` are sentences that who asked should read."""

    files: int
    rows: int
    notes: tuple[str, ...] = ()


class Scaled(msgspec.Struct, frozen=True, tag=6):
    """The number of workers was `before`, and is what was asked for from now on."""

    before: int


class Reloaded(msgspec.Struct, frozen=True, tag=7):
    """What is in force now: the changes of the configuration, the senses loaded anew, and what is wrong with files."""

    changes: tuple[str, ...]
    senses: tuple[str, ...]
    problems: tuple[str, ...]


Request = GetStatus | TriggerSense | StopEngine | RunArchive | ScaleWorkers | ReloadFiles
Reply = Refused | Accepted | StatusReply | Finished | ArchiveDone | Scaled | Reloaded | ArchiveProgress
Answer = Callable[[Reply], None]
R = TypeVar("R", bound=Reply)
_Turn = Literal["silent", "asks", "answered"]


class ControlServer:
    """The kernel's end: reads requests, hands them to `handle` with a way to answer; no client can hold it up.

    A client that breaks the rules is disconnected, and `offended` is told in one line.
    """

    def __init__(
        self,
        listener: socket.socket,
        loop: Loop,
        handle: Callable[[Request, Answer], None],
        offended: Callable[[str], None],
    ) -> None:
        self._listener = listener
        self._loop = loop
        self._handle = handle
        self._offended = offended
        self._clients: dict[Channel[Envelope], _Turn] = {}
        """Who is connected, in the order of their coming, and whose turn it is to speak."""
        loop.watch(listener, self._accept)

    def flush(self) -> None:
        """Send what is still on its way, as far as there is room."""
        for client in list(self._clients):
            client.flush()

    def close(self) -> None:
        """Hang up on everybody."""
        self._loop.forget(self._listener)
        self._listener.close()
        for client in list(self._clients):
            self._drop(client)

    def _accept(self) -> None:
        try:
            sock, _address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        if not same_user(sock, os.getuid()):
            sock.close()
            self._offended("a process of another user tried the control socket; it was refused")
            return
        client: Channel[Envelope] = Channel(sock, Envelope)
        if len(self._clients) >= MAX_CLIENTS and not self._make_room():
            client.send(Refused(f"{MAX_CLIENTS} commands wait for the engine already: try again when some are done"))
            client.close()
            return
        self._clients[client] = "silent"
        self._loop.watch(client, lambda: self._read(client))

    def _make_room(self) -> bool:
        """Hang up on the one that has been silent for longest; False if all have asked for something."""
        silent = next((client for client, turn in self._clients.items() if turn == "silent"), None)
        if silent:
            self._drop(silent)
        return silent is not None

    def _read(self, client: Channel[Envelope]) -> None:
        client.flush()
        try:
            for envelope in client.receive():
                self._dispatch(client, envelope)
        except WireError as error:
            client.send(Refused(f"that was no request: {error}"))
            self._drop(client)
            self._offended(f"a client of the control socket was disconnected: {error}")
        if client.ended:
            self._drop(client)

    def _dispatch(self, client: Channel[Envelope], envelope: Envelope) -> None:
        if client.unsent or self._clients[client] == "asks":
            raise WireError("it asks for more before it has taken its answers")
        self._clients[client] = "asks"
        if envelope.protocol != PROTOCOL:
            self._answer(
                client, Refused(f"the engine speaks protocol {PROTOCOL}, this command {envelope.protocol}: restart it")
            )
        else:
            self._handle(envelope.request, lambda reply: self._answer(client, reply))

    def _answer(self, client: Channel[Envelope], reply: Reply) -> None:
        if client in self._clients:
            self._clients[client] = "answered"
        if not (isinstance(reply, ArchiveProgress) and client.unsent):  # it is soon out of date: none piles up
            client.send(reply)

    def _drop(self, client: Channel[Envelope]) -> None:
        if client in self._clients:
            del self._clients[client]
            self._loop.forget(client)
            client.close()


class ControlClient:
    """A command's end: connects, asks, and waits for answers, each with a timeout in seconds."""

    def __init__(self, path: Path, home: Path) -> None:
        self._home = home
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(CONNECT_SECONDS)
        try:
            sock.connect(str(path))
        except OSError:
            sock.close()
            raise NotRunningError(f"nerve is not running in {home}: start it with `nerve start`") from None
        self._channel: Channel[Reply] = Channel(sock, Reply)
        self._waiting: list[Reply] = []

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._channel.close()

    def send(self, request: Request) -> None:
        """Send a request; its answers are taken with `expect`."""
        self._channel.send(Envelope(PROTOCOL, request))

    def expect(
        self, kind: type[R], timeout: float, progressed: Callable[[ArchiveProgress], None] = lambda _progress: None
    ) -> R:
        """Wait for an answer of this kind; ControlError when it is refused, late, or the engine goes away.

        What comes before it of an archiver's progress is passed on.
        """
        deadline = time.monotonic() + timeout
        while True:
            reply = self._next(deadline, timeout)
            if isinstance(reply, Refused):
                raise ControlError(reply.message)
            if isinstance(reply, kind):
                return reply
            if not isinstance(reply, ArchiveProgress):
                raise ControlError(f"the engine answered with an unexpected {type(reply).__name__}")
            progressed(reply)

    def wait_for_end(self, timeout: float) -> bool:
        """Wait until the engine has hung up; tells whether it has."""
        deadline = time.monotonic() + timeout
        while not self._channel.ended and time.monotonic() < deadline:
            self._waiting += self._channel.wait(deadline - time.monotonic())
        return self._channel.ended

    def _next(self, deadline: float, timeout: float) -> Reply:
        while not self._waiting:
            if self._channel.ended:
                raise NotRunningError(f"the engine in {self._home} has ended before it answered")
            left = deadline - time.monotonic()
            if left <= 0:
                raise ControlError(f"the engine did not answer within {timeout:g} s")
            self._waiting += self._channel.wait(left)
        return self._waiting.pop(0)
