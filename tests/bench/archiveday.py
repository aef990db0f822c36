"""One day of 10 million rows: the memory that archiving, verifying, querying and restoring it take."""

from __future__ import annotations

import sqlite3
import subprocess
import sysconfig
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from support.engine import Engine
from support.waiting import pause, wait_until

from bench.archiving import archive_old, prepare
from bench.filling import DAY_MS, RUN_ROWS, fill
from bench.lab import Lab
from bench.measurement import measurement
from bench.results import Found, Goal, Row
from bench.samples import Samples
from bench.watching import peak_rss_mb, titled

LOOK_SECONDS = 0.05
OLDEST_DAYS = 10
MEMORY = Goal("at most", 100)


@measurement
def archive_day(lab: Lab) -> Found:
    """Memory while a day of 10 million rows is archived, verified, queried in three ways, and restored."""
    rows = RUN_ROWS * lab.size(3_333_334, 33_334)
    old = lab.new_folder() / "old.db"
    # From one midnight (UTC) to just before the next.
    fill(old, rows, oldest_days=OLDEST_DAYS + time.time() * 1000 % DAY_MS / DAY_MS, span_days=0.9999)
    run = _run_in_the_middle(old, rows)
    day = (datetime.now(UTC) - timedelta(days=OLDEST_DAYS)).date().isoformat()
    with lab.engine() as engine:
        prepare(engine, old, "[]")
        old.unlink()
        engine.start()
        wait_until(lambda: titled(engine, "archiver"), "there is an archiver")
        archiver, writer = titled(engine, "archiver")[0], titled(engine, "writer")[0]
        seconds = archive_old(engine, rows)
        found = [
            _row(f"memory of the archiver, for a day of {rows:,} rows", peak_rss_mb(archiver), seconds),
            _row("memory of the writer meanwhile", peak_rss_mb(writer), seconds),
        ]
        for name, command, least in (
            ("verify", ["verify"], 1),
            ("trace RUN --archived", ["trace", run, "--archived"], 1),
            ("stats --archived", ["stats", "--archived"], 1),
            ("logs --archived --json", ["logs", "--archived", "--json"], rows),
            ("restore DAY", ["restore", day], 1),
        ):
            found.append(_row(f"memory of `nerve {name}` afterwards", *_measured(engine, command, least)))
        engine.stop(timeout=60)
    return Found(found)


def _row(what: str, peak_mb: float, seconds: float) -> Row:
    return Row(what=what, nerve=Samples("nerve", "MB", (peak_mb,)), goal=MEMORY, note=f"at its peak; {seconds:.1f} s")


def _run_in_the_middle(db: Path, rows: int) -> str:
    with closing(sqlite3.connect(db)) as connection:
        (run,) = connection.execute("SELECT ref_id FROM logs WHERE id = ?", (rows // 2,)).fetchone()
    return str(run)


def _measured(engine: Engine, command: list[str], least_lines: int) -> tuple[float, float]:
    """Run a command, whose lines `wc` counts; return its peak memory in MB, and its duration in seconds."""
    nerve = Path(sysconfig.get_path("scripts")) / "nerve"
    began, peak = time.monotonic(), 0.0
    with (
        subprocess.Popen(
            [str(nerve), "--home", str(engine.home), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as asked,
        subprocess.Popen(["wc", "-l"], stdin=asked.stdout, stdout=subprocess.PIPE, text=True) as counter,
    ):
        process = psutil.Process(asked.pid)
        while asked.poll() is None:
            peak = max(peak, peak_rss_mb(process))
            pause(LOOK_SECONDS)
        seconds, lines = time.monotonic() - began, int(counter.communicate()[0])
    if asked.returncode or lines < least_lines:
        raise RuntimeError(f"nerve {' '.join(command)} ended with {asked.returncode}, after {lines} lines")
    return peak, seconds
