"""An audit hook that notes every fork, every database connection, and every opening of the log's files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

NOTED = {"os.fork", "sqlite3.connect"}
_TESTS = Path(__file__).parents[1]


def prelude(notes: Path) -> str:
    """Give what an engine's processes run first, so that all of them append `pid event path` to the file `notes`."""
    return f"import sys; sys.path.append({str(_TESTS)!r}); from support.audited import listen; listen({str(notes)!r})"


def listen(notes: str) -> None:
    """Note the events of this process, and of all that it forks."""

    def note(event: str, arguments: tuple[object, ...]) -> None:
        opens_the_log = event == "open" and "logs.db" in str(arguments[0])
        if event in NOTED or opens_the_log:
            line = f"{os.getpid()} {event} {arguments[0] if arguments else ''}\n"
            descriptor = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, line.encode())
            os.close(descriptor)

    sys.addaudithook(note)
