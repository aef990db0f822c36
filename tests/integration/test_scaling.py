"""Another number of workers while the engine runs: at once upwards, and downwards as soon as one is idle."""

from __future__ import annotations

import signal

import pytest
from support.engine import Engine
from support.load import Load
from support.verdict import Verdict, check_log

MOST = 64
WAITING = """
    from pathlib import Path
    import time
    def compute(ctx):
        ctx.log('begun')
        while not Path({gate!r}).exists():
            time.sleep(0.01)
"""


def size(engine: Engine) -> int:
    """How many workers serve, those left out that are about to end."""
    return sum(1 for worker in engine.status()["workers"] if worker["state"] != "stopping")


def scales(engine: Engine) -> list[tuple[int, int, str]]:
    """What the log says of the changes."""
    return [
        (entry.payload["from"], entry.payload["to"], entry.payload["by"]) for entry in engine.rows("type = 'scale'")
    ]


def test_to_64_and_back_under_load_loses_no_run(engine: Engine) -> None:
    """1 to 64 to 1, twice, beside counting senses: all that was acknowledged is there, and each run is whole."""
    load = Load(engine, senses=20, events=30, interval="50ms")
    load.configure(workers=1)
    engine.start()
    for workers in (MOST, 1, MOST, 1):
        scaled = engine.run("scale", str(workers))
        assert scaled.returncode == 0, scaled.stderr
        engine.until(lambda wanted=workers: len(engine.pids("worker")) == wanted, f"there are {workers} workers", 40)
        ended = engine.how_many("type = 'run_complete'")
        engine.until(lambda least=ended + 20: engine.how_many("type = 'run_complete'") > least, "runs go on")
    assert engine.stop() == 0
    verdict = Verdict()
    check_log(verdict, engine.db, load.acknowledged())
    assert verdict.ok, verdict
    assert verdict.sent > 1000
    assert {run.payload["status"] for run in engine.rows("type = 'run_complete'")} <= {"ok", "cancelled"}
    assert engine.errors() == []
    assert scales(engine) == [(a, b, "nerve scale") for a, b in ((1, MOST), (MOST, 1), (1, MOST), (MOST, 1))]


def test_scale_says_what_changed(engine: Engine) -> None:
    """One line with the number before; the same number again changes, and records, nothing."""
    engine.config("workers: 2\n")
    engine.start()
    found = engine.run("scale", "3")
    assert found.returncode == 0
    assert "was 2" in found.stdout + found.stderr
    engine.until(lambda: size(engine) == 3, "there are three workers")
    assert "unchanged" in engine.run("scale", "3").stdout
    assert scales(engine) == [(2, 3, "nerve scale")]


@pytest.mark.parametrize("number", ["0", "65", "-1", "many"])
def test_an_impossible_number_is_a_mistake_of_usage(engine: Engine, number: str) -> None:
    """What is no number from 1 to 64 is refused with exit code 2 before the engine is asked."""
    assert engine.run("scale", "--", number).returncode == 2


def test_ttin_and_ttou_add_and_remove_one(engine: Engine) -> None:
    """Each signal is one worker more or less, never below one; the children don't mind getting it, too."""
    engine.config("workers: 1\n")
    engine.start()
    for number, wanted in ((signal.SIGTTIN, 2), (signal.SIGTTIN, 3), (signal.SIGTTOU, 2), (signal.SIGTTOU, 1)):
        engine.signal(number)
        engine.until(lambda wanted=wanted: len(engine.pids("worker")) == wanted, f"there are {wanted} workers")
    engine.signal(signal.SIGTTOU)
    assert size(engine) == 1  # and by now the signal is taken: of two that wait, the system hands over TTIN first
    engine.signal_all(signal.SIGTTIN)
    engine.until(lambda: len(engine.pids("worker")) == 2, "there are two workers")
    engine.until(lambda: len(scales(engine)) >= 5, "the last one is committed, too")
    assert scales(engine) == [
        (1, 2, "SIGTTIN"), (2, 3, "SIGTTIN"), (3, 2, "SIGTTOU"), (2, 1, "SIGTTOU"), (1, 2, "SIGTTIN"),
    ]  # fmt: skip
    assert engine.stop() == 0
    assert engine.errors() == []


def test_a_busy_worker_finishes_its_run_before_it_goes(engine: Engine) -> None:
    """Scaled down while all are busy: nobody is interrupted, and each goes when its run has ended."""
    gate = engine.home / "gate"
    names = ("a", "b", "c")
    for name in names:
        engine.sense(name, WAITING.format(gate=str(gate)))
    reflexes = ", ".join(f"{{sense: {name}, interval: 5m}}" for name in names)
    engine.config(f"workers: 3\nsenses: {{a: {{}}, b: {{}}, c: {{}}}}\nreflexes: [{reflexes}]\n")
    engine.start()
    engine.until(lambda: engine.how_many("type = 'begun'") == 3, "all three run")
    assert engine.run("scale", "1").returncode == 0
    assert [worker["state"] for worker in engine.status()["workers"]] == ["busy"] * 3
    gate.touch()
    engine.until(lambda: len(engine.pids("worker")) == 1, "one worker is left")
    assert [engine.until_run(name, "ok").payload["status"] for name in names] == ["ok"] * 3
    engine.until(lambda: [worker["state"] for worker in engine.status()["workers"]] == ["idle"], "it is idle")
