"""The pipe of a lane: it carries a producer's frames for half of what a socket costs, and keeps them as safe.

The producer makes it and hands one end over with its first bytes; a producer that doesn't is read from its socket.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import sys
from contextlib import suppress

from nerve.errors import WireError
from nerve.eventqueue.messages import FromWriter, Hello, ToWriter
from nerve.ipc.channel import Channel, pack

PIPE_BYTES = 1024 * 1024
"""The most that Linux gives to everyone: the frames that a worker logs while the writer commits."""


class PipedChannel(Channel[FromWriter]):
    """A producer's end: what it sends goes through a pipe of its own."""

    def __init__(self, sock: socket.socket, hello: Hello) -> None:
        """Introduce the producer, and hand the pipe over; OSError when this process can't have one."""
        super().__init__(sock, FromWriter)
        try:
            reading = self._make_pipe()
            try:
                socket.send_fds(sock, [pack(hello)], [reading])  # nothing is in this socket yet: all of it has room
            finally:
                os.close(reading)
        except OSError:
            self.close()
            raise

    def _make_pipe(self) -> int:
        """Send through a new pipe from now on, and give its other end."""
        reading, writing = os.pipe()
        self.send_through(writing)
        if sys.platform == "linux":
            with suppress(OSError):  # this user has many large ones already: a small one does, too
                fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return reading


class WriterChannel(Channel[ToWriter]):
    """The writer's end: reads from the pipe, once it has one."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, ToWriter)
        self._recv = self._recv_first

    def _recv_first(self, most: int) -> bytes:
        data, descriptors, flags, _address = socket.recv_fds(self._sock, most, 1)
        self._recv = self._sock.recv
        if flags & socket.MSG_CTRUNC and not descriptors:
            raise WireError("there was no descriptor left for its pipe")
        if descriptors:
            self._take_over(descriptors[0])
            with suppress(BlockingIOError):
                data += self._recv(most)
        return data

    def _take_over(self, descriptor: int) -> None:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise WireError("what was handed over is no pipe")
        self.receive_from(descriptor)
