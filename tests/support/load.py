"""A load for an engine: senses that number their events, and record by themselves which were acknowledged."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from support.engine import Engine

# A compute appends each number to a file of its run after ctx.log has returned: eight bytes in one write, which is
# atomic for a SIGKILL, and complete before the next event is sent.
COUNTING = """
import os, struct, sys
from pathlib import Path

FOLDER = Path({folder!r})

def compute(ctx):
    note = os.open(FOLDER / ctx.run_id.replace("/", "@"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for n in range({events}):
            ctx.log("n", {{"n": n, "pad": {pad}}})
            os.write(note, struct.pack("q", n))
    finally:
        os.close(note)
"""


class Load:
    """An engine's workspace with counting senses, and the numbers that they have recorded."""

    def __init__(
        self, engine: Engine, senses: int = 4, events: int = 100, interval: str = "10ms", pad: str = "''"
    ) -> None:
        self.engine = engine
        self.folder = engine.home / "notes"
        self.folder.mkdir(exist_ok=True)
        self.names = [f"count{n}" for n in range(senses)]
        self.reflexes = [f"{{sense: {name}, interval: {interval}}}" for name in self.names]
        self.senses = [f"{name}: {{}}" for name in self.names]
        for name in self.names:
            engine.sense(name, COUNTING.format(folder=str(self.folder), events=events, pad=pad))

    def configure(self, workers: int = 2, extra: str = "") -> None:
        """Write nerve.yaml, with `extra` at its end."""
        self.engine.config(
            f"workers: {workers}\nsenses: {{{', '.join(self.senses)}}}\nreflexes: [{', '.join(self.reflexes)}]\n{extra}"
        )

    def runs(self) -> int:
        """Return the number of runs that have begun."""
        return sum(1 for _ in self.folder.iterdir())

    def acknowledged(self) -> Iterator[tuple[str, int]]:
        """Yield each (run, number) for which `ctx.log` has returned."""
        for note in self.folder.iterdir():
            yield from ((note.name.replace("@", "/"), n) for n in _numbers(note))


def _numbers(note: Path) -> list[int]:
    data = note.read_bytes()
    whole = len(data) - len(data) % 8
    return [n for (n,) in struct.iter_unpack("q", data[:whole])]
