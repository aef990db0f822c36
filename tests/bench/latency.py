"""Latency: from due to started, from a signal to the compute that it starts, and from ctx.log to a query."""

from __future__ import annotations

import time
from bisect import bisect, insort
from collections import defaultdict
from pathlib import Path

from support.engine import Engine
from support.waiting import pause

from bench import noting
from bench.computes import many_senses
from bench.lab import TESTS, Lab
from bench.measurement import measurement
from bench.results import Curve, Found, Goal, Row
from bench.samples import Samples, percentile
from bench.watching import LogEye, cpu_seconds, titled
from nerve.store.filters import Filter
from nerve.store.table.reader import LogReader

WARM_UP_BEATS = 2
"""Time that is not measured: after the start all senses are due at once, and each is loaded."""

SIGNAL_INTERVAL_MS = 20
RATE = 1_000
LOOK_SECONDS = 0.001

NOTING = """
import time
from bench import noting

def compute(ctx):
    noting.started(ctx.sense, time.monotonic())
"""

SIGNALLING = "import time\n\ndef compute(ctx):\n    return {'at': time.monotonic()}\n"
SIGNALLED = """
import os, time

NOTE = os.open({note!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def compute(ctx):
    started = time.monotonic()
    os.write(NOTE, f"{{started - ctx.signal.payload['at']}}\\n".encode())
"""

PACED = """
import time

def compute(ctx):
    began = time.monotonic()
    for n in range({events}):
        time.sleep(max(0.0, began + n / {rate} - time.monotonic()))
        ctx.log("reading", {{"n": n, "at": time.monotonic()}})
"""


def start_latencies_ms(engine: Engine, reflexes: int, seconds: float) -> list[float]:
    """Run `count` reflexes with an interval of 1 s; return how long after its due time each run began, in ms."""
    dues, starts = engine.home / "dues", engine.home / "starts"
    engine.prelude = noting.INSTALL.format(tests=str(TESTS), dues=str(dues), starts=str(starts))
    engine.sense("noop", NOTING)
    engine.config(many_senses(reflexes, "1s"))
    engine.start()
    pause(seconds + WARM_UP_BEATS)
    engine.stop()
    due, started = _moments(dues), _moments(starts)
    steady = min(moments[0] for moments in due.values()) + WARM_UP_BEATS
    late = [
        (begin - due[sense][bisect(due[sense], begin) - 1]) * 1000
        for sense, begins in started.items()
        for begin in begins
        if begin > steady
    ]
    if len(late) < reflexes * (seconds - 1) * 0.9:
        raise RuntimeError(f"only {len(late)} runs of {reflexes} reflexes began in {seconds:g} s")
    return late


def _moments(note: Path) -> dict[str, list[float]]:
    """Return the recorded times of each sense, in order."""
    moments: dict[str, list[float]] = defaultdict(list)
    for line in note.read_text().splitlines():
        sense, moment = line.split()
        insort(moments[sense], float(moment))
    return moments


@measurement
def due_latency(lab: Lab) -> Found:
    """From due time to the start of the compute, 1,000 reflexes at 1 s, p99."""
    values = []
    for _ in range(lab.size(3, 1)):
        with lab.engine() as engine:
            values.append(percentile(start_latencies_ms(engine, 1_000, lab.size(10, 5)), 99))
    return Found(
        [
            Row(
                what="due time to start of compute, p99, 1,000 reflexes at 1 s",
                nerve=Samples("nerve", "ms", tuple(values)),
                goal=Goal("at most", 3),
                note="the due time as the kernel has it, the start as the compute's first line sees it",
            )
        ]
    )


@measurement
def signal_latency(lab: Lab) -> Found:
    """From a compute's return of a signal to the start of the compute that it starts, p50."""
    with lab.engine() as engine:
        note = engine.home / "note"
        engine.sense("eye", SIGNALLING)
        engine.sense("hand", SIGNALLED.format(note=str(note)))
        reflexes = f"[{{sense: eye, interval: {SIGNAL_INTERVAL_MS}ms}}, {{sense: hand, on: eye}}]"
        engine.config(f"workers: 2\nsenses: {{eye: {{}}, hand: {{}}}}\nreflexes: {reflexes}\n")
        engine.start()
        pause(lab.size(20, 5))
        engine.stop()
        values = tuple(float(line) * 1e6 for line in note.read_text().splitlines())
    return Found(
        [
            Row(
                what="signal to start of the compute it fires, p50",
                nerve=Samples("nerve", "us", values),
                goal=Goal("at most", 500),
                note=f"a signal each {SIGNAL_INTERVAL_MS} ms, from the return of one compute to another's first line",
            )
        ]
    )


@measurement
def visible_latency(lab: Lab) -> Found:
    """From ctx.log to visible in a query, at 1,000 events/s, p99."""
    seconds = lab.size(15, 5)
    with lab.engine() as engine:
        engine.sense("paced", PACED.format(events=RATE * seconds, rate=RATE))
        engine.config("workers: 2\nsenses: {paced: {timeout: 5m}}\nreflexes: [{sense: paced, interval: 1h}]\n")
        engine.start()
        values = _delays_ms(engine, RATE * seconds)
        engine.stop()
    return Found(
        [
            Row(
                what="ctx.log to visible in a query, p99 at 1,000 events/s",
                nerve=Samples("nerve, p99", "ms", (percentile(values, 99),)),
                goal=Goal("at most", 60),
                note=f"asked every {LOOK_SECONDS * 1000:g} ms; p50 {percentile(values, 50):.1f} ms",
            )
        ]
    )


def _delays_ms(engine: Engine, events: int) -> list[float]:
    delays: list[float] = []
    with LogReader(engine.db) as reader:
        last = 0
        while len(delays) < events:
            found = reader.query(Filter(after_id=last, source="sense", type="reading"))
            seen = time.monotonic()
            delays += ((seen - entry.payload["at"]) * 1000 for entry in found)
            last = found[-1].id if found else last
            pause(LOOK_SECONDS)
    return delays


@measurement
def keeping_up(lab: Lab) -> Found:
    """Whether 10,000 reflexes at 1 s can be kept; and the cost of a run in the kernel with 100, 1,000 and 10,000."""
    sizes = (100, 1_000, 10_000)
    shares, costs = zip(*(_runs_had_and_cost(lab, size) for size in sizes), strict=True)
    row = Row(
        what="10,000 reflexes at 1 s: beats that were missed",
        nerve=Samples("nerve", "%", (max(0.0, (1 - shares[-1]) * 100),)),
        goal=Goal("at most", 1),
        note="1 % is what the edges of the time looked at can be wrong by",
    )
    curve = Curve(what="schedule", size_of="reflexes at 1 s", unit="us of the kernel a run", sizes=sizes, costs=costs)
    return Found([row], [curve])


def _runs_had_and_cost(lab: Lab, reflexes: int) -> tuple[float, float]:
    """Return the part of all intervals at which `count` reflexes ran, and the kernel's CPU time per run in us."""
    with lab.engine() as engine:
        engine.sense("noop", "def compute(ctx):\n    pass\n")
        engine.config(many_senses(reflexes, "1s"))
        engine.start()
        kernel = titled(engine, "kernel")
        with LogEye(engine.db) as eye:
            pause(WARM_UP_BEATS + 0.5)
            (before, began), cpu_before = eye.complete_runs(), cpu_seconds(kernel)
            pause(lab.size(10, 3))
            (after, ended), cpu_after = eye.complete_runs(), cpu_seconds(kernel)
        engine.stop()
    runs = after - before
    return runs / (reflexes * (ended - began)), (cpu_after - cpu_before) / runs * 1e6
