"""How a producer wakes a sleeping writer: one descriptor, made by the kernel before it forks its first child."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

_ONE = (1).to_bytes(8, sys.byteorder)


class Wakeup:
    """A descriptor that becomes readable when a producer calls `send`: an eventfd, or a pipe where there is none.

    It outlives every writer, so a wake-up between the death of one and the start of the next is not lost.
    """

    def __init__(self) -> None:
        """Raise OSError if the system has no descriptor left."""
        if sys.platform == "linux":
            self.reading = self.writing = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.reading, self.writing = os.pipe()
            os.set_blocking(self.reading, False)
            os.set_blocking(self.writing, False)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self.reading

    def send(self) -> None:
        """Wake the writer; never blocks."""
        with suppress(OSError):  # full: the writer is being woken already. Closed: this process is about to exit.
            os.write(self.writing, _ONE)

    def clear(self) -> None:
        """Make the descriptor unreadable until the next `send` (writer)."""
        with suppress(BlockingIOError):
            os.read(self.reading, 4096)

    def close(self) -> None:
        """Close both ends."""
        for descriptor in {self.reading, self.writing}:
            os.close(descriptor)
