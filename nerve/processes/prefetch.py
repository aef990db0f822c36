"""Prefetch: runs that a busy worker finds as soon as it is done, and that the kernel can take back until then.

A worker that had to ask for each run would fall asleep in between, and waking it costs more than a short run takes.
Yet no run may be stuck behind one that turns out slow. So each prefetched run is one packet in a pipe that both
processes read from. The first to read it has it, by one system call, so that there is no lock that a killed process
could leave locked.
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

MAX_QUEUED_RUNS = 31
"""Limit on the runs that are queued on one worker, beside the one that it has."""

PACKET_BYTES = select.PIPE_BUF
"""The largest packet that a pipe keeps in one piece; a larger run can't be prefetched."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
"""What one packet takes in a pipe, however small it is."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Run).decode


class Prefetch:
    """The kernel's side of one worker's prefetched runs; `theirs` is the descriptor that the worker reads from.

    `capacity` is the number of runs that can be queued here behind the worker's current one.
    """

    def __init__(self) -> None:
        """Raise OSError if the system has no room for another pipe."""
        self.theirs, self._ours = _pipe()
        with suppress(OSError):  # a user's share of pipe memory is limited: then the pipe stays smaller
            fcntl.fcntl(self._ours, fcntl.F_SETPIPE_SZ, (MAX_QUEUED_RUNS + 1) * PAGE_BYTES)
        packets = fcntl.fcntl(self._ours, fcntl.F_GETPIPE_SZ) // PAGE_BYTES
        self.capacity = min(MAX_QUEUED_RUNS, packets - 1)  # the current run may still lie in the pipe, too

    def put(self, run: Run) -> bool:
        """Queue a run; return False if it is too large, or the pipe is full."""
        packet = _encode(run)
        if len(packet) > PACKET_BYTES:
            return False
        try:
            os.write(self._ours, packet)
        except BlockingIOError:
            return False
        return True

    def take_back(self) -> list[Run]:
        """Take back and return all runs that the worker has not taken yet, in order."""
        runs = []
        while run := take(self.theirs):
            runs.append(run)
        return runs

    def close(self) -> None:
        """Close both ends (kernel); the worker's inherited copy stays open."""
        os.close(self._ours)
        os.close(self.theirs)


def take(descriptor: int) -> Run | None:
    """Take and return the next run, or None if there is none; never blocks (worker and kernel)."""
    try:
        packet = os.read(descriptor, PACKET_BYTES)
    except BlockingIOError:
        return None
    return _decode(packet) if packet else None


def _pipe() -> tuple[int, int]:
    """Make a pipe that keeps packets apart; raise OSError if the system has none of that kind, or no room."""
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
"""False where the system can't do it; then a worker is sent one run at a time."""
