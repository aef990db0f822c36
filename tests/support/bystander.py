"""A producer outside the engine that is not killed: it logs events, and measures the time to each commit."""

from __future__ import annotations

import threading
import time

from nerve.clock import SystemClock
from nerve.eventqueue import EventSender, Unguarded
from nerve.events.catalog import from_sense
from support.engine import Engine

PERIOD_SECONDS = 0.02
LONGEST_SECONDS = 30.0


class Bystander:
    """Logs like another process, and keeps the longest time from an event to its commit, in ms."""

    def __init__(self, engine: Engine) -> None:
        self._queue = EventSender(engine.event_socket, "bystander/1", Unguarded())
        self._clock = SystemClock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._log, name="bystander")
        self.sent = 0
        self.longest_ms = 0.0

    def __enter__(self) -> Bystander:
        self._queue.start()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._queue.close(LONGEST_SECONDS)

    def _log(self) -> None:
        while not self._stop.wait(PERIOD_SECONDS):
            began = time.monotonic()
            self._queue.send([from_sense(self._clock.stamp(), "bystander", "seen", {"n": self.sent})])
            self._queue.settle(LONGEST_SECONDS)
            self.sent += 1
            self.longest_ms = max(self.longest_ms, (time.monotonic() - began) * 1000)
