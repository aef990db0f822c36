"""A command's end of the control socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nerve.control.protocol import PROTOCOL, Envelope, Refused, Reply, Request
from nerve.errors import ControlError, ControlTimeoutError, NotRunningError
from nerve.ipc.channel import Channel
from nerve.ipc.progress import ArchiveProgress

CONNECT_SECONDS = 2.0


R = TypeVar("R", bound=Reply)


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
            raise NotRunningError(f"no engine is running in {home}: start it with `nerve start`") from None
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
                raise NotRunningError(f"the engine in {self._home} stopped before it answered")
            left = deadline - time.monotonic()
            if left <= 0:
                step = "try again, or check the engine's output"
                raise ControlTimeoutError(f"the engine did not answer within {timeout:g} s: {step}")
            self._waiting += self._channel.wait(left)
        return self._waiting.pop(0)
