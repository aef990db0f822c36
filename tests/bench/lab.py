"""The lab: the folder of a benchmark run, its engines and peers, and the size of its measurements."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from support.engine import Engine

TESTS = Path(__file__).parents[1]
PEER_SECONDS = 300.0
WORKERS = 2
"""Nerve's workers, and the processes of each peer, unless a measurement says otherwise."""


class Lab:
    """The folder of a run, on the measured file system; `quick` means small sizes, and `seed` repeats random choices.

    What is made here is removed by who made the folder.
    """

    def __init__(self, folder: Path, *, quick: bool, seed: int) -> None:
        self.folder = folder
        self.quick = quick
        self.seed = seed
        self._numbers = count()

    def size(self, full: int, quick: int) -> int:
        """Return the size for a full or for a quick run."""
        return quick if self.quick else full

    @property
    def repetitions(self) -> int:
        """How often each variant is measured if it takes seconds."""
        return self.size(5, 3)

    def new_folder(self) -> Path:
        """Return a new empty folder; its path is short, because some of them contain sockets."""
        folder = self.folder / f"{next(self._numbers)}"
        folder.mkdir()
        return folder

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """Yield an engine that can be started in its own workspace; destroy both afterwards."""
        engine = Engine(self.new_folder())
        try:
            yield engine
        finally:
            engine.destroy()

    def peer(self, module: str, *arguments: object) -> float:
        """Run a peer as a process; return the first figure that it prints."""
        return self.figures_of(module, *arguments)[0]

    def figures_of(self, module: str, *arguments: object) -> list[float]:
        """Run a peer as a process; return all figures that it prints."""
        found = subprocess.run(
            [sys.executable, "-m", f"bench.peers.{module}", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PEER_SECONDS,
            check=False,
            cwd=self.new_folder(),
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )
        if found.returncode:
            raise RuntimeError(f"the peer {module} failed: {found.stderr.strip()[-400:]}")
        return [float(word) for word in found.stdout.split()]
