"""Inside a measured engine: records when each start was due (in the kernel) and when it began (in a worker).

Times are kept in memory and written rarely: appending to a file can take as long as the fsync of another process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nerve.scheduling.rules import Start
from nerve.scheduling.schedule import Schedule

STARTS_A_WRITE = 250
"""One compute in this number waits for a file: too few to affect the measured percentile."""

INSTALL = "import sys; sys.path.append({tests!r}); from bench import noting; noting.install({dues!r}, {starts!r})"
"""The prelude of an engine that records its starts."""

_started: list[tuple[str, float]] = []
_starts = Path()


def install(dues: str, starts: str) -> None:
    """Make the schedule record its starts in the file `dues`; run_start has the due time in whole ms only."""
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
    """Record that a compute of this sense began at this time (monotonic seconds)."""
    _started.append((sense, moment))
    if len(_started) == STARTS_A_WRITE:
        lines = "".join(f"{sense} {moment}\n" for sense, moment in _started)
        _started.clear()
        note = os.open(_starts, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(note, lines.encode())
        os.close(note)
