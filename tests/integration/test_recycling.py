"""Workers replaced between two runs, when they have done enough of them or have grown too large."""

from __future__ import annotations

from collections import Counter

from support.engine import Engine

QUICK = "def compute(ctx): ctx.log('seen')\n"
GROWING = "kept = []\ndef compute(ctx):\n    kept.append(b'x' * 30_000_000)\n    ctx.log('kept', {'n': len(kept)})\n"
LIMIT_MB = 128


def runs_by_worker(engine: Engine) -> Counter[int]:
    """How many runs each worker has completed."""
    return Counter(row.payload["worker"] for row in engine.rows("type = 'run_complete'"))


def check_runs(engine: Engine) -> None:
    """Every run is whole and ok, and nobody calls the replacement of a worker an error."""
    starts = {row.ref_id for row in engine.rows("type = 'run_start'")}
    completes = [row.ref_id for row in engine.rows("type = 'run_complete'")]
    assert sorted(starts) == sorted(completes)
    assert {row.payload["status"] for row in engine.rows("type = 'run_complete'")} <= {"ok", "cancelled"}
    assert engine.errors() == []


def test_a_worker_that_has_done_max_runs_is_replaced(engine: Engine) -> None:
    """No worker does more than that, no run is lost between two of them, and the pool keeps its size."""
    engine.sense("a", QUICK)
    engine.sense("b", QUICK)
    engine.config("""
        workers: 2
        max_runs: 5
        senses: {a: {}, b: {}}
        reflexes: [{sense: a, interval: 20ms}, {sense: b, interval: 20ms}]
    """)
    engine.start()
    engine.until(lambda: len(runs_by_worker(engine)) > 8, "several workers have had their turn")
    engine.until(lambda: len(engine.status()["workers"]) >= 2, "the pool is full")
    assert engine.stop() == 0
    counts = runs_by_worker(engine)
    assert max(counts.values()) == 5
    assert sum(1 for count in counts.values() if count == 5) >= len(counts) - 2
    check_runs(engine)


def test_a_worker_that_has_grown_over_max_rss_is_replaced(engine: Engine) -> None:
    """A sense that keeps 30 MB a run goes on in a new worker, where it has kept nothing yet."""
    engine.sense("a", GROWING)
    engine.config(f"workers: 1\nmax_rss: {LIMIT_MB}MB\nsenses: {{a: {{}}}}\nreflexes: [{{sense: a, interval: 50ms}}]\n")
    engine.start()
    engine.until(lambda: len(runs_by_worker(engine)) > 3, "several workers have had their turn", timeout=30)
    assert engine.stop() == 0
    kept = [row.payload["n"] for row in engine.rows("type = 'kept'")]
    assert 1 < max(kept) * 30 < LIMIT_MB + 2 * 30
    assert kept.count(1) == len(runs_by_worker(engine))
    check_runs(engine)


def test_nobody_is_replaced_unless_it_is_asked_for(engine: Engine) -> None:
    """Without a limit one worker does everything; a limit that comes with a reload holds for it at once."""
    without = "workers: 1\nsenses: {a: {}}\nreflexes: [{sense: a, interval: 20ms}]\n"
    engine.sense("a", QUICK)
    engine.config(without)
    engine.start()
    engine.until(lambda: sum(runs_by_worker(engine).values()) > 30, "it has done many runs")
    assert len(runs_by_worker(engine)) == 1
    engine.config(f"max_runs: 10\n{without}")
    engine.until(lambda: len(runs_by_worker(engine)) > 3, "workers are replaced")
    engine.config(without)
    engine.until_reload(None, 1, ok=True)
    engine.until(lambda: max(runs_by_worker(engine).values()) > 30 and len(runs_by_worker(engine)) > 3, "and no longer")
    assert engine.stop() == 0
    check_runs(engine)
