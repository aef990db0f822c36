"""A producer's end of the event queue: what was sent, what is acknowledged, and what must be sent again."""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from nerve.errors import WireError
from nerve.eventqueue.messages import Ack, Batch, Done, FromWriter, Goodbye, Hello, Order, Welcome
from nerve.eventqueue.pipe import PipedChannel
from nerve.events.model import LogEvent
from nerve.ipc.channel import Channel, pack

logger = logging.getLogger("nerve.eventqueue")

LIMIT_BYTES = 1024 * 1024
"""How much one producer may have unacknowledged before it is full, in bytes (a single batch may be larger)."""


class Lane:
    """One producer's connection to the writer; it never blocks, and outlives any number of writers.

    Every batch is kept until the writer has acknowledged its commit. When the connection breaks, the next one
    begins with the writer saying where it stands, and the rest is sent again: so each batch is committed exactly once.
    """

    def __init__(self, address: Path, producer: str, limit_bytes: int = LIMIT_BYTES, *, piped: bool = False) -> None:
        """Make a lane without a connection; `piped` is for an owner that logs much, and waits for its `interests`."""
        self._address = str(address)
        self._piped = piped
        self._producer = producer
        self._limit = limit_bytes
        self._channel: Channel[FromWriter] | None = None
        self._connections = 0
        self._welcomed = False
        self._last_seq = 0
        self._unacked: deque[bytearray] = deque()
        self._unacked_bytes = 0

    @property
    def connected(self) -> bool:
        """There is a connection, though the writer may not have answered yet."""
        return self._channel is not None

    @property
    def clear(self) -> bool:
        """Every batch is out of this process: its death would lose nothing."""
        return self._welcomed and self._channel is not None and not self._channel.unsent

    @property
    def unsent(self) -> bool:
        """Something waits for room in the socket: select for writing, then `flush`."""
        return self._channel is not None and self._channel.unsent

    @property
    def full(self) -> bool:
        """The writer is behind: submit nothing more, if that can be helped."""
        return self._unacked_bytes >= self._limit

    @property
    def settled(self) -> bool:
        """Every batch is committed."""
        return not self._unacked

    @property
    def unacknowledged(self) -> int:
        """How many batches are not known to be committed."""
        return len(self._unacked)

    @property
    def last_seq(self) -> int:
        """The number of the last batch submitted."""
        return self._last_seq

    @property
    def committed_seq(self) -> int:
        """The number of the last batch known to be committed."""
        return self._last_seq - len(self._unacked)

    @property
    def connections(self) -> int:
        """How many connections there have been: a new one may well have the descriptor of the last."""
        return self._connections

    def fileno(self) -> int:
        """The descriptor of the connection; -1 while there is none."""
        return self._channel.fileno() if self._channel else -1

    def interests(self) -> dict[int, int]:
        """What a selector should wait for, by descriptor; nothing while there is no connection."""
        return self._channel.interests() if self._channel else {}

    def connect(self) -> bool:
        """Connect and introduce ourselves; False when nobody listens (yet)."""
        hello = Hello(self._producer, self.committed_seq, self._last_seq)
        try:
            sock = _connected(self._address)
            self._channel = PipedChannel(sock, hello) if self._piped else Channel(sock, FromWriter)
        except OSError:
            return False
        if not self._piped:
            self._channel.send(hello)
        self._connections += 1
        return True

    def submit(self, events: Sequence[LogEvent]) -> int:
        """Take events as one batch (several, if they are too large for one), and give the number of the last.

        They are sent as far as there is room. Raises WireError for an event that is too large on its own.
        """
        if not events:
            return self._last_seq
        try:
            frame = pack(Batch(self._last_seq + 1, list(events)))
        except WireError:
            if len(events) == 1:
                raise
            half = len(events) // 2
            self.submit(events[:half])
            return self.submit(events[half:])
        self._last_seq += 1
        self._unacked.append(frame)
        self._unacked_bytes += len(frame)
        if self._welcomed and self._channel:
            self._channel.send_frame(frame)
            if self._channel.broken:
                self._drop_if_ended()
        return self._last_seq

    def order(self, order: Order) -> bool:
        """Send an order to the writer; False while there is none (an order is not kept: its sender asks again)."""
        if not (self._welcomed and self._channel):
            return False
        self._channel.send(order)
        return True

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        if self._channel:
            self._channel.flush()
            self._drop_if_ended()

    def receive(self) -> list[Done]:
        """Handle what the writer has said; gives the outcomes of orders. A broken connection is dropped."""
        done: list[Done] = []
        if self._channel is None:
            return done
        try:
            for message in self._channel.receive():
                match message:
                    case Ack(seq):
                        self._forget_up_to(seq)
                    case Welcome(seq):
                        self._resume(seq)
                    case Done():
                        done.append(message)
        except WireError:
            logger.exception("the writer's end of the event queue made no sense; reconnecting")
            self._channel.ended = True
        self._drop_if_ended()
        return done

    def close(self) -> None:
        """Close the connection; says goodbye when everything is committed. May be called twice."""
        if self._channel:
            if self._welcomed and self.settled:
                self._channel.send(Goodbye())
            self._channel.close()
        self._channel = None
        self._welcomed = False

    def _resume(self, seq: int) -> None:
        self._forget_up_to(seq)
        self._welcomed = True
        if self._channel:
            for frame in self._unacked:
                self._channel.send_frame(frame)

    def _forget_up_to(self, seq: int) -> None:
        while self._unacked and self.committed_seq < seq:
            self._unacked_bytes -= len(self._unacked.popleft())

    def _drop_if_ended(self) -> None:
        if self._channel and (self._channel.ended or self._channel.broken):
            self._channel.close()
            self._channel = None
            self._welcomed = False


def _connected(address: str) -> socket.socket:
    """Connect without waiting; OSError when nobody listens, or when this process can't have another descriptor."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(0)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock
