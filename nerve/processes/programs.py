"""The programs that a worker's computes have started: how they are found, and ended with their run or their worker."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

SCANS = 5
"""How often the processes are listed at most: what is found may have started others meanwhile."""

CLOCK_SECONDS = 0.02
"""How exactly a process knows its start: two ticks of the system's clock."""

REAP_SECONDS = 0.2
"""How long a killed child is waited for, so that it does not stay as a zombie."""


class _Process(NamedTuple):
    """One process of the machine; `age` in seconds."""

    pid: int
    parent: int
    group: int
    age: float


def end_programs(leader: int, younger_than: float | None = None) -> None:
    """Kill what a worker has started, and what that has started in turn: its descendants, and its process group.

    The worker itself is not killed. With `younger_than`, in seconds, only what was started since then ends. A program
    that has a group of its own, and whose parent has ended, can't be found.
    """
    ended: set[int] = set()
    for _scan in range(SCANS):
        found = [
            process.pid
            for process in _programs_of(leader)
            if process.pid not in ended and (younger_than is None or process.age <= younger_than + CLOCK_SECONDS)
        ]
        if not found:
            break
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended.update(found)
    if leader == os.getpid():
        _reap(ended)


def end_group(leader: int) -> None:
    """Kill the process group of a worker that has ended: what its computes have left running."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _programs_of(leader: int) -> list[_Process]:
    processes = _processes()
    family = {leader}
    while more := {process.pid for process in processes if process.parent in family} - family:
        family |= more
    return [
        process for process in processes if process.pid != leader and (process.pid in family or process.group == leader)
    ]


def _processes() -> list[_Process]:
    """Return the processes of this machine that still run."""
    return _from_proc() if Path("/proc/self/stat").exists() else _from_psutil()


def _from_proc() -> list[_Process]:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - iterdir makes a Path of each
    return [process for pid in pids if (process := _read(pid, now))]


def _from_psutil() -> list[_Process]:
    now = time.time()
    processes = []
    for process in psutil.process_iter(["ppid", "create_time", "status"]):
        with suppress(ProcessLookupError, PermissionError):
            if process.info["status"] != psutil.STATUS_ZOMBIE:
                group = os.getpgid(process.pid)
                processes.append(_Process(process.pid, process.info["ppid"], group, now - process.info["create_time"]))
    return processes


def _read(pid: int, now: float) -> _Process | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:  # it has ended meanwhile
        return None
    state, parent, group, *rest = stat[stat.rindex(b")") + 2 :].split()
    if state in {b"Z", b"X"}:
        return None
    return _Process(pid, int(parent), int(group), now - int(rest[16]) / os.sysconf("SC_CLK_TCK"))


def _reap(pids: set[int]) -> None:
    """Collect the killed children of this process."""
    deadline = time.monotonic() + REAP_SECONDS
    for pid in pids:
        with suppress(ChildProcessError):  # its parent is another process
            while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
                time.sleep(0.001)
