"""Programs that a worker has started: found by parent and by process group, and killed; the worker stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from support.waiting import wait_until

from nerve.processes import programs
from nerve.processes.programs import end_group, end_programs

WORKER = """
import functools, subprocess, sys
subprocess.Popen = functools.partial(subprocess.Popen, stdout=subprocess.DEVNULL)
for command in (["sleep", "1000"], ["sh", "-c", "sleep 1000 & sleep 1000"]):
    subprocess.Popen(command)
subprocess.Popen(["sleep", "1000"], start_new_session=True)
subprocess.run(["sh", "-c", "sleep 1000 &"])
print("started", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """A leader of a process group that has started six programs, one of which is an orphan."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert process.stdout
    assert process.stdout.readline() == "started\n"
    yield process
    end_programs(process.pid)
    process.kill()
    process.communicate()


def count_of(leader: int) -> int:
    """Return how many programs of a worker are running."""
    return len(programs._programs_of(leader))


@pytest.mark.parametrize("source", ["/proc", "psutil"])
def test_children_grandchildren_sessions_and_orphans_end(
    worker: subprocess.Popen[str], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker itself goes on."""
    if source == "psutil":
        monkeypatch.setattr(programs, "_processes", programs._from_psutil)
    wait_until(lambda: count_of(worker.pid) == 6, "all programs run")
    end_programs(worker.pid)
    wait_until(lambda: count_of(worker.pid) == 0, "they have ended")
    assert worker.poll() is None


def test_only_what_is_younger_than_the_run_ends(worker: subprocess.Popen[str]) -> None:
    """Programs that an earlier run has started go on."""
    wait_until(lambda: count_of(worker.pid) == 6, "all programs run")
    time.sleep(2 * programs.CLOCK_SECONDS)  # the system's clock has no finer ticks
    end_programs(worker.pid, younger_than=0.0)
    assert count_of(worker.pid) == 6
    end_programs(worker.pid, younger_than=60.0)
    wait_until(lambda: count_of(worker.pid) == 0, "they have ended")


def test_the_group_of_a_worker_that_has_ended_is_killed(worker: subprocess.Popen[str]) -> None:
    """A program in a session of its own stays, as it can't be found any more. A second time there is no group."""
    wait_until(lambda: count_of(worker.pid) == 6, "all programs run")
    started = programs._programs_of(worker.pid)
    worker.kill()
    worker.wait()
    end_group(worker.pid)
    wait_until(lambda: count_of(worker.pid) == 0, "they have ended")
    end_group(worker.pid)
    [survivor] = [process.pid for process in started if process.group != worker.pid]
    os.kill(survivor, signal.SIGKILL)


def test_killed_children_leave_no_zombies() -> None:
    """A worker that ends its programs waits for them, whoever forked them."""
    code = """
import os, subprocess
from nerve.processes.programs import end_programs
program = subprocess.Popen(["sleep", "1000"])
end_programs(os.getpid(), younger_than=60.0)
try:
    os.waitpid(program.pid, os.WNOHANG)
except ChildProcessError:
    print("collected")
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True, process_group=0) == "collected\n"
