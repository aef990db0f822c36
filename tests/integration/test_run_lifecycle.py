"""What a run leaves in the log, from its start to its end, read with plain sqlite3."""

from __future__ import annotations

from support.engine import Engine

TICKING = """
    senses: {tick: {}}
    reflexes: [{sense: tick, interval: 100ms}]
"""


def test_a_reflex_leaves_a_start_and_a_complete_with_the_same_run_id(engine: Engine) -> None:
    """An interval fires, the compute logs, and start, own event and complete stand in order under one id."""
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


def test_stop_leaves_stop_as_the_last_entry_and_no_process_behind(engine: Engine) -> None:
    """SIGTERM ends everything in good order: exit code 0, every run complete, `stop` last, nobody left."""
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


def test_a_signal_fires_the_reflexes_that_are_on_it_and_names_its_cause(engine: Engine) -> None:
    """What a sense returns reaches the next one as ctx.signal, and run_start names the run that caused it."""
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


def test_logging_from_inside_a_compute_becomes_an_event(engine: Engine) -> None:
    """Stdlib records carry their level, logger, message and extra, and the run they were made in."""
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


def test_asynchronous_computes_run_too(engine: Engine) -> None:
    """An `async def compute` is awaited, and its result is the signal."""
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


def test_senses_share_helper_modules_and_shadow_nothing(engine: Engine) -> None:
    """They can import a module beside them; a sense with the name of a standard module hides it from none."""
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
