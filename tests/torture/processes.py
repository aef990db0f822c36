"""Killing each kind of process under load, at any moment of its life."""

from __future__ import annotations

import random
import signal
from contextlib import suppress

import psutil
from support.engine import Engine
from support.load import Load
from support.verdict import Verdict, check_log
from support.waiting import pause, wait_until

from torture.scenario import scenario
from torture.stalls import AgeWatch

BIG_EVENT = '"x" * (10_000_000 if n == 50 else 10)'
GONE_SECONDS = 2.0
STALL_MS = 1000


def finish(engine: Engine, load: Load, verdict: Verdict) -> None:
    """Stop the engine in good order, and check its log."""
    verdict.expect(engine.stop(timeout=30) == 0, "the engine did not end with 0")
    verdict.expect(engine.rows("id = (SELECT max(id) FROM logs)")[0].type == "stop", "`stop` is not the last entry")
    check_log(verdict, engine.db, load.acknowledged())


def titled(engine: Engine, title: str) -> list[psutil.Process]:
    """Return the engine's processes with this title."""
    found = []
    for process in engine.processes():
        with suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).strip() == f"nerve: {title}":
                found.append(process)
    return found


@scenario
def workers(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """SIGKILL a random worker every 50 ms, also in the middle of a 10 MB event."""
    load = Load(engine, senses=40, pad=BIG_EVENT)
    load.configure(workers=4, extra="logs: {max_payload: 16MB}\n")
    engine.start()
    with AgeWatch(engine) as ages:
        for _ in range(40 if short else 500):
            pause(0.05)
            for victim in random.sample(found := titled(engine, "worker"), min(1, len(found))):
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
                    verdict.kills += 1
    verdict.stall_ms = ages.longest_ms
    verdict.expect(ages.longest_ms < STALL_MS, f"an event waited for its commit for {ages.longest_ms:.0f} ms")
    zombies = [process for process in psutil.Process(engine.pid).children() if process.status() == psutil.STATUS_ZOMBIE]
    verdict.expect(len(zombies) <= 1, f"{len(zombies)} zombies")
    finish(engine, load, verdict)
    died = engine.how_many("type = 'run_complete' AND json_extract(payload, '$.status') = 'died'")
    verdict.expect(0 < died <= verdict.kills, f"{died} runs died of {verdict.kills} kills")


@scenario
def writer(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """SIGKILL the writer repeatedly under load."""
    load = Load(engine)
    load.configure()
    engine.start()
    for _ in range(8 if short else 200):
        victims = wait_until(lambda: titled(engine, "writer"), "there is a writer")
        pause(random.uniform(0, 0.15))
        with suppress(psutil.NoSuchProcess):
            victims[0].kill()
            verdict.kills += 1
        wait_until(lambda old=victims[0].pid: [w for w in titled(engine, "writer") if w.pid != old], "a new writer")
    finish(engine, load, verdict)


@scenario
def kernel(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """SIGKILL the kernel while it starts, runs and stops; then start again."""
    load = Load(engine)
    load.configure()
    for number in range(4 if short else 40):
        engine.start(ready=number % 2 == 0)  # every other time, it is killed while it starts
        pause(random.uniform(0, 0.6))
        if number % 3 == 2:
            engine.signal(signal.SIGTERM)
            pause(random.uniform(0, 0.2))
        engine.signal(signal.SIGKILL)
        verdict.kills += 1
        wait_until(lambda: not engine.processes(), f"nobody is left {GONE_SECONDS:g} s after the kernel", GONE_SECONDS)
        engine.wait()
    engine.start()
    finish(engine, load, verdict)
    twice = engine.how_many("type = 'run_complete' AND json_extract(payload, '$.status') = 'lost'")
    errors = engine.how_many("type = 'error' AND json_extract(payload, '$.kind') = 'lost'")
    verdict.expect(twice == errors, f"{twice} lost runs, but {errors} errors that say so")
    verdict.notes.append(f"{twice} runs were open when the kernel died, and were closed as lost, once each")


@scenario
def signals(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """SIGTERM and SIGINT to the whole group, one to three times, at random moments."""
    load = Load(engine)
    load.configure()
    for _ in range(3 if short else 25):
        engine.start()
        pause(random.uniform(0, 0.5))
        for _ in range(random.randint(1, 3)):
            engine.signal_all(random.choice([signal.SIGTERM, signal.SIGINT]))
            pause(random.uniform(0, 0.3))
        code = engine.wait(timeout=5)
        verdict.expect(code == 0, f"the engine ended with {code}: {engine.stderr[-400:]}")
        verdict.expect(not engine.processes(), "processes are left")
        last = engine.rows("id = (SELECT max(id) FROM logs)")[0]
        verdict.expect(last.type == "stop", f"the last entry is {last.source}/{last.type}")
    check_log(verdict, engine.db, load.acknowledged())
