"""A disk that refuses: everybody waits and says so, nothing is lost, and a stop still ends in time."""

from __future__ import annotations

import sys
import time

import psutil
import pytest
from support.engine import Engine
from support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can limit the files of another process")

LIMIT_BYTES = 64 * 1024
COUNTING = "def compute(ctx):\n    for n in range(500):\n        ctx.log('n', {'n': n, 'pad': 'x' * 100})\n"


def refuse(engine: Engine) -> None:
    """Let no file of the writer grow any more: what it writes fails as on a full disk."""
    engine.child("writer").rlimit(psutil.RLIMIT_FSIZE, (LIMIT_BYTES, psutil.RLIM_INFINITY))
    wait_until(lambda: "the log can't be written" in problems(engine), "`nerve status` says so")


def allow(engine: Engine) -> None:
    """Let the writer's files grow again."""
    engine.child("writer").rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))


def problems(engine: Engine) -> str:
    """Return the problems in `nerve status` as one text."""
    return "; ".join(engine.status()["problems"])


def whole_runs(engine: Engine) -> int:
    """Count the runs that ended well, after a look at whether each has all of its events."""
    done = [run.ref_id for run in engine.runs("a") if run.payload["status"] == "ok"]
    assert [engine.how_many("type = 'n' AND ref_id = ?", run) for run in done] == [500] * len(done)
    return len(done)


def counting(engine: Engine) -> None:
    """Start an engine whose sense logs numbered events again and again."""
    engine.config("shutdown_timeout: 2s\nworkers: 1\nsenses: {a: {}}\nreflexes: [{sense: a, interval: 20ms}]\n")
    engine.sense("a", COUNTING)
    engine.start()
    # Its first run would meet the full disk as well, and report that until its next run.
    engine.until(lambda: engine.status()["archiver"]["last_ts"], "the archiver has done its first run")


def test_everybody_waits_for_a_full_disk_and_goes_on(engine: Engine) -> None:
    """An outage is one error of kind disk, and its runs are as whole as any others."""
    counting(engine)
    refuse(engine)
    assert engine.status()["writer"]["lag_ms"] > 0
    assert engine.run("logs", "-n", "1", "--json").returncode == 0
    allow(engine)
    [outage] = engine.until(lambda: engine.errors("disk"), "the outage is recorded")
    assert outage.ref_id == "writer"
    engine.until(lambda: not problems(engine), "the problem is over")
    assert engine.stop() == 0
    assert whole_runs(engine) > 0
    assert len(engine.errors()) == 1


def test_a_writer_that_dies_on_a_full_disk_costs_nothing_either(engine: Engine) -> None:
    """The next writer waits in its place, and what was handed over is sent to it again."""
    counting(engine)
    refuse(engine)
    engine.child("writer").kill()
    engine.until(lambda: engine.errors("process_died"), "there is a new writer, and it writes")
    assert engine.stop() == 0
    assert whole_runs(engine) > 0
    assert len(engine.runs("a")) == engine.count("reflex", "run_start")


def test_a_stop_on_a_full_disk_ends_in_time_and_loses_nothing(engine: Engine) -> None:
    """It exits with 1 and one line that says where everything waits; the next start writes it."""
    counting(engine)
    refuse(engine)
    began = time.monotonic()
    assert engine.stop() == 1
    assert time.monotonic() - began < 3
    assert engine.processes() == []
    said = engine.stderr.splitlines()[-1]
    assert said.startswith("nerve: the log can't be written (")
    assert "check the disk" in said
    assert f"wait in {engine.home}/data/run/lanes, the next start writes them" in said
    assert "are not in the log yet" in engine.run("status").stderr
    assert "are not in the log yet" in engine.run("logs", "-n", "1").stderr
    engine.start()
    assert "are not in the log yet" not in engine.run("logs", "-n", "1").stderr
    assert engine.stop() == 0
    assert not engine.errors("lost")
    assert engine.count("system", "stop") == 2
    assert whole_runs(engine) > 0
    assert len(engine.runs("a")) == engine.count("reflex", "run_start")


def test_a_writer_that_can_not_end_is_killed_and_that_is_said(engine: Engine) -> None:
    """A stop waits for the writer no longer than its timeout."""
    counting(engine)
    engine.until(lambda: engine.how_many("type = 'n'") > 0, "events are committed")
    engine.child("writer").suspend()
    began = time.monotonic()
    assert engine.stop() == 1
    assert time.monotonic() - began < 3
    assert engine.processes() == []
    assert "the writer was not done in time" in engine.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("limit", "said"), [(0, "data/run/lock"), (4096, "data/run/lanes")], ids=["nothing", "one page"]
)
def test_a_first_start_on_a_full_disk_is_one_line(engine: Engine, limit: int, said: str) -> None:
    """It exits with 1 and says what to do; with space again, the next start is a first one like any other."""
    engine.config("senses: {}\n")
    engine.prelude = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    found = engine.run("start")
    assert found.returncode == 1
    [line] = [line for line in found.stderr.splitlines() if not line.startswith("nerve: note: ")]
    assert said in line
    assert "check the disk" in line
    engine.prelude = ""
    engine.start()
    assert engine.stop() == 0
