"""Commands as processes: how long `nerve logs` takes, and the first run after `nerve start`."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import time
from functools import partial
from pathlib import Path

from bench.filling import fill
from bench.lab import Lab
from bench.measurement import measurement
from bench.results import Found, Goal, Row
from bench.samples import Samples, interleaved
from bench.watching import first_run_start

ROWS = 300_000


@measurement
def logs_command(lab: Lab) -> Found:
    """`nerve logs -n 100` as a process, beside `python -c pass`."""
    home = lab.new_folder()
    (home / "nerve.yaml").write_text("{}\n")
    (home / "data").mkdir()
    fill(home / "data" / "logs.db", ROWS)
    nerve = [str(Path(sysconfig.get_path("scripts")) / "nerve"), "--home", str(home), "logs", "-n", "100"]
    if len(_output(nerve).splitlines()) != 100:
        raise RuntimeError("nerve logs -n 100 did not show 100 entries")
    ways = {"nerve": partial(_ms, nerve), "python": partial(_ms, [sys.executable, "-c", "pass"])}
    found = interleaved(lab.size(21, 9), ways)
    return Found(
        [
            Row(
                what="`nerve logs -n 100`, the whole process",
                nerve=Samples("nerve", "ms", found["nerve"]),
                other=Samples("python -c pass", "ms", found["python"]),
                goal=Goal("more by at most", 150),
            )
        ]
    )


def _output(command: list[str]) -> bytes:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout


def _ms(command: list[str]) -> float:
    began = time.monotonic()
    _output(command)
    return (time.monotonic() - began) * 1000


@measurement
def start_command(lab: Lab) -> Found:
    """From `nerve start` to the first committed run_start, in a new workspace."""
    values = tuple(_first_run_ms(lab) for _ in range(lab.size(9, 5)))
    return Found(
        [
            Row(
                what="`nerve start` to the first run_start committed",
                nerve=Samples("nerve", "ms", values),
                goal=Goal("at most", 500),
                note="the whole process, in a new workspace, until another process can read the entry",
            )
        ]
    )


def _first_run_ms(lab: Lab) -> float:
    with lab.engine() as engine:
        engine.sense("noop", "def compute(ctx):\n    pass\n")
        engine.config("senses: {noop: {}}\nreflexes: [{sense: noop, interval: 10s}]\n")
        began = time.monotonic()
        engine.start(ready=False)
        seen = first_run_start(engine.db)
        engine.stop()
    return (seen - began) * 1000
