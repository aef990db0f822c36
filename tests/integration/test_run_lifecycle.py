"""The entries of a run in the log, from its start to its end, read with plain sqlite3."""

from __future__ import annotations

from support.engine import Engine

TICKING = """
    senses: {tick: {}}
    reflexes: [{sense: tick, interval: 100ms}]
"""


def test_a_run_has_a_run_start_its_own_events_and_a_run_complete(engine: Engine) -> None:
    """They are in this order, and have the same run id."""
    engine.config(TICKING)
    engine.sense("tick", "def compute(ctx):\n    ctx.log('reading', {'n': 1})\n    return {'n': 1}\n")
    engine.start()
    complete = engine.until_run("tick", "ok")
    entries = engine.rows("ref_id = ?", complete.ref_id)
    assert [(entry.source, entry.type) for entry in entries] == [
        ("reflex", "run_start"),
        ("sense", "reading"),
        ("reflex", "run_complete"),
    ]
    start, reading, _ = (entry.payload for entry in entries)
    assert start["sense"] == "tick"
    assert start["trigger"] == "interval"
    assert start["cause"] is None
    assert reading == {"n": 1}
    assert complete.payload["signal"] is True
    assert complete.payload["duration_ms"] >= 0


def test_a_stopped_engine_has_stop_as_its_last_entry_and_no_process_left(engine: Engine) -> None:
    """After SIGTERM its exit code is 0, and every run is complete."""
    engine.config(TICKING)
    engine.sense("tick", "def compute(ctx):\n    ctx.log('reading')\n")
    engine.start()
    engine.until_run("tick", "ok")
    assert engine.stop() == 0
    assert engine.processes() == []
    entries = engine.rows()
    assert (entries[-1].source, entries[-1].type) == ("system", "stop")
    assert entries[-1].payload["reason"] == "SIGTERM"
    assert entries[-1].ref_id == entries[0].ref_id
    started = {entry.ref_id for entry in entries if entry.type == "run_start"}
    completed = [entry.ref_id for entry in entries if entry.type == "run_complete"]
    assert sorted(completed) == sorted(started)


def test_a_signal_starts_the_reflexes_that_are_on_it(engine: Engine) -> None:
    """The sense receives it as ctx.signal, and its run_start names the run that emitted it."""
    engine.config("""
        senses: {eye: {}, hand: {}}
        reflexes:
          - {sense: eye, interval: 200ms}
          - {name: grasp, sense: hand, on: eye}
    """)
    engine.sense("eye", "def compute(ctx):\n    return {'seen': [1, None, 'x']}\n")
    engine.sense(
        "hand",
        "def compute(ctx):\n"
        "    ctx.log('got', {'from': ctx.signal.sense, 'payload': ctx.signal.payload, 'kind': ctx.trigger.kind})\n",
    )
    engine.start()
    complete = engine.until_run("hand", "ok")
    start, got, _ = engine.rows("ref_id = ?", complete.ref_id)
    assert start.payload["trigger"] == "signal"
    assert start.payload["reflex"] == "grasp"
    assert start.payload["cause"].startswith("eye/")
    assert engine.rows("ref_id = ? AND type = 'run_complete'", start.payload["cause"])[0].payload["signal"] is True
    assert got.payload == {"from": "eye", "payload": {"seen": [1, None, "x"]}, "kind": "signal"}


def test_a_logging_record_of_a_compute_becomes_an_event(engine: Engine) -> None:
    """It has the level, logger, message and extra of the record, and the run id."""
    engine.config(TICKING)
    engine.sense(
        "tick",
        "import logging\n"
        "def compute(ctx):\n"
        "    logging.getLogger('shop').warning('%d left', 3, extra={'item': 'tea'})\n",
    )
    engine.start()
    complete = engine.until_run("tick", "ok")
    [record] = engine.rows("source = 'logging' AND ref_id = ?", complete.ref_id)
    assert record.type == "warning"
    assert record.payload == {"logger": "shop", "message": "3 left", "item": "tea"}


def test_an_asynchronous_compute_is_awaited(engine: Engine) -> None:
    """Its result is the signal."""
    engine.config(TICKING)
    engine.sense(
        "tick",
        "import asyncio\n"
        "async def compute(ctx):\n"
        "    await asyncio.sleep(0.01)\n"
        "    ctx.log('awaited', {'sense': ctx.sense})\n"
        "    return 1\n",
    )
    engine.start()
    complete = engine.until_run("tick", "ok")
    assert complete.payload["signal"] is True
    assert engine.rows("type = 'awaited' AND ref_id = ?", complete.ref_id)[0].payload == {"sense": "tick"}


def test_senses_share_helpers_and_do_not_shadow_the_standard_library(engine: Engine) -> None:
    """A sense can import a module beside it, and may have the name of a standard module."""
    engine.config("senses: {random: {}, dice: {}}\nreflexes: []\n")
    engine.sense("helper", "FACES = 6\n")
    engine.sense("random", "def compute(ctx): ...\n")
    engine.sense(
        "dice",
        "import random\nfrom helper import FACES\ndef compute(ctx):\n    ctx.log('n', random.randint(1, FACES))\n",
    )
    engine.start()
    assert engine.run("trigger", "random", "--wait").returncode == 0
    assert engine.run("trigger", "dice", "--wait").returncode == 0
