"""Computes that misbehave: they flood the log until they are interrupted, or kill every worker that runs them."""

from __future__ import annotations

import random
import re
import sys
import time
from collections import Counter

import psutil
from support.engine import Engine
from support.load import Load
from support.verdict import Verdict
from support.waiting import pause, wait_until

from torture.memory import MemoryWatch
from torture.processes import finish, titled
from torture.scenario import Skipped, scenario
from torture.stalls import StallWatch

WORKERS = 4

RUNAWAY = """
import logging
from pathlib import Path

def compute(ctx):
    if Path({wild!r}).exists():
        while True:
            logging.info("and again")
"""

SPEAKER = """
import logging

def compute(ctx):
    logging.warning("spoken in %s", ctx.run_id)
"""

MEMORY_BOUND_MB = 100
"""Limit on the memory of a process while computes flood the log, in MB: about four times that of an idle one."""

UNHEARD_PER_CENT = 10
"""Part of the other records that may be dropped while all workers are flooded; afterwards, none may be."""

POISON = {
    "exits": "import os\ndef compute(ctx):\n    os._exit(3)\n",
    "segfaults": "import ctypes\ndef compute(ctx):\n    ctypes.string_at(0)\n",
    "hoards": """
import resource

HOARD = []

def compute(ctx):
    pages = int(open("/proc/self/statm").read().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (64 << 20), hard))
    size = 1 << 20
    while size:
        try:
            HOARD.append(bytearray(size))
        except MemoryError:
            size //= 2
    raise MemoryError
""",
}

BEAT_SECONDS = 0.05
BEATS_KEPT = 0.8


def interrupted(engine: Engine) -> Counter[int]:
    """Return the number of runaway runs that ended as a timeout, by the worker's pid."""
    ended = "source = 'reflex' AND type = 'run_complete' AND ref_id LIKE 'runaway%'"
    runs = engine.rows(f"{ended} AND json_extract(payload, '$.status') = 'timeout'")
    return Counter(run.payload["worker"] for run in runs)


def speak(engine: Engine, load: Load) -> None:
    """Add a sense that keeps logging something by Python's logging."""
    engine.sense("speaker", SPEAKER)
    load.senses.append("speaker: {}")
    load.reflexes.append("{sense: speaker, interval: 50ms}")


def spoken(engine: Engine) -> set[str | None]:
    """Return the runs of the speaker that have logged."""
    return {row.ref_id for row in engine.rows("source = 'logging' AND type = 'warning' AND ref_id LIKE 'speaker/%'")}


def heard(engine: Engine) -> set[str]:
    """Return the runs of the speaker whose records are on stderr."""
    return set(re.findall(r"spoken in (speaker/\w+)", engine.stderr))


