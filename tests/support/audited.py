"""An audit hook that records every fork, every database connection, and every opening of the log's files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

NOTED = {"os.fork", "sqlite3.connect"}
_TESTS = Path(__file__).parents[1]


def prelude(notes: Path) -> str:
    """Return the code with which an engine's processes append lines of `pid event path` to the file `notes`."""
    return f"import sys; sys.path.append({str(_TESTS)!r}); from support.audited import listen; listen({str(notes)!r})"


def listen(notes: str) -> None:
    """Record the events of this process and of its forks."""

    def record(event: str, arguments: tuple[object, ...]) -> None:
        opens_the_log = event == "open" and "logs.db" in str(arguments[0])
        if event in NOTED or opens_the_log:
            line = f"{os.getpid()} {event} {arguments[0] if arguments else ''}\n"
            descriptor = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, line.encode())
            os.close(descriptor)

    sys.addaudithook(record)
