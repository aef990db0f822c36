"""Prefetch: runs that a busy worker finds the moment it is done, and that the kernel can take back until then.

A worker that had to ask for each run would fall asleep after each, and waking it costs more than a short run takes.
No run is stuck behind a long one all the same: each lies in a pipe as one packet, which the worker or the kernel
takes, whoever comes first, in one system call. So there is no lock that the dead could hold.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys
from contextlib import suppress

import msgspec

from nerve.processes.messages import Run

PACKET_BYTES = select.PIPE_BUF
"""What is larger would be cut in two: such a run is not put there."""

PIPE_BYTES = 128 * 1024
"""Room for 32 packets: each takes a page."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Run).decode


class Prefetch:
    """The kernel's side of what one worker has before it; `theirs` is the descriptor that the worker takes from."""

    def __init__(self) -> None:
        """OSError where the system has no room for another pipe."""
        self.theirs, self._ours = _pipe()
        with suppress(OSError):  # a user can have only so much of it; then there is room for fewer
            fcntl.fcntl(self._ours, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def put(self, run: Run) -> bool:
        """Put a run behind those that are there; False where it has no room."""
        packet = _encode(run)
        if len(packet) > PACKET_BYTES:
            return False
        try:
            os.write(self._ours, packet)
        except BlockingIOError:
            return False
        return True

    def take_back(self) -> list[Run]:
        """Take all runs that the worker has not taken yet, and give them as they were put there."""
        runs = []
        while run := take(self.theirs):
            runs.append(run)
        return runs

    def close(self) -> None:
        """Close both ends; what the worker has inherited stays its own."""
        os.close(self._ours)
        os.close(self.theirs)


def take(descriptor: int) -> Run | None:
    """Take the next run, if there still is one (worker, and kernel)."""
    try:
        packet = os.read(descriptor, PACKET_BYTES)
    except BlockingIOError:
        return None
    return _decode(packet) if packet else None


def _pipe() -> tuple[int, int]:
    """Make a pipe that keeps packets apart; OSError where there can be none, or none of that kind."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "pipes don't keep packets apart here")
    return os.pipe2(os.O_DIRECT | os.O_NONBLOCK | os.O_CLOEXEC)


def _keeps_packets_apart() -> bool:
    try:
        ends = _pipe()
    except OSError:
        return False
    for end in ends:
        os.close(end)
    return True


PREFETCHING = _keeps_packets_apart()
"""Whether the system can do it; where it can't, a worker is handed one run after the other."""
