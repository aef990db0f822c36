"""The memory of an engine's processes, sampled from outside while the engine is being broken."""

from __future__ import annotations

import threading
from contextlib import suppress

import psutil
from support.engine import Engine

LOOK_SECONDS = 0.1
MB = 1024 * 1024


class MemoryWatch:
    """Samples the resident memory of every process of an engine, in a thread of the test."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch")
        self._first: dict[int, int] = {}
        self._highest: dict[int, int] = {}

    def __enter__(self) -> MemoryWatch:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def highest_mb(self) -> float:
        """The largest memory that any process has had, in MB."""
        return max(self._highest.values(), default=0) / MB

    @property
    def growth_mb(self) -> float:
        """The largest growth of any process since its first sample, in MB."""
        return max((self._highest[pid] - first for pid, first in self._first.items()), default=0) / MB

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        for process in self._engine.processes():
            with suppress(psutil.NoSuchProcess):
                memory = process.memory_info().rss
                self._first.setdefault(process.pid, memory)
                self._highest[process.pid] = max(memory, self._highest.get(process.pid, 0))
