"""Throughput of computes: no-op runs a second, each with its run_start and run_complete committed."""

from __future__ import annotations

from support.waiting import pause

from bench.lab import WORKERS, Lab
from bench.measurement import measurement
from bench.results import Found, Goal, Row
from bench.samples import Samples, interleaved
from bench.watching import LogEye

SENSES = 300
INTERVAL_MS = 10
"""Together they ask for more than there can be: what is measured is how many are had."""

WARM_UP_SECONDS = 1.0

NOTHING = "def compute(ctx):\n    pass\n"


def many_senses(count: int, interval: str, path: str = "senses/noop.py") -> str:
    """Give the nerve.yaml of so many senses that share a file, each with a reflex of this interval."""
    senses = "".join(f"  s{n}: {{path: {path}}}\n" for n in range(count))
    reflexes = "".join(f"  - {{name: r{n}, sense: s{n}, interval: {interval}}}\n" for n in range(count))
    return f"workers: {WORKERS}\nsenses:\n{senses}reflexes:\n{reflexes}"


def runs_per_second(lab: Lab, seconds: float) -> float:
    """Run no-op senses for a while; give how many runs a second have both entries in the log."""
    with lab.engine() as engine:
        engine.sense("noop", NOTHING)
        engine.config(many_senses(SENSES, f"{INTERVAL_MS}ms"))
        engine.start()
        with LogEye(engine.db) as eye:
            pause(WARM_UP_SECONDS)
            before, began = eye.complete_runs()
            pause(seconds)
            after, ended = eye.complete_runs()
            engine.stop()
            if eye.count("reflex", "run_start") != eye.count("reflex", "run_complete"):
                raise RuntimeError("there are runs without a run_complete")
    return (after - before) / (ended - began)


@measurement
def computes(lab: Lab) -> Found:
    """No-op computes a second on 2 workers, beside Huey with SqliteHuey and APScheduler's ProcessPoolExecutor."""
    found = interleaved(
        lab.repetitions,
        {
            "nerve": lambda: runs_per_second(lab, lab.size(4, 1)),
            "huey": lambda: lab.peer("huey_driver", WORKERS, lab.size(600, 120)),
            "apscheduler": lambda: lab.peer("apscheduler_pool", WORKERS, lab.size(4_000, 1_500)),
        },
    )
    nerve = Samples("nerve", "computes/s", found["nerve"])
    huey = Samples("Huey, SqliteHuey", "computes/s", found["huey"])
    pool = Samples("APScheduler, ProcessPoolExecutor", "computes/s", found["apscheduler"])
    return Found(
        [
            Row(
                what="computes, beside Huey",
                nerve=nerve,
                other=huey,
                goal=Goal("ratio at least", 15),
                note=f"{WORKERS} process workers each; both synchronous=FULL; Huey's results waited for",
            ),
            Row(
                what="computes, beside APScheduler",
                nerve=nerve,
                other=pool,
                goal=Goal("ratio at least", 5),
                note=f"{WORKERS} processes each; APScheduler keeps no log, and has its jobs before the clock runs",
            ),
        ]
    )