@scenario
def runaway(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """Computes that log in a tight loop until their timeout, on all workers at once."""
    load, wild = Load(engine, senses=2), engine.home / "wild"
    for name in (f"runaway{n}" for n in range(WORKERS)):
        engine.sense(name, RUNAWAY.format(wild=str(wild)))
        load.senses.append(f"{name}: {{timeout: 300ms}}")
        load.reflexes.append(f"{{sense: {name}, interval: {random.randint(10, 50)}ms}}")
    speak(engine, load)
    load.configure(workers=WORKERS)
    wild.touch()
    engine.start()
    workers = {worker.pid for worker in wait_until(lambda: at_full_strength(engine), "all workers are there")}
    with MemoryWatch(engine) as memory, StallWatch(engine.db) as stalls:
        runs = WORKERS * (4 if short else 50)
        wait_until(lambda: interrupted(engine).total() >= runs, f"{runs} runaway runs are interrupted", timeout=50)
        during = spoken(engine)
        silent = during - heard(engine)
        wild.unlink()
    verdict.stall_ms = stalls.longest_ms
    after = spoken_after(engine)
    wait_until(lambda: after <= heard(engine), "everything that is said after the flood is heard")
    bearable = 1 + len(during) * UNHEARD_PER_CENT / 100
    verdict.expect(len(silent) <= bearable, f"{len(silent)} of {len(during)} are not on stderr")
    verdict.expect(memory.highest_mb < MEMORY_BOUND_MB, f"a process had {memory.highest_mb:.0f} MB")
    verdict.expect(set(interrupted(engine)) == workers, "not every worker has had a runaway compute")
    verdict.expect({worker.pid for worker in titled(engine, "worker")} == workers, "a worker was killed")
    finish(engine, load, verdict)
    check_outcomes(engine, verdict)
    records = engine.count("logging", "info")
    verdict.notes += [
        f"{interrupted(engine).total()} runs on {WORKERS} workers interrupted while they made {records} records",
        f"{len(during) - len(silent)} of {len(during)} others heard meanwhile, and all of them afterwards",
        f"no process had more than {memory.highest_mb:.0f} MB",
    ]


def at_full_strength(engine: Engine) -> list[psutil.Process]:
    """Return the workers, once they are complete."""
    workers = titled(engine, "worker")
    return workers if len(workers) == WORKERS else []


def spoken_after(engine: Engine) -> set[str | None]:
    """Return some runs of the speaker after the last runaway run."""
    wait_until(lambda: not [w for w in engine.status()["workers"] if "runaway" in (w["sense"] or "")], "all is calm")
    before = spoken(engine)
    return wait_until(lambda: len(after := spoken(engine) - before) >= 5 and after, "others speak")


def check_outcomes(engine: Engine, verdict: Verdict) -> None:
    """Check that each runaway run ended as a timeout, or as ok if it was harmless."""
    runs = engine.rows("source = 'reflex' AND type = 'run_complete' AND ref_id LIKE 'runaway%'")
    odd = Counter(run.payload["status"] for run in runs) - Counter(timeout=sys.maxsize, ok=sys.maxsize)
    verdict.expect(not odd, f"runaway runs ended otherwise: {dict(odd)}")


@scenario
def poison(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """Senses that always kill their worker: by exit, by a segfault, by using up its memory."""
    load = Load(engine, senses=1, events=10, interval="100ms")
    if sys.platform != "linux":
        raise Skipped("only Linux keeps to RLIMIT_AS")
    for name, code in POISON.items():
        engine.sense(name, code)
        load.senses.append(f"{name}: {{}}")
        load.reflexes.append(f"{{sense: {name}, interval: {random.randint(10, 50)}ms}}")
    engine.sense("healthy", "def compute(ctx):\n    pass\n")
    load.senses.append("healthy: {}")
    load.reflexes.append("{sense: healthy, interval: 50ms}")
    load.configure(workers=WORKERS)
    engine.start()
    began, crowd = time.monotonic(), 0
    while time.monotonic() - began < (2.5 if short else 30):
        pause(0.1)
        crowd = max(crowd, len(titled(engine, "worker")))
    verdict.expect(crowd <= WORKERS, f"there were {crowd} workers")
    wait_until(lambda: states(engine) == {"backoff"}, "all of them are backed off", timeout=5)
    wait_until(lambda: at_full_strength(engine), f"there are {WORKERS} workers")
    zombies = [child.pid for child in psutil.Process(engine.pid).children() if child.status() == psutil.STATUS_ZOMBIE]
    verdict.expect(not zombies, f"{len(zombies)} zombies")
    finish(engine, load, verdict)
    check_poison(engine, verdict)
    check_beats(engine, verdict)


def states(engine: Engine) -> set[str]:
    """Return the states of the killing senses in `nerve status`."""
    return {sense["state"] for sense in engine.status()["senses"] if sense["name"] in POISON}


def check_poison(engine: Engine, verdict: Verdict) -> None:
    """Check that the back-off of killing senses grows, also in their errors, and that nothing else fails."""
    for name in POISON:
        errors = engine.rows("source = 'system' AND type = 'error' AND ref_id LIKE ?", f"{name}/%")
        backoffs = [error.payload.get("backoff_ms", 0) for error in errors]
        verdict.kills += len(errors)
        verdict.expect(backoffs == [0, *(1000 << n for n in range(len(errors) - 1))], f"{name}: {backoffs}")
        verdict.expect(len(errors) >= 2, f"{name} was backed off after {len(errors)} deaths")
        verdict.notes.append(f"{name}: {len(errors)} deaths, back-off up to {max(backoffs, default=0)} ms")
    others = engine.how_many("source = 'system' AND type = 'error'") - verdict.kills
    verdict.expect(not others, f"{others} other errors")


def check_beats(engine: Engine, verdict: Verdict) -> None:
    """Check that the healthy sense has run at nearly all of its intervals."""
    runs = engine.rows("source = 'reflex' AND type = 'run_start' AND ref_id LIKE 'healthy/%'")
    beats = (runs[-1].ts - runs[0].ts) / 1000 / BEAT_SECONDS + 1
    verdict.expect(len(runs) >= BEATS_KEPT * beats, f"a healthy sense kept {len(runs)} of {beats:.0f} beats")
    late = sorted(run.payload["lateness_ms"] for run in runs)
    verdict.notes.append(f"a healthy sense kept {len(runs)} of {beats:.0f} beats, at most {late[-1]} ms late")
