"""Several processes killed together: two at a time, and all at once, at every moment of the engine's life."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from itertools import combinations

from support.engine import Engine
from support.load import Load
from support.verdict import Verdict, check_ok_runs
from support.waiting import pause, wait_until

from nerve.processes.lanes import MAX_UNDRAINED
from torture.processes import GONE_SECONDS, finish, titled
from torture.scenario import scenario

EVENTS = 100
LITTLE_BYTES = 2 * 1024 * 1024
ROLES = ("kernel", "writer", "worker", "archiver")
LONGEST_GAP_SECONDS = 0.5
ARCHIVING = "logs: {retention: 1s, archive_interval: 1s}\nshutdown_timeout: 2s\n"


def kill_all(engine: Engine, verdict: Verdict) -> None:
    """Kill every process of the engine by one system call: they are one group."""
    verdict.kills += len(engine.processes())
    with suppress(ProcessLookupError):
        os.killpg(engine.pid, signal.SIGKILL)
    wait_until(lambda: not engine.processes(), "everybody is gone", GONE_SECONDS)
    engine.wait()


def while_it_starts(engine: Engine, _load: Load, random: random.Random) -> None:
    """Before it has said that it serves, or just after."""
    engine.start(ready=False)
    pause(random.uniform(0, 0.6))


def under_load(engine: Engine, _load: Load, random: random.Random) -> None:
    """In the middle of everything."""
    engine.start()
    pause(random.uniform(0, 0.5))


def while_it_reloads(engine: Engine, load: Load, random: random.Random) -> None:
    """With a sense that has just been saved."""
    engine.start()
    for name in random.sample(load.names, 2):
        path = engine.home / "senses" / f"{name}.py"
        path.write_text(path.read_text() + "\n")
    pause(random.uniform(0, 0.4))


def while_it_archives(engine: Engine, _load: Load, random: random.Random) -> None:
    """With an order of the archiver under way."""
    engine.start()
    archiving = engine.spawn("archive", "--vacuum")
    pause(random.uniform(0.1, 0.6))
    archiving.kill()
    archiving.communicate()


def while_it_stops(engine: Engine, _load: Load, random: random.Random) -> None:
    """On the way down."""
    engine.start()
    pause(random.uniform(0, 0.3))
    engine.signal(signal.SIGTERM)
    pause(random.uniform(0, 0.4))


MOMENTS: tuple[Callable[[Engine, Load, random.Random], None], ...] = (
    under_load,
    while_it_starts,
    while_it_reloads,
    while_it_archives,
    while_it_stops,
)


@scenario
def everyone(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """SIGKILL every process at once, under load, and while it starts, reloads, archives and stops; then start again."""
    load = Load(engine, events=EVENTS)
    load.configure(extra=ARCHIVING)
    waited = 0
    for number in range(6 if short else 200):
        MOMENTS[number % len(MOMENTS)](engine, load, random)
        kill_all(engine, verdict)
        waited += "are not in the log yet" in engine.run("status").stderr
        if number % 10 == 5:
            recovered = engine.run("verify", "--recover", "--quick")
            verdict.expect("recovered" in recovered.stderr, f"nothing was recovered: {recovered.stderr}")
    engine.start()
    finish(engine, load, verdict)
    check_ok_runs(verdict, engine.db, EVENTS)
    lost = engine.how_many("type = 'run_complete' AND json_extract(payload, '$.status') = 'lost'")
    verdict.notes.append(f"after {waited} of the deaths events waited in lanes; {lost} runs were closed as lost")


def pid_of(engine: Engine, role: str, random: random.Random) -> int:
    """Return the pid of a process of this role, once there is one."""
    if role == "kernel":
        return engine.pid
    return random.choice(wait_until(lambda: titled(engine, role), f"there is a process of the role {role}")).pid


@scenario
def both(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """SIGKILL a random worker or the writer every 100 ms, so that the writer hardly ever gets anything done."""
    load = Load(engine, senses=3, events=400)
    load.configure(workers=3)
    engine.start()
    for _ in range(30 if short else 250):
        pause(0.1)
        found = titled(engine, random.choice(("worker", "writer")))
        for victim in random.sample(found, min(1, len(found))):
            with suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)
                verdict.kills += 1
    lanes = sum(1 for _ in (engine.home / "data" / "run" / "lanes").iterdir())
    verdict.expect(lanes <= MAX_UNDRAINED + 10, f"{lanes} lanes have piled up")
    engine.until(lambda: waiting_bytes(engine) < LITTLE_BYTES, "the writer has caught up", 60)
    finish(engine, load, verdict)
    check_ok_runs(verdict, engine.db, 400)
    verdict.notes.append(f"at the end there were {lanes} lanes")


def waiting_bytes(engine: Engine) -> int:
    """Return how much waits in the lanes of the dead."""
    lanes = engine.status()["lanes"]
    alive = {worker["pid"] for worker in engine.status()["workers"]}
    return sum(lane["bytes"] for lane in lanes if lane["pid"] not in alive)


@scenario
def pairs(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """SIGKILL each pair of kernel, writer, worker and archiver: at the same instant, and up to 500 ms apart."""
    load = Load(engine, events=EVENTS)
    load.configure(extra=ARCHIVING)
    rounds = [pair for pair in combinations(ROLES, 2) for _ in range(1 if short else 50)]
    random.shuffle(rounds)
    engine.start()
    for number, pair in enumerate(rounds):
        pause(random.uniform(0, 0.2))
        victims = [pid_of(engine, role, random) for role in random.sample(pair, 2)]
        gap = 0.0 if number % 2 else random.uniform(0, LONGEST_GAP_SECONDS)
        for victim in victims:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                verdict.kills += 1
            if gap and victim == victims[0]:
                pause(gap)
        if "kernel" in pair:
            wait_until(lambda: not engine.processes(), "nobody is left after the kernel", GONE_SECONDS)
            engine.wait()
            engine.start()
        else:
            wait_until(lambda: titled(engine, "writer") and len(titled(engine, "worker")) == 2, "they are replaced", 20)
    finish(engine, load, verdict)
    check_ok_runs(verdict, engine.db, EVENTS)
