"""The doorbell: how producers wake a sleeping writer; the kernel makes it before it forks anybody."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

_RING = (1).to_bytes(8, sys.byteorder)


class Doorbell:
    """A descriptor that is readable once somebody has rung: an eventfd, or a pipe where there is none.

    It outlives every writer, so a ring between the death of one and the start of the next is not lost.
    """

    def __init__(self) -> None:
        """Raise OSError where the system has no room for another descriptor."""
        if sys.platform == "linux":
            self.reading = self.writing = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.reading, self.writing = os.pipe()
            os.set_blocking(self.reading, False)
            os.set_blocking(self.writing, False)

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self.reading

    def ring(self) -> None:
        """Wake the writer; never blocks."""
        with suppress(OSError):  # full: it is ringing already. Closed: this process is about to end.
            os.write(self.writing, _RING)

    def answer(self) -> None:
        """Stop the ringing (writer)."""
        with suppress(BlockingIOError):
            os.read(self.reading, 4096)

    def close(self) -> None:
        """Close both ends."""
        for descriptor in {self.reading, self.writing}:
            os.close(descriptor)
