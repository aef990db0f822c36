"""Verification and reading of everything, beside an engine that runs senses and archives: no false alarm, no gap."""

from __future__ import annotations

import json
import time

import pytest
from support.engine import Engine

from nerve.clock import Stamp
from nerve.events.catalog import from_sense
from nerve.store.filters import Filter
from nerve.store.full_log import FullLog
from nerve.store.table.writer import LogWriter

DAY_MS = 86_400_000
DAYS, ROWS = 30, 3000

NOTER = """
    def compute(ctx):
        ctx.log_many([("n", n) for n in range(50)])
        return {"n": 50}
"""


@pytest.fixture
def busy(engine: Engine) -> Engine:
    """A workspace of busy senses, with old entries that an eager archiver will find."""
    engine.sense("noter", NOTER)
    engine.sense("reader", "def compute(ctx):\n    ctx.query_logs(source='sense', archived=True, limit=5)\n")
    engine.config(
        """
        reflexes:
          - {sense: noter, interval: 20ms}
          - {sense: reader, on: [noter]}
        senses: {noter: {}, reader: {throttle: 200ms}}
        logs: {retention: 30d, archive_interval: 50ms}
        """
    )
    engine.db.parent.mkdir(exist_ok=True)
    writer = LogWriter.open(engine.db)
    today = time.time_ns() // 1_000_000 // DAY_MS * DAY_MS
    for day in range(DAYS):
        ts = today - (70 - day) * DAY_MS
        writer.append([from_sense(Stamp(ts + n, n), "old/0", "reading", {"n": n}) for n in range(ROWS)], {})
    writer.close()
    return engine


def test_what_is_moving_is_whole(busy: Engine) -> None:
    """Again and again while days are archived, and the archiver is killed; the engine then stops, and all is there."""
    busy.start()
    rounds = 0
    while busy.how_many("type = 'reading'") or rounds < 5:
        rounds += 1
        found = busy.run("verify", "--json")
        report = json.loads(found.stdout)
        assert report["damage"] == []
        assert found.returncode == 0
        assert report["entries"] >= DAYS * ROWS
        if rounds in (1, 3):
            busy.child("archiver").kill()
        with FullLog(busy.db) as log:
            ids = [entry.id for entry in log.stream(Filter())]
        assert ids == list(range(1, len(ids) + 1))
    assert busy.stop() == 0
    report = json.loads(busy.run("verify", "--json").stdout)
    assert (report["damage"], report["open_runs"], report["files"]) == ([], 0, DAYS)
    assert report["archive"] == DAYS * ROWS
    assert not busy.errors("compute")


def test_a_killed_engine_leaves_open_runs_but_no_damage(engine: Engine) -> None:
    """They are mentioned; the next engine completes them."""
    engine.sense("endless", "import time\ndef compute(ctx):\n    time.sleep(60)\n")
    engine.config("senses: {endless: {}}\nreflexes: [{sense: endless, interval: 1h}]\n")
    engine.start()
    assert engine.run("trigger", "endless").returncode == 0
    engine.until(lambda: engine.count("reflex", "run_start"), "a run has started")
    for process in engine.processes():
        process.kill()
    engine.wait()
    report = json.loads(engine.run("verify", "--json").stdout)
    assert (report["damage"], report["open_runs"]) == ([], 1)
    engine.start()
    assert engine.stop() == 0
    report = json.loads(engine.run("verify", "--json").stdout)
    assert (report["damage"], report["open_runs"]) == ([], 0)
