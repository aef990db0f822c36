"""Quick runs are handed out ahead: nobody notices, except by how many there are."""

from __future__ import annotations

import signal

from support.engine import Engine

SENSES = 300
QUICK = "def compute(ctx):\n    pass\n"

# Quick as long as it is not told otherwise, so that others wait behind it.
TREACHEROUS = """
import time
from pathlib import Path
TRAP, RELEASE = Path({trap!r}), Path({release!r})
def compute(ctx):
    if TRAP.exists():
        TRAP.unlink()
        ctx.log("trapped")
        while not RELEASE.exists():
            time.sleep(0.01)
"""


def saturated(engine: Engine) -> Engine:
    """Start an engine whose senses ask for more runs than there can be."""
    names = [f"s{number}" for number in range(SENSES)]
    senses = "".join(f"  {name}: {{path: senses/quick.py}}\n" for name in names)
    reflexes = "".join(f"  - {{sense: {name}, interval: 10ms}}\n" for name in ["treacherous", *names])
    engine.config(f"workers: 2\nsenses:\n  treacherous: {{}}\n{senses}reflexes:\n{reflexes}")
    engine.sense("quick", QUICK)
    engine.sense(
        "treacherous", TREACHEROUS.format(trap=str(engine.home / "trap"), release=str(engine.home / "release"))
    )
    engine.start()
    engine.until(lambda: engine.count("reflex", "run_complete") > 2_000, "it is going")
    return engine


def open_runs(engine: Engine) -> list[str]:
    """Give the runs that do not have exactly one start and one end."""
    ends = engine.rows("source = 'reflex' AND type = 'run_complete'")
    starts = engine.rows("source = 'reflex' AND type = 'run_start'")
    assert len({end.ref_id for end in ends}) == len(ends)
    assert len({start.ref_id for start in starts}) == len(starts)
    return sorted({start.ref_id or "" for start in starts} ^ {end.ref_id or "" for end in ends})


def test_killed_workers_cost_the_run_that_they_did_and_no_other(engine: Engine) -> None:
    """However much they had before them: each kill fails one run at most, and every run ends once."""
    saturated(engine)
    for kill in range(1, 11):
        engine.child("worker").send_signal(signal.SIGKILL)
        done = engine.count("reflex", "run_complete")
        engine.until(lambda done=done: engine.count("reflex", "run_complete") > done + 100, f"it goes on after {kill}")
    assert engine.stop() == 0
    assert open_runs(engine) == []
    assert len(engine.errors("worker_died")) <= 10


def test_nobody_waits_behind_a_run_that_is_suddenly_slow(engine: Engine) -> None:
    """What was behind it is taken back and done elsewhere, while it still runs."""
    saturated(engine)
    (engine.home / "trap").touch()
    trapped = engine.until(lambda: engine.rows("type = 'trapped'"), "it sleeps")[0]
    names = {f"s{number}" for number in range(SENSES)}

    def gone_on() -> set[str]:
        later = engine.rows("type = 'run_start' AND id > ?", trapped.id)
        return {(start.ref_id or "").partition("/")[0] for start in later}

    engine.until(lambda: names <= gone_on(), "every other sense has gone on")
    assert not [end for end in engine.runs("treacherous") if end.ref_id == trapped.ref_id]
    (engine.home / "release").touch()
    engine.until(lambda: engine.how_many("type = 'run_complete' AND ref_id = ?", trapped.ref_id), "it has woken up")
    assert engine.stop() == 0
    assert open_runs(engine) == []


def test_a_stop_leaves_no_run_open(engine: Engine) -> None:
    """What nobody has begun ends as cancelled, what has been begun as it would have."""
    saturated(engine)
    assert engine.stop() == 0
    assert open_runs(engine) == []
    statuses = {end.payload["status"] for end in engine.rows("type = 'run_complete'")}
    assert statuses <= {"ok", "cancelled"}
    assert engine.rows()[-1].type == "stop"


# A thread that a compute has left behind holds the interpreter's lock, soon after the run has ended, for good.
HANGING = """
import re, threading
def compute(ctx):
    if ctx.trigger.kind == "manual":
        threading.Timer(0.05, re.match, (r"(a+)+$", "a" * 40 + "b")).start()
"""


def test_a_worker_that_hangs_between_two_runs_is_replaced(engine: Engine) -> None:
    """The run that it was to begin with ends as a timeout, though it has not begun; and then all goes on."""
    names = [f"s{number}" for number in range(20)]
    senses = "".join(f"  {name}: {{path: senses/quick.py, timeout: 500ms, grace_period: 200ms}}\n" for name in names)
    reflexes = "".join(f"  - {{sense: {name}, interval: 20ms}}\n" for name in names)
    engine.config(f"workers: 1\nsenses:\n  hanging: {{}}\n{senses}reflexes:\n{reflexes}")
    engine.sense("quick", QUICK)
    engine.sense("hanging", HANGING)
    engine.start()
    engine.until(lambda: engine.count("reflex", "run_complete") > 200, "it is going")
    assert engine.run("trigger", "hanging", "--wait").returncode == 0
    engine.until(lambda: engine.errors("timeout"), "the hanging worker is found out")
    done = engine.count("reflex", "run_complete")
    engine.until(lambda: engine.count("reflex", "run_complete") > done + 200, "it goes on")
    assert engine.stop() == 0
    assert open_runs(engine) == []
    assert len(engine.errors()) == 1


def test_what_a_compute_has_forked_is_no_worker(engine: Engine) -> None:
    """Its child comes back from the compute as well, and ends there: it takes no run, and tells no end."""
    engine.config("workers: 1\nsenses:\n  forks: {}\nreflexes:\n  - {sense: forks, interval: 10ms}\n")
    engine.sense("forks", "import os\ndef compute(ctx):\n    pid = os.fork()\n    if pid: os.waitpid(pid, 0)\n")
    engine.start()
    engine.until(lambda: engine.count("reflex", "run_complete") > 50, "it is going")
    assert engine.stop() == 0
    assert open_runs(engine) == []
    assert engine.errors() == []


def test_runs_that_fit_no_packet_are_done_in_their_turn(engine: Engine) -> None:
    """Signals too large to be handed out ahead fire as many runs as they would otherwise, beside a busy crowd."""
    names = [f"s{number}" for number in range(50)]
    senses = "".join(f"  {name}: {{path: senses/quick.py}}\n" for name in names)
    reflexes = "".join(f"  - {{sense: {name}, interval: 10ms}}\n" for name in names)
    engine.config(
        f"workers: 1\nsenses:\n  talker: {{}}\n  hearer: {{path: senses/quick.py}}\n{senses}"
        f"reflexes:\n  - {{sense: talker, interval: 20ms}}\n  - {{sense: hearer, on: talker}}\n{reflexes}"
    )
    engine.sense("quick", QUICK)
    engine.sense("talker", "def compute(ctx):\n    return 'x' * 6000\n")
    engine.start()
    engine.until(lambda: len(engine.runs("hearer")) >= 50, "large signals have fired")
    assert engine.stop() == 0
    assert open_runs(engine) == []
    talked, heard = len(engine.runs("talker")), len(engine.runs("hearer"))
    assert heard >= talked // 2
