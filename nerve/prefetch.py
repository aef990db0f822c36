"""Prefetch: runs that a busy worker finds the moment it is done, and that the kernel can take back until then.

A worker that had to ask for each run would fall asleep after each, and waking it costs more than a short run takes.
No run is stuck behind a long one all the same: each lies in a socket as one packet, which the worker or the kernel
takes, whoever comes first, in one system call. So there is no lock that the dead could hold.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

import msgspec

from nerve.messages import Run

PREFETCHING = sys.platform == "linux"
"""Whether the system has such sockets; macOS has none, and a worker there is handed one run after the other."""

PACKET_BYTES = 256 * 1024
"""A larger run is not put there; the system may have a smaller limit."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Run).decode


class Prefetch:
    """The kernel's side of what one worker has before it."""

    def __init__(self) -> None:
        """OSError where the system has no such sockets, or no more of them."""
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.settimeout(0)
        self.theirs.settimeout(0)

    def put(self, run: Run) -> bool:
        """Put a run behind those that are there; False where it has no room."""
        packet = _encode(run)
        try:
            return len(packet) <= PACKET_BYTES and self._ours.send(packet) > 0
        except OSError:
            return False

    def take_back(self) -> list[Run]:
        """Take all runs that the worker has not taken yet, and give them as they were put there."""
        runs = []
        with suppress(BlockingIOError):
            while True:
                runs.append(_decode(self.theirs.recv(PACKET_BYTES)))
        return runs

    def close(self) -> None:
        """Close both ends; what the worker has inherited stays its own."""
        self._ours.close()
        self.theirs.close()


def take(end: socket.socket) -> Run | None:
    """Take the next run, if there still is one (worker)."""
    try:
        packet = end.recv(PACKET_BYTES)
    except BlockingIOError:
        return None
    return _decode(packet) if packet else None
