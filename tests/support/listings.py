"""Entries for `nerve logs` to list, the ids in its output, and the command as a separate process."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from nerve.clock import Stamp
from nerve.events import catalog
from nerve.events.model import ErrorDetail, LogEvent
from support.commands import NERVE, Said
from support.runs import START

DISK, CPU = "disk-usage/" + "a" * 32, "cpu/" + "b" * 32
MINUTE = 60_000


def stamp(minute: float) -> Stamp:
    """Return the time `minute` minutes after START."""
    return Stamp(START + round(minute * MINUTE), 0)


def numbered(*numbers: int) -> list[LogEvent]:
    """Return an event for each number."""
    return [catalog.from_sense(stamp(n), DISK, "reading", {"n": n}) for n in numbers]


STORY = [
    catalog.stop(stamp(1), "c" * 32, reason="test", uptime_ms=5),
    catalog.from_sense(stamp(2), DISK, "reading", {"used": 0.93}),
    catalog.run_complete(stamp(3), DISK, "disk-usage", status="ok", duration_ms=1.5, signal=True, worker=7),
    catalog.error(stamp(4), CPU, ErrorDetail("compute", "no \x1b[31m", "ValueError", "Traceback:\n  boom\n")),
    catalog.run_complete(stamp(5), CPU, "cpu", status="error", duration_ms=2.0, signal=False, worker=7),
    catalog.from_logging(stamp(6), None, "warning", {"logger": "root"}, 1000),
]


def ids(said: Said) -> list[int]:
    """Return the ids in lines of JSON."""
    return [json.loads(line)["id"] for line in said.out.splitlines()]


def start(home: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start the real command; by default, its output is a pipe."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*NERVE, "--home", str(home), "logs", *arguments], **streams)
