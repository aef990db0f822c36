"""An idle engine: its CPU time, its memory, and how often it wakes up while nothing is due."""

from __future__ import annotations

import statistics
import time

import psutil
from support.engine import Engine
from support.waiting import pause

from bench.lab import Lab
from bench.measurement import measurement
from bench.results import Found, Goal, Row
from bench.samples import Samples
from bench.watching import cpu_seconds, titled, wakeups

WORKERS = 4
REST_SECONDS = 3.0
"""Time after the start, and after each interval, from which on an engine counts as idle."""

BEAT_SECONDS = 60.0
MB = 1024 * 1024


@measurement
def idle(lab: Lab) -> Found:
    """CPU, wake-ups and memory of an idle engine with 4 workers and one reflex per minute."""
    with lab.engine() as engine:
        engine.sense("minute", "def compute(ctx):\n    ctx.log('reading', {'n': 1})\n")
        engine.config(f"workers: {WORKERS}\nsenses: {{minute: {{}}}}\nreflexes: [{{sense: minute, interval: 1m}}]\n")
        began = time.monotonic()
        engine.start()
        engine.until_run("minute", "ok")
        pause(REST_SECONDS)
        found = _watch(engine, lab, began)
        engine.stop()
    return found


def _watch(engine: Engine, lab: Lab, began: float) -> Found:
    processes = engine.processes()
    start, cpu, woken = time.monotonic(), cpu_seconds(processes), wakeups(processes)
    pause(lab.size(round(BEAT_SECONDS - 2 * REST_SECONDS), 6))
    seconds, woken = time.monotonic() - start, wakeups(processes) - woken
    if not lab.quick:  # across the next interval: a whole minute, with what is due in it
        pause(max(0.0, began + BEAT_SECONDS + REST_SECONDS - time.monotonic()))
    share = (cpu_seconds(processes) - cpu) / (time.monotonic() - start) * 100
    memory = [_pss(worker) / MB for worker in titled(engine, "worker")]
    what = "4 workers, one reflex a minute"
    return Found(
        [
            Row(
                what=f"idle engine, {what}: CPU",
                nerve=Samples("nerve", "% of a core", (share,)),
                goal=Goal("at most", 0.2),
                note="all its processes" + (", in a time without a beat" if lab.quick else ", over a beat"),
            ),
            Row(
                what="idle engine: wake-ups when nothing is due",
                nerve=Samples("nerve", "a minute", (woken / seconds * 60,)),
                goal=Goal("at most", 0),
                note=f"all threads of all its processes, in {seconds:.0f} s without a beat",
            ),
            Row(
                what="memory of an idle worker, PSS",
                nerve=Samples("nerve", "MB", tuple(memory)),
                goal=Goal("at most", 8),
                note=f"mean of {WORKERS}: {statistics.mean(memory):.1f} MB",
            ),
        ]
    )


def _pss(process: psutil.Process) -> float:
    """Return the proportional memory of a process (PSS); on macOS, only its unshared memory (USS)."""
    memory = process.memory_full_info()
    return float(getattr(memory, "pss", memory.uss))
