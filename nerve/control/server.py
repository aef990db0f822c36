"""The kernel's end of the control socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Literal

from nerve.control.protocol import PROTOCOL, Answer, Envelope, Refused, Reply, Request
from nerve.errors import WireError
from nerve.ipc.channel import Channel
from nerve.ipc.event_loop import Loop
from nerve.ipc.progress import ArchiveProgress
from nerve.ipc.sockets import same_user

MAX_CLIENTS = 256


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
