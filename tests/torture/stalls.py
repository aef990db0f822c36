"""How long the writer committed nothing: seen from outside by looking at the log itself, or from its status."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

from support.engine import Engine

from nerve.control.client import ControlClient
from nerve.control.protocol import GetStatus, StatusReply
from nerve.workspace import Workspace

LOOK_SECONDS = 0.02
ANSWER_SECONDS = 10.0


class StallWatch:
    """Watches a log in a thread of the test, and keeps the longest time between two commits, in ms."""

    def __init__(self, db: Path) -> None:
        self._db = db
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall-watch")
        self.longest_ms = 0.0

    def __enter__(self) -> StallWatch:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        with closing(sqlite3.connect(f"file:{self._db}?mode=ro", uri=True, timeout=10)) as connection:
            version, since = None, time.monotonic()
            while not self._stop.wait(LOOK_SECONDS):
                (seen,) = connection.execute("PRAGMA data_version").fetchone()
                now = time.monotonic()
                if seen != version:
                    version, since = seen, now
                self.longest_ms = max(self.longest_ms, (now - since) * 1000)


class AgeWatch:
    """Asks a running engine for its status again and again; keeps the longest time that an event waited, in ms."""

    def __init__(self, engine: Engine) -> None:
        self._workspace = Workspace(engine.home.resolve())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="age-watch")
        self.longest_ms = 0.0

    def __enter__(self) -> AgeWatch:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        with ControlClient(self._workspace.control_socket, self._workspace.home) as client:
            while not self._stop.wait(LOOK_SECONDS):
                client.send(GetStatus())
                lanes = client.expect(StatusReply, ANSWER_SECONDS).status.lanes
                self.longest_ms = max(self.longest_ms, *(lane.age_ms for lane in lanes), 0.0)
