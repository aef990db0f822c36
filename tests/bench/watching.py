"""Watching an engine from outside, with plain sqlite3 and psutil."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import psutil
from support.engine import Engine
from support.waiting import pause

LOOK_SECONDS = 0.002


def wait_for_file(path: Path, timeout: float = 60.0) -> None:
    """Wait until a file exists."""
    deadline = time.monotonic() + timeout
    while not path.exists():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"timed out after {timeout:g} s, waiting for {path.name}")
        pause(LOOK_SECONDS)


class LogEye:
    """Reads a growing log over one read-only connection; a context manager."""

    def __init__(self, db: Path) -> None:
        self._connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=10, isolation_level=None)

    def __enter__(self) -> LogEye:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._connection.close()

    def last_id(self) -> int:
        """Return the largest id so far, which is the number of rows, as ids have no gaps."""
        found = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'logs'").fetchone()
        return int(found[0]) if found else 0

    def wait_for(self, id: int, timeout: float = 120.0) -> float:
        """Wait until there is a row with this id; return the time (monotonic seconds)."""
        deadline = time.monotonic() + timeout
        while self.last_id() < id:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"the log has {self.last_id()} rows after {timeout:g} s, not {id}")
            pause(LOOK_SECONDS)
        return time.monotonic()

    def count(self, source: str, type: str) -> int:
        """Return the number of rows of a type."""
        sql = "SELECT count(*) FROM logs WHERE source = ? AND type = ?"
        (rows,) = self._connection.execute(sql, (source, type)).fetchone()
        return int(rows)

    def complete_runs(self) -> tuple[int, float]:
        """Return the number of runs that have ended, and the time at which they were counted (monotonic seconds)."""
        return self.count("reflex", "run_complete"), time.monotonic()


def first_run_start(db: Path, timeout: float = 30.0) -> float:
    """Wait until a log, which may not exist yet, has its first run_start; return the time (monotonic seconds)."""
    deadline = time.monotonic() + timeout
    sql = "SELECT 1 FROM logs WHERE source = 'reflex' AND type = 'run_start' LIMIT 1"
    while time.monotonic() < deadline:
        try:
            with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=10)) as connection:
                if connection.execute(sql).fetchone():
                    return time.monotonic()
        except sqlite3.OperationalError:  # there is no file yet, or no table in it
            pause(LOOK_SECONDS)
            continue
        pause(LOOK_SECONDS)
    raise TimeoutError(f"no run has started within {timeout:g} s")


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time of these processes so far in seconds, with a resolution of ns on Linux."""
    return sum(_cpu_seconds(process) for process in processes)


def wakeups(processes: list[psutil.Process]) -> int:
    """Return how often the threads of these processes have been woken up so far."""
    return sum(_switches(process) for process in processes)


def titled(engine: Engine, title: str) -> list[psutil.Process]:
    """Return the engine's processes with this title."""
    return [process for process in engine.processes() if " ".join(process.cmdline()).strip() == f"nerve: {title}"]


def peak_rss_mb(process: psutil.Process) -> float:
    """Return the peak memory (RSS) of a process so far; 0 if it has ended."""
    status = Path(f"/proc/{process.pid}/status")
    try:
        lines = status.read_text().splitlines() if status.exists() else [f"VmHWM: {process.memory_info().rss // 1024}"]
    except (OSError, psutil.Error):  # it has ended just now
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def _cpu_seconds(process: psutil.Process) -> float:
    threads = list(Path(f"/proc/{process.pid}/task").glob("*/schedstat"))
    if threads:
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)


def _switches(process: psutil.Process) -> int:
    threads = list(Path(f"/proc/{process.pid}/task").glob("*/status"))
    if not threads:
        return int(process.num_ctx_switches().voluntary)
    lines = (line for thread in threads for line in thread.read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
