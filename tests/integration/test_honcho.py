"""Under honcho: Ctrl-C ends everything in time, without honcho's SIGKILL."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time

import psutil
from support.commands import NERVE
from support.engine import Engine
from support.waiting import wait_until


def test_ctrl_c_under_honcho_ends_in_good_order(engine: Engine) -> None:
    """It passes SIGTERM on; the engine ends within 5 s, by itself, and `stop` is the last entry."""
    engine.config("senses: {slow: {}}\nreflexes: [{sense: slow, interval: 100ms}]\n")
    engine.sense("slow", "import time\ndef compute(ctx):\n    time.sleep(60)\n")
    (engine.home / "Procfile").write_text(f"nerve: exec {shlex.join(NERVE)} --home {engine.home} start\n")
    with (engine.home / "output").open("w") as output:
        engine.process = subprocess.Popen(
            [sys.executable, "-m", "honcho", "start"],
            cwd=engine.home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    engine.until(lambda: engine.count("reflex", "run_start"), "a run has begun")
    kernel = engine.status()["kernel"]["pid"]
    began = time.monotonic()
    engine.process.send_signal(signal.SIGINT)
    engine.wait()
    assert time.monotonic() - began < 5
    said = (engine.home / "output").read_text()
    assert "SIGKILL" not in said
    assert "stopped (rc=0)" in said
    assert engine.rows()[-1].type == "stop"
    assert engine.rows()[-1].payload["reason"] == "SIGTERM"
    wait_until(lambda: not psutil.pid_exists(kernel), "the kernel is gone")
