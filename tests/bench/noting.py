"""Inside an engine that is measured: notes when each start was due (in the kernel), and when it began (in a worker).

Moments are kept in memory and written rarely: to append to a file can take as long as somebody else's fsync.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nerve.scheduling.rules import Start
from nerve.scheduling.schedule import Schedule

STARTS_A_WRITE = 250
"""A compute in so many waits for a file: too few for the percentile that is asked for."""

INSTALL = "import sys; sys.path.append({tests!r}); from bench import noting; noting.install({dues!r}, {starts!r})"
"""The prelude of an engine that is to take notes."""

_started: list[tuple[str, float]] = []
_starts = Path()


def install(dues: str, starts: str) -> None:
    """Have the schedule note, in the file `dues`, what it has started; `run_start` tells the due time in ms only."""
    global _starts  # noqa: PLW0603 - every worker inherits it through its fork
    _starts = Path(starts)
    taken: list[Start] = []
    take, halt = Schedule.take, Schedule.halt

    def noting_take(self: Schedule, now: float, reserve: Callable[[Start], Any]) -> list[tuple[Start, Any]]:
        starts = take(self, now, reserve)
        taken.extend(start for start, _slot in starts)
        return starts

    def noting_halt(self: Schedule) -> tuple[int, ...]:
        Path(dues).write_text("".join(f"{start.sense} {start.due}\n" for start in taken))
        return halt(self)

    Schedule.take, Schedule.halt = noting_take, noting_halt  # type: ignore[method-assign]


def started(sense: str, moment: float) -> None:
    """Note that a compute of this sense began at this moment (monotonic seconds)."""
    _started.append((sense, moment))
    if len(_started) == STARTS_A_WRITE:
        lines = "".join(f"{sense} {moment}\n" for sense, moment in _started)
        _started.clear()
        note = os.open(_starts, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(note, lines.encode())
        os.close(note)
