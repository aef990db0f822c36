"""A wall clock that a test can step, in every process and command of an engine, while it runs."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

_OFFSET = struct.Struct("q")  # ns, written in one piece, so that no process reads half of it
_TESTS = Path(__file__).parents[1]


class WallClock:
    """The machine's wall clock, moved by an offset in a file; the monotonic clock is not changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0.0
        file.write_bytes(_OFFSET.pack(0))

    @property
    def prelude(self) -> str:
        """The code that makes an engine's processes use this clock."""
        return (
            f"import sys; sys.path.append({str(_TESTS)!r}); "
            f"from support.wallclock import install; install({str(self._file)!r})"
        )

    def step(self, seconds: float) -> None:
        """Step the clock forward, or back if `seconds` is negative."""
        self._offset += seconds
        descriptor = os.open(self._file, os.O_WRONLY)
        os.pwrite(descriptor, _OFFSET.pack(round(self._offset * 1e9)), 0)
        os.close(descriptor)

    def now(self) -> float:
        """Return the time in unix seconds."""
        return time.time() + self._offset


def install(file: str) -> None:
    """Make this process and its forks use the wall clock that `file` moves."""
    true_ns = time.time_ns

    def moved_ns() -> int:
        # Opened each time, because a child closes the descriptors that it does not need.
        descriptor = os.open(file, os.O_RDONLY)
        try:
            (offset,) = _OFFSET.unpack(os.pread(descriptor, _OFFSET.size, 0))
        finally:
            os.close(descriptor)
        return true_ns() + int(offset)

    time.time_ns = moved_ns
    time.time = lambda: moved_ns() / 1e9
