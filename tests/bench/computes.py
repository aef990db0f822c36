"""Throughput of computes: no-op runs per second, each with a committed run_start and run_complete."""

from __future__ import annotations

from support.waiting import pause

from bench.lab import WORKERS, Lab
from bench.measurement import measurement
from bench.results import Found, Goal, Row
from bench.samples import Samples, interleaved
from bench.watching import LogEye

SENSES = 100
INTERVALS_MS = (10, 11, 12, 13, 14, 15, 16, 17)
"""Each sense has a reflex with each of these intervals: more than the machine can run.

APScheduler has as many jobs as there are senses, all with the first interval; it does less with more jobs.
"""

WARM_UP_SECONDS = 1.0

NOTHING = "def compute(ctx):\n    pass\n"


def many_senses(count: int, *intervals: str, path: str = "senses/noop.py") -> str:
    """Return the nerve.yaml of `count` senses with the same file, each with a reflex for each interval."""
    senses = "".join(f"  s{n}: {{path: {path}}}\n" for n in range(count))
    reflexes = "".join(
        f"  - {{name: r{n}-{interval}, sense: s{n}, interval: {interval}}}\n"
        for interval in intervals
        for n in range(count)
    )
    return f"workers: {WORKERS}\nsenses:\n{senses}reflexes:\n{reflexes}"


def runs_per_second(lab: Lab, seconds: float) -> float:
    """Run no-op senses for a while; return the runs per second that have both entries in the log."""
    with lab.engine() as engine:
        engine.sense("noop", NOTHING)
        engine.config(many_senses(SENSES, *(f"{ms}ms" for ms in INTERVALS_MS)))
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
    """No-op computes per second on 2 workers, beside Huey with SqliteHuey and APScheduler's ProcessPoolExecutor."""
    seconds, interval = lab.size(4, 1), INTERVALS_MS[0] / 1000
    found = interleaved(
        lab.repetitions,
        {
            "nerve": lambda: runs_per_second(lab, seconds),
            "huey": lambda: lab.peer("huey_driver", WORKERS, lab.size(600, 120)),
            "at once": lambda: lab.peer("apscheduler_pool", WORKERS, lab.size(4_000, 1_500)),
            "intervals": lambda: lab.peer("apscheduler_intervals", WORKERS, SENSES, interval, seconds),
        },
    )
    nerve = Samples("nerve", "computes/s", found["nerve"])
    both = f"{WORKERS} processes each, no-ops"
    return Found(
        [
            _row(
                "Huey", nerve, "Huey, SqliteHuey", found["huey"], 15, "both synchronous=FULL; Huey's results waited for"
            ),
            _row(
                "APScheduler with intervals",
                nerve,
                "APScheduler, ProcessPoolExecutor",
                found["intervals"],
                5,
                f"{both}, more intervals than can be had; APScheduler keeps no log",
            ),
            _row(
                "APScheduler with jobs that are due at once",
                nerve,
                "APScheduler, ProcessPoolExecutor",
                found["at once"],
                5,
                f"{both}, which APScheduler has in memory before the clock runs; it keeps no log",
            ),
        ]
    )


def _row(peer: str, nerve: Samples, name: str, values: tuple[float, ...], times: float, note: str) -> Row:
    other = Samples(name, "computes/s", values)
    return Row(what=f"computes, beside {peer}", nerve=nerve, other=other, goal=Goal("ratio at least", times), note=note)
