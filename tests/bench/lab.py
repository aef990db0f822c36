"""The lab: the folder that everything is measured in, engines and logs made to measure, and how much is to be done."""

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
"""Nerve's workers, and the processes of each peer, wherever nothing else is said."""


class Lab:
    """One run's folder, on the file system that is measured; `quick` asks for small sizes, `seed` for the same choices.

    What is made here is removed by who made the folder.
    """

    def __init__(self, folder: Path, *, quick: bool, seed: int) -> None:
        self.folder = folder
        self.quick = quick
        self.seed = seed
        self._numbers = count()

    def size(self, full: int, quick: int) -> int:
        """Choose between the size of a full and of a quick run."""
        return quick if self.quick else full

    @property
    def repetitions(self) -> int:
        """How often each way is measured where it takes seconds."""
        return self.size(5, 3)

    def new_folder(self) -> Path:
        """Make an empty folder; its path is short, for sockets are in some of them."""
        folder = self.folder / f"{next(self._numbers)}"
        folder.mkdir()
        return folder

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """Give a workspace for an engine, and destroy both afterwards."""
        engine = Engine(self.new_folder())
        try:
            yield engine
        finally:
            engine.destroy()

    def peer(self, module: str, *arguments: object) -> float:
        """Run a peer in a process of its own, and give the first figure that it prints."""
        return self.figures_of(module, *arguments)[0]

    def figures_of(self, module: str, *arguments: object) -> list[float]:
        """Run a peer in a process of its own, and give all figures that it prints."""
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
