"""The kernel's end of the control socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Literal

from nerve.control.protocol import PROTOCOL, Answer, Envelope, Refused, Reply, Request
from nerve.errors import WireError
from nerve.ipc.channel import Channel
from nerve.ipc.event_loop import Loop
from nerve.ipc.progress import ArchiveProgress
from nerve.ipc.sockets import accept_same_user

MAX_CLIENTS = 256

_State = Literal["silent", "waiting", "answered"]


class ControlServer:
    """Reads requests, and passes them to `handle` with a way to answer; no client can block it.

    A client that violates the protocol is disconnected, and `on_protocol_error` is called with one line about it.
    """

    def __init__(
        self,
        listener: socket.socket,
        loop: Loop,
        handle: Callable[[Request, Answer], None],
        on_protocol_error: Callable[[str], None],
    ) -> None:
        self._listener = listener
        self._loop = loop
        self._handle = handle
        self._on_protocol_error = on_protocol_error
        self._clients: dict[Channel[Envelope], _State] = {}
        """In the order in which they connected; `waiting` ones have sent a request that is not answered yet."""
        loop.watch(listener, self._accept)

    def close(self) -> None:
        """Disconnect all clients and stop listening."""
        self._loop.forget(self._listener)
        self._listener.close()
        for client in list(self._clients):
            self._drop(client)

    def _accept(self) -> None:
        try:
            sock = accept_same_user(self._listener)
        except WireError as error:
            self._on_protocol_error(f"the control socket refused a connection: {error}")
            return
        if sock is None:
            return
        client: Channel[Envelope] = Channel(sock, Envelope)
        if len(self._clients) >= MAX_CLIENTS and not self._make_room():
            message = f"{MAX_CLIENTS} commands are waiting for the engine: try again when some have finished"
            client.send(Refused(message))
            client.close()
            return
        self._clients[client] = "silent"
        self._loop.watch(client, lambda: self._read(client))

    def _make_room(self) -> bool:
        """Disconnect the client that has been silent longest; return False if all have sent a request."""
        silent = next((client for client, state in self._clients.items() if state == "silent"), None)
        if silent:
            self._drop(silent)
        return silent is not None

    def _read(self, client: Channel[Envelope]) -> None:
        client.flush()
        try:
            for envelope in client.receive():
                self._dispatch(client, envelope)
        except WireError as error:
            client.send(Refused(f"the request is not valid: {error}"))
            self._drop(client)
            self._on_protocol_error(f"a client of the control socket was disconnected: {error}")
        if client.ended:
            self._drop(client)

    def _dispatch(self, client: Channel[Envelope], envelope: Envelope) -> None:
        if client.unsent or self._clients[client] == "waiting":
            raise WireError("it sent a request before reading the previous reply")
        self._clients[client] = "waiting"
        if envelope.protocol != PROTOCOL:
            versions = f"the engine speaks protocol {PROTOCOL}, this command {envelope.protocol}"
            self._answer(client, Refused(f"{versions}: restart the engine with the installed version"))
        else:
            self._handle(envelope.request, lambda reply: self._answer(client, reply))

    def _answer(self, client: Channel[Envelope], reply: Reply) -> None:
        if client in self._clients:
            self._clients[client] = "answered"
        if not (isinstance(reply, ArchiveProgress) and client.unsent):  # a newer one follows: none has to queue up
            client.send(reply)

    def _drop(self, client: Channel[Envelope]) -> None:
        if client in self._clients:
            del self._clients[client]
            self._loop.forget(client)
            client.close()
