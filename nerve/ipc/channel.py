"""Typed messages in frames over Unix sockets; the one codec of all sockets and pipes between processes."""

from __future__ import annotations

import select
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import Any, Generic, TypeVar

import msgspec

from nerve.errors import WireError

MAX_FRAME = 64 * 1024 * 1024
"""Limit on the body of a frame, in bytes: a header that announces more is not valid."""

READ_BYTES = 256 * 1024
MAX_READS = 64
"""Limit on the reads of one `receive`. A socket holds less, so all that has arrived is read, and a flood ends."""

SEND_BUFFER_BYTES = 1024 * 1024

# The frame format of multiprocessing.connection: any Python process can join with its Client and send_bytes.
_HEADER = struct.Struct("!i")
_encode = msgspec.msgpack.Encoder().encode

In = TypeVar("In")


def pack(message: msgspec.Struct) -> bytearray:
    """Return a message as a frame: 4 bytes of length, then MessagePack. Raises WireError above MAX_FRAME bytes."""
    body = _encode(message)
    length = len(body)
    if length > MAX_FRAME:
        raise WireError(f"a {type(message).__name__} of {length} bytes is too large to send (at most {MAX_FRAME})")
    return bytearray(_HEADER.pack(length) + body)


class FrameReader(Generic[In]):
    """Turns a stream of bytes into messages; keeps an incomplete frame until the rest of it has come."""

    def __init__(self, incoming: Any) -> None:
        self._decode = msgspec.msgpack.Decoder(incoming).decode
        self._partial = bytearray()

    def feed(self, data: bytes) -> list[In]:
        """Add bytes and return the messages that they complete. Raises WireError for an invalid frame."""
        if self._partial:
            self._partial += data
            messages, used = self._parse(memoryview(self._partial))
            del self._partial[:used]
        else:
            messages, used = self._parse(memoryview(data))
            self._partial += data[used:]
        return messages

    def _parse(self, buffer: memoryview) -> tuple[list[In], int]:
        messages: list[In] = []
        at, end, length = 0, len(buffer), 0
        with buffer:
            try:
                while end - at >= _HEADER.size:
                    (length,) = _HEADER.unpack_from(buffer, at)
                    if not 0 < length <= MAX_FRAME:
                        raise WireError(f"a frame announces {length} bytes (at most {MAX_FRAME} are allowed)")
                    body = at + _HEADER.size
                    if end - body < length:
                        break
                    at = body + length
                    messages.append(self._decode(buffer[body:at]))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise WireError(f"a frame of {length} bytes is not a valid message: {error}") from None
        return messages, at


class Channel(Generic[In]):
    """Typed messages in both directions over a connected socket; only `wait` and `flush_all` block.

    `incoming` is the type that the peer may send: a union of tagged structs.
    """

    def __init__(self, sock: socket.socket, incoming: Any) -> None:
        sock.settimeout(0)
        with suppress(OSError):  # macOS refuses if the peer has gone; then there is nothing to send anyway
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._sock = sock
        self._reader: FrameReader[In] = FrameReader(incoming)
        self._outbox: deque[memoryview] = deque()
        self.ended = False
        """True once everything that the peer sent was received, and nothing more can come."""
        self.broken = False
        """True once nothing can be sent to the peer any more; what it sent before can still be received."""

    def fileno(self) -> int:
        """Return the descriptor to select for reading; -1 once the channel is closed."""
        return self._sock.fileno()

    @property
    def unsent(self) -> bool:
        """True while something waits for room in the socket: select for writing, and call `flush`."""
        return bool(self._outbox)

    def send(self, message: msgspec.Struct) -> None:
        """Send as much of a message as there is room for; the rest waits for `flush`."""
        self.send_frame(pack(message))

    def send_frame(self, frame: bytes | bytearray) -> None:
        """Send a frame, which `pack` made, as `send` does."""
        if self.ended or self.broken:
            return
        if self._outbox:
            self._outbox.append(memoryview(frame))
            return
        try:
            sent = self._sock.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.broken = True
            return
        if sent < len(frame):
            self._outbox.append(memoryview(frame)[sent:])

    def flush(self) -> bool:
        """Send as much of the unsent data as there is room for; return True if none is left."""
        while self._outbox:
            head = self._outbox[0]
            try:
                sent = self._sock.send(head)
            except BlockingIOError:
                return False
            except OSError:
                self.broken = True
                self._outbox.clear()
                return True
            if sent < len(head):
                self._outbox[0] = head[sent:]
            else:
                self._outbox.popleft()
        return True

    def flush_all(self) -> None:
        """Block until everything is sent, or the peer has gone."""
        while not self.flush():
            poller = select.poll()
            poller.register(self._sock, select.POLLOUT)
            poller.poll()

    def receive(self) -> list[In]:
        """Return the messages that have arrived; sets `ended` at the end of the stream. Raises WireError."""
        messages: list[In] = []
        for _ in range(MAX_READS):
            data = self._read()
            messages += self._reader.feed(data)
            if len(data) < READ_BYTES:
                break
        return messages

    def wait(self, timeout: float | None) -> list[In]:
        """Block until something has arrived, the stream has ended, or `timeout` seconds have passed (None: no limit).

        Sends unsent data meanwhile, and returns the messages that have arrived. Raises WireError.
        """
        poller = select.poll()
        poller.register(self._sock, select.POLLIN | (select.POLLOUT if self._outbox else 0))
        poller.poll(None if timeout is None else max(0, timeout * 1000))
        self.flush()
        return self.receive()

    def close(self) -> None:
        """Close the socket; may be called twice."""
        self.ended = self.broken = True
        self._outbox.clear()
        self._sock.close()

    def _read(self) -> bytes:
        if self.ended:
            return b""
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            self.ended = self.broken  # a peer that stopped reading has nothing left to send
            return b""
        except OSError:
            data = b""
        self.ended = not data
        return data
