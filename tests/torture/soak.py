"""A long run with everything at once: a leak shows in memory, descriptors or the table meta."""

from __future__ import annotations

import os
import random
import sqlite3
import statistics
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil
from support.engine import Engine
from support.load import Load
from support.verdict import Verdict
from support.waiting import pause

from nerve.control.client import ControlClient
from nerve.control.protocol import Accepted, Finished, GetStatus, StatusReply, TriggerSense
from nerve.workspace import Workspace
from torture.processes import finish, titled
from torture.scenario import scenario

SOAK_SECONDS = float(os.environ.get("NERVE_SOAK_SECONDS", "120"))
SHORT_SECONDS = 4.0
WARM_UP, WRITER_KILLS = 0.4, 0.2
"""Part of the time that is not measured, as caches fill; the writer is killed in the first half of it."""

PERIOD_SECONDS = 0.2
WORKERS = 3
KILL_WORKER, KILL_WRITER = 0.2, 0.05
"""Probability of a kill in one period."""

GROWTH, GROWTH_WHEN_SHORT = 0.04, 0.1
"""Limit on the growth of memory in the measured time, as a part of it, besides the scatter around the line.

In the seconds of the short version, caches are still filling: only a gross leak shows there.
"""

POSITIONS = 12
"""Limit on the positions: more than the living producers, and those that were just killed."""

TICKING = "def compute(ctx):\n    return {'at': ctx.trigger.scheduled_ts}\n"
FAILING = "def compute(ctx):\n    raise ValueError(f'at {ctx.trigger.scheduled_ts}')\n"
NOISY = """
import logging

def compute(ctx):
    logging.getLogger(ctx.sense).warning("run %s", ctx.run_id, extra={"cause": ctx.signal and ctx.signal.run_id})
    ctx.query_logs(ref_id=ctx.run_id)
    return float("nan")
"""
REFLEXES = (
    "{sense: tick-a, interval: 30ms}",
    "{sense: tick-b, interval: 70ms}",
    "{sense: failing, interval: 90ms}",
    "{sense: failing, on: [tick-b]}",
    "{sense: noisy, on: [tick-a, tick-b]}",
    "{sense: relay, on: [tick-a, hand]}",
    "{sense: noisy, on: [relay]}",
)
SENSES = {"tick-a": TICKING, "tick-b": TICKING, "failing": FAILING, "noisy": NOISY, "relay": TICKING, "hand": TICKING}


class Sample(NamedTuple):
    """A process at one moment: monotonic seconds, resident bytes, open descriptors."""

    moment: float
    rss: int
    descriptors: int


@dataclass(slots=True)
class Vitals:
    """The samples of a role's process; those of its predecessor are dropped."""

    title: str
    pid: int = 0
    samples: list[Sample] = field(default_factory=list)

    def look(self, engine: Engine) -> None:
        """Take a sample, if there is such a process."""
        for process in titled(engine, self.title):
            with suppress(psutil.Error):
                if process.pid != self.pid:
                    self.pid, self.samples = process.pid, []
                self.samples.append(Sample(time.monotonic(), process.memory_info().rss, process.num_fds()))

    def judge(self, since: float, verdict: Verdict, growth: float) -> None:
        """Record what has grown since then, by the line of least squares, by more than `growth` and the scatter."""
        samples = [sample for sample in self.samples if sample.moment >= since]
        moments, sizes = [sample.moment for sample in samples], [sample.rss for sample in samples]
        line = statistics.linear_regression(moments, sizes)
        grown = line.slope * (moments[-1] - moments[0])
        scatter = statistics.stdev(
            size - line.slope * moment - line.intercept for moment, size in zip(moments, sizes, strict=True)
        )
        mean = statistics.fmean(sizes)
        first, last = (statistics.median(s.descriptors for s in part) for part in _halves(samples))
        verdict.expect(
            grown < growth * mean + 2 * scatter, f"the {self.title} has grown by {grown / 1024:.0f} KB of {mean:.0f}"
        )
        verdict.expect(abs(last - first) <= 1, f"the {self.title} had {first:g} open descriptors, then {last:g}")
        verdict.notes.append(
            f"{self.title}: {mean / 1024:.0f} KB, grown by {grown / 1024:.0f} KB in {moments[-1] - moments[0]:.0f} s "
            f"(scatter {scatter / 1024:.0f} KB), {last:g} descriptors"
        )


@scenario
def soak(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """Two minutes of signals, errors, commands and deaths: memory, descriptors and positions do not grow."""
    load = Load(engine, senses=2, events=10, interval="50ms")
    load.senses += [f"{name}: {{}}" for name in SENSES]
    load.reflexes += REFLEXES
    for name, code in SENSES.items():
        engine.sense(name, code)
    load.configure(workers=WORKERS)
    engine.start()
    began, seconds = time.monotonic(), SHORT_SECONDS if short else SOAK_SECONDS
    kernel, writer = Vitals("kernel"), Vitals("writer")
    positions: list[int] = []
    while (passed := (time.monotonic() - began) / seconds) < 1:
        kernel.look(engine)
        writer.look(engine)
        positions.append(_positions(engine))
        _command(engine, random)
        for title, probability in (("worker", KILL_WORKER), ("writer", KILL_WRITER if passed < WRITER_KILLS else 0.0)):
            if random.random() < probability:
                _kill(engine, title, random, verdict)
        pause(PERIOD_SECONDS)
    for vitals in (kernel, writer):
        vitals.judge(began + WARM_UP * seconds, verdict, GROWTH_WHEN_SHORT if short else GROWTH)
    finish(engine, load, verdict)
    verdict.expect(max(positions) <= POSITIONS, f"{max(positions)} positions were remembered at once")
    runs = engine.how_many("type = 'run_complete'")
    verdict.notes.append(f"{runs} runs; at most {max(positions)} positions remembered at once")


def _command(engine: Engine, random: random.Random) -> None:
    """Ask for the status and for a run; half of the time, disconnect without waiting for the run."""
    workspace = Workspace(engine.home.resolve())
    with ControlClient(workspace.control_socket, workspace.home) as client:
        client.send(GetStatus())
        client.expect(StatusReply, 10)
        client.send(TriggerSense("hand", '{"by": "hand"}', True))
        client.expect(Accepted, 10)
        if random.random() < 0.5:
            client.expect(Finished, 30)


def _positions(engine: Engine) -> int:
    with closing(sqlite3.connect(f"file:{engine.db}?mode=ro", uri=True, timeout=10)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM meta WHERE key LIKE 'lane:%'").fetchone()
        return int(count)


def _kill(engine: Engine, title: str, random: random.Random, verdict: Verdict) -> None:
    found = titled(engine, title)
    for victim in random.sample(found, min(1, len(found))):
        with suppress(psutil.NoSuchProcess):
            victim.kill()
            verdict.kills += 1


def _halves(samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
    middle = len(samples) // 2
    return samples[:middle], samples[middle:]
