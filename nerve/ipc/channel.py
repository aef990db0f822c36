"""The wire: typed messages in frames over Unix sockets; the one codec of every socket and pipe that nerve has."""

from __future__ import annotations

import os
import select
import selectors
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from nerve.errors import WireError

MAX_FRAME = 64 * 1024 * 1024
"""The largest body of a frame, in bytes: what announces more is no frame of ours."""

READ_BYTES = 256 * 1024
MAX_READS = 64
"""Reads of one `receive`: together more than a socket holds, so they take all that has arrived, and a flood ends."""

SEND_BUFFER_BYTES = 1024 * 1024

# The frame format of multiprocessing.connection: any process can join with the stdlib's Client and send_bytes.
_HEADER = struct.Struct("!i")
_encode = msgspec.msgpack.Encoder().encode

In = TypeVar("In")


def pack(message: msgspec.Struct) -> bytearray:
    """Encode one message as a frame: 4 bytes of length, then MessagePack; WireError for more than MAX_FRAME bytes."""
    body = _encode(message)
    length = len(body)
    if length > MAX_FRAME:
        raise WireError(f"a {type(message).__name__} of {length} bytes is too large to send (at most {MAX_FRAME})")
    return bytearray(_HEADER.pack(length) + body)


class FrameReader(Generic[In]):
    """Turns a stream of bytes into messages; keeps what is not complete yet."""

    def __init__(self, incoming: Any) -> None:
        self._decode = msgspec.msgpack.Decoder(incoming).decode
        self._partial = bytearray()

    def feed(self, data: bytes) -> list[In]:
        """Take bytes, give the messages that they complete; WireError for bytes that are no frame of ours."""
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
                raise WireError(f"a frame of {length} bytes is no message: {error}") from None
        return messages, at


class Channel(Generic[In]):
    """Typed messages both ways over a connected socket; it never blocks, unless asked to wait.

    A pipe may take the place of the socket in either direction, from any moment between two frames on.
    `incoming` is the type (a union of tagged structs) that the other end may send.
    """

    def __init__(self, sock: socket.socket, incoming: Any) -> None:
        sock.settimeout(0)
        with suppress(OSError):  # macOS refuses when the other end has gone: then there will be nothing to send
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._sock = sock
        self._send: Callable[[bytes | bytearray | memoryview], int] = sock.send
        self._recv: Callable[[int], bytes] = sock.recv
        self._pipes: list[int] = []
        self._inlet = self._outlet = sock.fileno()
        self._reader: FrameReader[In] = FrameReader(incoming)
        self._outbox: deque[memoryview] = deque()
        self.ended = False
        """Everything that the other end has sent was received, and nothing more will come."""
        self.broken = False
        """The other end takes nothing any more; what it sent before can still be received."""

    def fileno(self) -> int:
        """The descriptor of what it receives from, for a selector; -1 once it is closed."""
        return self._inlet

    def interests(self) -> dict[int, int]:
        """What a selector should wait for, by descriptor: for room as well, while something is unsent."""
        found = {self._inlet: selectors.EVENT_READ}
        if self._outbox:
            found[self._outlet] = found.get(self._outlet, 0) | selectors.EVENT_WRITE
        return found

    def send_through(self, pipe: int) -> None:
        """Send through this end of a pipe from now on, in place of the socket; it is closed with the channel."""
        os.set_blocking(pipe, False)
        self._send, self._outlet = partial(os.write, pipe), pipe
        self._pipes.append(pipe)

    def receive_from(self, pipe: int) -> None:
        """Receive from this end of a pipe from now on, in place of the socket; it is closed with the channel."""
        pipe = _own_description(pipe)
        self._recv, self._inlet = partial(os.read, pipe), pipe
        self._pipes.append(pipe)

    @property
    def unsent(self) -> bool:
        """Something still waits for room: select for writing and `flush`."""
        return bool(self._outbox)

    def send(self, message: msgspec.Struct) -> None:
        """Send a message as far as there is room; the rest waits for `flush`."""
        self.send_frame(pack(message))

    def send_frame(self, frame: bytes | bytearray) -> None:
        """Send a frame made by `pack`, as `send` does."""
        if self.ended or self.broken:
            return
        if self._outbox:
            self._outbox.append(memoryview(frame))
            return
        try:
            sent = self._send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.broken = True
            return
        if sent < len(frame):
            self._outbox.append(memoryview(frame)[sent:])

    def flush(self) -> bool:
        """Send what waits; True when nothing waits any more."""
        while self._outbox:
            head = self._outbox[0]
            try:
                sent = self._send(head)
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
        """Block until nothing waits any more."""
        while not self.flush():
            poller = select.poll()
            poller.register(self._outlet, select.POLLOUT)
            poller.poll()

    def receive(self) -> list[In]:
        """Give every message that has arrived; sets `ended` at the end of the stream. Raises WireError."""
        messages: list[In] = []
        for _ in range(MAX_READS):
            data = self._read()
            messages += self._reader.feed(data)
            if len(data) < READ_BYTES:
                break
        return messages

    def wait(self, timeout: float | None) -> list[In]:
        """Block until messages have arrived, the stream has ended, or `timeout` seconds have passed."""
        poller = select.poll()
        for descriptor, events in self.interests().items():
            poller.register(descriptor, poll_events(events))
        poller.poll(None if timeout is None else max(0, timeout * 1000))
        self.flush()
        return self.receive()

    def close(self) -> None:
        """Close the socket; may be called twice."""
        self.ended = self.broken = True
        self._outbox.clear()
        self._sock.close()
        while self._pipes:
            os.close(self._pipes.pop())
        self._inlet = self._outlet = -1

    def _read(self) -> bytes:
        if self.ended:
            return b""
        try:
            data = self._recv(READ_BYTES)
        except BlockingIOError:
            self.ended = self.broken  # who takes nothing any more has sent all there is
            return b""
        except OSError:
            data = b""
        self.ended = not data
        return data


def _own_description(pipe: int) -> int:
    """Give a non-blocking end of the same pipe that whoever made it can't make blocking again, and close this one."""
    if sys.platform != "linux":
        os.set_blocking(pipe, False)
        return pipe
    try:
        return os.open(f"/proc/self/fd/{pipe}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise WireError(f"a pipe can't be opened: {error.strerror}") from None
    finally:
        os.close(pipe)


def poll_events(events: int) -> int:
    """Give the events of a selector as those of `select.poll`."""
    return (select.POLLIN if events & selectors.EVENT_READ else 0) | (
        select.POLLOUT if events & selectors.EVENT_WRITE else 0
    )
