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
    """Connects to the engine of a workspace, sends requests and waits for their replies.

    Raises NotRunningError if no engine listens at `path`, or if it ends before it has replied.
    """

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
        self._received: list[Reply] = []

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._channel.close()

    def send(self, request: Request) -> None:
        """Send a request; `expect` returns its reply."""
        self._channel.send(Envelope(PROTOCOL, request))

    def expect(
        self, kind: type[R], timeout: float, on_progress: Callable[[ArchiveProgress], None] = lambda _progress: None
    ) -> R:
        """Wait up to `timeout` seconds for a reply of this kind, and return it.

        `on_progress` is called with each report of the archiver that comes before it. Raises ControlTimeoutError if the
        reply is late, ControlError if the request is refused, and NotRunningError if the engine ends.
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
            on_progress(reply)

    def wait_for_end(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until the engine closes the connection; return True if it has."""
        deadline = time.monotonic() + timeout
        while not self._channel.ended and time.monotonic() < deadline:
            self._received += self._channel.wait(deadline - time.monotonic())
        return self._channel.ended

    def _next(self, deadline: float, timeout: float) -> Reply:
        while not self._received:
            if self._channel.ended:
                raise NotRunningError(f"the engine in {self._home} stopped before it answered")
            left = deadline - time.monotonic()
            if left <= 0:
                step = "try again, or check the engine's output"
                raise ControlTimeoutError(f"the engine did not answer within {timeout:g} s: {step}")
            self._received += self._channel.wait(left)
        return self._received.pop(0)
