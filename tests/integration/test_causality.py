"""The log can't trigger a reflex: only intervals, signals and manual triggers start runs."""

from __future__ import annotations

from support.engine import Engine

EVERY_KIND = """
    import logging
    def compute(ctx):
        for source in ("system", "reflex", "sense", "logging"):
            for type in ("start", "stop", "error", "run_start", "run_complete", "echo", "signal", "trigger"):
                ctx.log(type, {"source": source, "sense": "echo", "trigger": "manual", "status": "ok"})
        ctx.log_many([("run_start", {"sense": "echo"}), ("echo", {"sense": "echo"})])
        logging.getLogger("echo").error("echo run_start")
        ctx.query_logs(type="run_start", limit=5)
"""


def test_no_entry_of_the_log_starts_a_run(engine: Engine) -> None:
    """A sense logs entries like those of nerve; the only runs are those of its interval and one manual run."""
    engine.config("""
        senses: {chatter: {}, echo: {}, listener: {}}
        reflexes:
          - {sense: chatter, interval: 50ms}
          - {sense: listener, on: echo}
    """)
    engine.sense("chatter", EVERY_KIND)
    engine.sense("echo", "def compute(ctx): ...\n")
    engine.sense("listener", "def compute(ctx): ...\n")
    engine.start()
    engine.until(lambda: len(engine.runs("chatter")) >= 10, "the sense has run ten times")
    assert engine.run("trigger", "echo", "--wait").returncode == 0
    assert engine.stop() == 0
    starts = engine.rows("source = 'reflex' AND type = 'run_start'")
    by_sense = {(entry.payload["sense"], entry.payload["trigger"], entry.payload["reflex"]) for entry in starts}
    assert by_sense == {("chatter", "interval", "chatter-every-50ms"), ("echo", "manual", None)}
    assert sum(entry.payload["sense"] == "echo" for entry in starts) == 1
    own = engine.rows("source = 'sense' AND type = 'run_start'")
    assert len(own) >= 20, "what a sense logs keeps its own source, whatever type it has"
    assert engine.errors() == []


def test_a_sense_can_query_the_log(engine: Engine) -> None:
    """It finds what was committed, and what the same run has just logged."""
    engine.config("senses: {back: {}}\nreflexes: []\n")
    engine.sense(
        "back",
        "def compute(ctx):\n"
        "    ctx.log('reading', {'n': 7})\n"
        "    own = ctx.query_logs(source='sense', type='reading', ref_id=ctx.run_id, limit=5)\n"
        "    boots = ctx.query_logs(source='system', type='start')\n"
        "    return {'own': [entry.payload for entry in own], 'boots': len(boots)}\n",
    )
    engine.start()
    assert engine.run("trigger", "back", "--wait").returncode == 0
    [complete] = engine.runs("back")
    assert complete.payload["signal"] is True
    assert complete.payload["status"] == "ok"


def test_a_sense_has_a_database_that_others_can_only_read(engine: Engine) -> None:
    """ctx.db is the sense's own, and ctx.peer_db opens another's read-only."""
    engine.config("senses: {keeper: {}, peer: {}}\nreflexes: []\n")
    engine.sense(
        "keeper",
        "def compute(ctx):\n"
        "    ctx.db.execute_sql('create table if not exists t(n)')\n"
        "    ctx.db.execute_sql('insert into t values (41)')\n"
        "    ctx.log('kept')\n",
    )
    engine.sense(
        "peer",
        "def compute(ctx):\n"
        "    (n,) = ctx.peer_db('keeper').execute_sql('select n from t').fetchone()\n"
        "    ctx.log('read', {'n': n})\n"
        "    ctx.peer_db('keeper').execute_sql('insert into t values (1)')\n",
    )
    engine.start()
    assert engine.run("trigger", "keeper", "--wait").returncode == 0
    assert engine.run("trigger", "peer", "--wait").returncode == 1
    [read] = engine.rows("type = 'read'")
    assert read.payload == {"n": 41}
    [error] = engine.errors("compute")
    assert "readonly" in error.payload["message"]
    assert (engine.home / "data" / "senses" / "keeper.db").exists()
