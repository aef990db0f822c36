"""The socket through which the archiver sends orders to the writer: both ends."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nerve.errors import WireError
from nerve.ipc.channel import Channel
from nerve.ipc.sockets import same_user
from nerve.store.archive.order_messages import Done, Order

RECONNECT_SECONDS = 0.02
"""The time between two attempts to connect to the writer."""


class OrderClient:
    """The archiver's end; it connects to the current writer when there is an order to send."""

    def __init__(self, address: Path) -> None:
        self._address = str(address)
        self._channel: Channel[Done] | None = None

    def ask(self, order: Order, timeout: float) -> Done | None:
        """Send an order and wait for its result; None if the writer exits or takes longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (channel := self._connected()) is None:
            if time.monotonic() >= deadline:
                return None
            time.sleep(RECONNECT_SECONDS)
        channel.send(order)
        while (left := deadline - time.monotonic()) > 0 and not (channel.ended or channel.broken):
            for done in channel.wait(left):
                if done.request == order.request:
                    return done
        self.close()  # a late answer must not be taken for the answer to the next order
        return None

    def close(self) -> None:
        """Disconnect; may be called twice."""
        if self._channel:
            self._channel.close()
        self._channel = None

    def _connected(self) -> Channel[Done] | None:
        if self._channel is None:
            self._channel = self._connect()
        return self._channel

    def _connect(self) -> Channel[Done] | None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(0)
            sock.connect(self._address)
        except OSError:
            sock.close()
            return None
        return Channel(sock, Done)


@dataclass(slots=True, eq=False)
class PendingOrder:
    """An order that is not answered yet; `rows` counts the rows that it has deleted so far."""

    order: Order
    sender: Channel[Order]
    rows: int = 0


class OrderServer:
    """The writer's end. A connection that sends anything but orders is closed and reported."""

    def __init__(
        self, listener: socket.socket, selector: selectors.BaseSelector, report: Callable[[str], None]
    ) -> None:
        listener.settimeout(0)
        self._listener = listener
        self._selector = selector
        self._report = report
        self._channels: list[Channel[Order]] = []
        self.pending: deque[PendingOrder] = deque()
        """The orders that are not answered yet, oldest first."""
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def answer(self, pending: PendingOrder, done: Done) -> None:
        """Send the result of an order, and remove it from `pending`."""
        self.pending.remove(pending)
        pending.sender.send(done)  # the socket has room: each sender waits for one answer at a time

    def close(self) -> None:
        """Close every connection."""
        for channel in list(self._channels):
            self._drop(channel)

    def _accept(self) -> None:
        while True:
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            if not same_user(sock, os.getuid()):
                sock.close()
                self._report("a process of another user tried to send orders to the writer; its connection was refused")
                continue
            channel: Channel[Order] = Channel(sock, Order)
            self._channels.append(channel)
            self._selector.register(channel, selectors.EVENT_READ, partial(self._read, channel))

    def _read(self, channel: Channel[Order]) -> None:
        try:
            self.pending += [PendingOrder(order, channel) for order in channel.receive()]
        except WireError as error:
            self._report(f"a process that sent orders to the writer was disconnected: {error}")
            channel.ended = True
        if channel.ended:
            self._drop(channel)

    def _drop(self, channel: Channel[Order]) -> None:
        """Close a connection and drop its orders."""
        self._channels.remove(channel)
        self._selector.unregister(channel)
        channel.close()
        self.pending = deque(pending for pending in self.pending if pending.sender is not channel)
