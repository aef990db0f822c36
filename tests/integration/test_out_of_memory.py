"""A compute that runs out of memory: the worker that it leaves without any is replaced before anybody else needs it."""

from __future__ import annotations

import sys

import pytest
from support.engine import Engine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps to RLIMIT_AS")

HOARDING = """
    import resource

    HOARD = []

    def compute(ctx):
        pages = int(open("/proc/self/statm").read().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (64 << 20), hard))
        size = 1 << 20
        while size:
            try:
                HOARD.append(bytearray(size))
            except MemoryError:
                size //= 2
        raise MemoryError("all of it is gone")
"""
"""Keeps whatever it is given, down to the last byte, beyond its run."""


def test_a_worker_without_memory_is_given_no_further_run(engine: Engine) -> None:
    """The run ends as error, its sense is backed off like one that kills, and a healthy sense never fails."""
    engine.config("""
        workers: 1
        senses: {hoards: {}, good: {}}
        reflexes:
          - {sense: hoards, interval: 50ms}
          - {sense: good, interval: 50ms}
    """)
    engine.sense("hoards", HOARDING)
    engine.sense("good", "def compute(ctx):\n    ctx.log('room', len(bytearray(1 << 20)))\n")
    engine.start()
    engine.until(lambda: len(engine.runs("hoards")) >= 2, "it has been out of memory twice")
    first, second = engine.errors()[:2]
    assert first.payload["kind"] == "compute"
    assert first.payload["exception"] == "MemoryError"
    assert "in compute" in first.payload["traceback"]
    assert second.payload["backoff_ms"] == 1000
    good = len(engine.runs("good"))
    engine.until(lambda: len(engine.runs("good")) >= good + 5, "the healthy sense goes on")
    assert {run.payload["status"] for run in engine.runs("good")} == {"ok"}
    pids = [run.payload["worker"] for run in engine.runs("hoards")]
    assert len(set(pids)) == len(pids)
