"""Readers that come, die and stay: they never block the writer, and one that keeps the WAL large is reported."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from support.engine import Engine
from support.load import Load
from support.verdict import Verdict
from support.waiting import pause, wait_until

from nerve.maintenance import checkpoints
from torture.herd import Herd
from torture.processes import STALL_MS, finish
from torture.scenario import scenario
from torture.stalls import StallWatch

SHRINK_SECONDS = 10.0
"""Limit on the time until the WAL is emptied after the long read: that needs a pause between the other readers."""

MB = 1024 * 1024
SENSITIVE = """
from nerve.maintenance import checkpoints
checkpoints.LARGE_BYTES, checkpoints.ALARM_BYTES, checkpoints.RETRY_SECONDS = {large}, {alarm}, 0.5
"""
"""The code that makes the alarm go off within seconds."""


@scenario
def readers(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """Ten readers SIGKILLed and replaced at random, then one that stays for a minute."""
    large, alarm = (2 * MB, 4 * MB) if short else (checkpoints.LARGE_BYTES, checkpoints.ALARM_BYTES)
    engine.prelude = SENSITIVE.format(large=large, alarm=alarm) if short else ""
    load = Load(engine, senses=4, events=50, interval="100ms" if short else "200ms", pad="'x' * 300")
    load.configure()
    engine.start()
    with StallWatch(engine.db) as stalls, Herd(engine.db, random.randrange(1_000_000)) as herd:
        with_herd = _peak(engine, 0.5 if short else 10)
        early = len(engine.errors("wal"))
        with long_read(engine.db):
            held = _peak(engine, 2 if short else 60)
        left = time.monotonic()
        wait_until(lambda: wal_bytes(engine) <= large, "the WAL is small again", SHRINK_SECONDS)
        shrunk = time.monotonic() - left
    verdict.stall_ms, verdict.kills = stalls.longest_ms, herd.tally.kills
    finish(engine, load, verdict)
    alarms = len(engine.errors("wal"))
    verdict.expect(stalls.longest_ms < STALL_MS, f"the writer stalled for {stalls.longest_ms:.0f} ms")
    verdict.expect(with_herd <= alarm, f"short reads let the WAL grow to {with_herd / MB:.1f} MB")
    verdict.expect(alarms == 1 or (short and alarms), f"{alarms} alarms for a WAL of {held / MB:.1f} MB")
    verdict.expect(short or not early, "the alarm was raised for short reads")
    verdict.expect(herd.tally.reads and not herd.tally.failed, f"of the readers, {herd.tally.failed} failed")
    verdict.notes.append(
        f"{herd.tally.reads} reads; WAL {with_herd / MB:.1f} MB with the herd, {held / MB:.1f} MB with the long read "
        f"({alarms} alarms), small again {shrunk:.1f} s after it had gone"
    )


@contextmanager
def long_read(db: Path) -> Iterator[None]:
    """Hold a read transaction open, like a shell that was left open."""
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM logs").fetchone()
        yield


def wal_bytes(engine: Engine) -> int:
    """Return the size of the WAL, in bytes."""
    return Path(f"{engine.db}-wal").stat().st_size


def _peak(engine: Engine, seconds: float) -> int:
    """Watch the WAL for some seconds, and return its largest size in bytes."""
    peak, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        peak = max(peak, wal_bytes(engine))
        pause(0.05)
    return peak
