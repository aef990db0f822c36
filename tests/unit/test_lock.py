"""The workspace's lock, held and left behind by real processes, with a fake clock."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.clock import FakeClock
from support.waiting import wait_until

from nerve.errors import AlreadyRunningError, WorkspaceError
from nerve.lock import WorkspaceLock
from nerve.workspace import Workspace

Engine = Callable[[str], subprocess.Popen[str]]

HOLDER = """
import os, sys
from pathlib import Path
from nerve.clock import SystemClock
from nerve.lock import WorkspaceLock
from nerve.workspace import Workspace

lock = WorkspaceLock.acquire(Workspace(Path(sys.argv[1])), wait=0, clock=SystemClock())
if sys.argv[2] == "leaves a child" and os.fork() > 0:
    os._exit(0)
if sys.argv[2] == "child lets go":
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A workspace with the folder of the lock."""
    ws = Workspace(tmp_path)
    ws.lock_path.parent.mkdir(parents=True)
    return ws


@pytest.fixture
def engine(ws: Workspace) -> Iterator[Engine]:
    """A function that starts a process that takes the lock; it and its child end when its input is closed."""
    started: list[subprocess.Popen[str]] = []

    def start(behaviour: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(ws.home), behaviour]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        close(process)


def close(process: subprocess.Popen[str]) -> None:
    """Close the input of a process, and wait until it and its child have closed their output."""
    process.communicate(timeout=10)


def holder_pid(ws: Workspace) -> int | None:
    """Return the pid in the lock's file if any process has the lock, and None if not."""
    with ws.lock_path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read())
        return None


def acquire(ws: Workspace, clock: FakeClock | None = None, wait: float = 1.0) -> WorkspaceLock:
    """Take the lock, waiting by a fake clock."""
    clock = clock or FakeClock(0.0)
    return WorkspaceLock.acquire(ws, wait=wait, clock=clock, sleep=clock.sleep)


def test_the_lock_file_has_the_holders_pid_and_is_private(ws: Workspace) -> None:
    """The lock is free again once it is released."""
    lock = acquire(ws)
    assert holder_pid(ws) == os.getpid()
    assert ws.lock_path.stat().st_mode & 0o777 == 0o600
    lock.release()
    assert holder_pid(ws) is None


def test_the_lock_is_released_at_the_end_of_its_block(ws: Workspace) -> None:
    """An exception that leaves the block releases it, too."""

    def fail_inside() -> None:
        with acquire(ws):
            assert holder_pid(ws) == os.getpid()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_inside()
    assert holder_pid(ws) is None


def test_a_second_release_does_nothing(ws: Workspace) -> None:
    """Another file that was opened meanwhile, and has the same descriptor, stays open."""
    lock = acquire(ws)
    fd = lock.fileno()
    lock.release()
    other = os.open(ws.home, os.O_RDONLY)
    try:
        assert other == fd
        lock.release()
        os.fstat(other)
        with pytest.raises(ValueError, match="released"):
            lock.fileno()
    finally:
        os.close(other)


def test_a_second_engine_fails_at_once(ws: Workspace, engine: Engine) -> None:
    """The message has the running engine's pid, and what to do; nothing is waited for."""
    running = engine("holds")
    clock = FakeClock(0.0)
    with pytest.raises(AlreadyRunningError) as refused:
        acquire(ws, clock)
    step = "see `nerve status`, or stop it with `nerve stop`"
    assert str(refused.value) == f"an engine is already running here (pid {running.pid}): {step}"
    assert clock.time == 0
    assert holder_pid(ws) == running.pid


def test_an_engine_can_start_after_another_has_ended(ws: Workspace, engine: Engine) -> None:
    """It does not wait, and replaces the pid in the file, also a longer one."""
    close(engine("holds"))
    ws.lock_path.write_text("2147483647\n")
    assert holder_pid(ws) is None
    lock = acquire(ws, wait=0)
    assert ws.lock_path.read_text() == f"{os.getpid()}\n"
    lock.release()


def test_an_engine_can_start_after_another_was_killed(ws: Workspace, engine: Engine) -> None:
    """The system releases the lock of a killed process."""
    killed = engine("holds")
    killed.kill()
    killed.wait(timeout=10)
    assert holder_pid(ws) is None
    acquire(ws, wait=0).release()


def test_a_start_waits_for_the_last_child_of_a_dead_engine(ws: Workspace, engine: Engine) -> None:
    """The start continues as soon as the child, which still has the lock, has ended."""
    dead = engine("leaves a child")
    dead.wait(timeout=10)
    clock = FakeClock(0.0, on_sleep=lambda: close(dead))
    lock = acquire(ws, clock, wait=5)
    assert 0 < clock.time < 1
    assert holder_pid(ws) == os.getpid()
    lock.release()


def test_a_start_fails_if_a_child_of_a_dead_engine_does_not_end(ws: Workspace, engine: Engine) -> None:
    """After `wait` seconds the message says that an earlier engine's processes are still running."""
    dead = engine("leaves a child")
    dead.wait(timeout=10)
    clock = FakeClock(0.0)
    with pytest.raises(AlreadyRunningError) as refused:
        acquire(ws, clock, wait=1.5)
    assert str(refused.value) == (
        "processes of an earlier engine are still running here (waited 1.5s): "
        "try again in a moment, or look for processes titled `nerve:`"
    )
    assert clock.time == pytest.approx(1.5, abs=0.1)
    assert holder_pid(ws) == dead.pid


def test_an_engine_that_is_a_zombie_counts_as_ended(ws: Workspace, engine: Engine) -> None:
    """Its pid still exists, but the start waits for its children."""
    zombie = engine("leaves a child")
    wait_until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE, f"process {zombie.pid} has ended")
    with pytest.raises(AlreadyRunningError, match="still running"):
        acquire(ws, wait=0)


def test_a_release_in_a_child_leaves_the_lock_to_its_parent(ws: Workspace, engine: Engine) -> None:
    """Releasing closes the file of one process, and does not unlock it."""
    parent = engine("child lets go")
    assert holder_pid(ws) == parent.pid


def test_a_process_that_only_checks_the_lock_is_not_taken_for_an_engine(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start tries again, even though the pid in the file is that of a living process."""
    ws.lock_path.write_text(f"{os.getpid()}\n")
    probe = os.open(ws.lock_path, os.O_RDONLY)
    fcntl.flock(probe, fcntl.LOCK_SH)
    clock = FakeClock(0.0, on_sleep=lambda: os.close(probe))
    lock = acquire(ws, clock, wait=0)
    assert clock.time > 0
    lock.release()


@pytest.mark.parametrize("content", [b"", b"rubbish\n", b"0\n", b"-5\n", b"9" * 40, b"\xff\xfe"])
def test_a_lock_whose_file_has_no_valid_pid_is_waited_for(ws: Workspace, content: bytes) -> None:
    """The lock alone decides, whatever is in the file."""
    lock = acquire(ws)
    ws.lock_path.write_bytes(content)
    with pytest.raises(AlreadyRunningError, match="still running"):
        acquire(ws, wait=0)
    lock.release()
    acquire(ws, wait=0).release()


def test_a_failed_start_leaves_no_file_open(ws: Workspace, engine: Engine) -> None:
    """So the lock is free when its holder ends."""
    running = engine("holds")
    before = psutil.Process().num_fds()
    with pytest.raises(AlreadyRunningError):
        acquire(ws)
    assert psutil.Process().num_fds() == before
    close(running)
    assert holder_pid(ws) is None


def test_a_lock_file_that_can_not_be_opened_is_an_error_with_its_path(tmp_path: Path) -> None:
    """The reason is in the message: its folder is missing, or a folder has its name."""
    ws = Workspace(tmp_path)
    with pytest.raises(WorkspaceError, match=r"can't open .*/data/run/lock: No such file or directory$"):
        acquire(ws)
    ws.lock_path.mkdir(parents=True)
    with pytest.raises(WorkspaceError, match=r"can't open .*/data/run/lock: Is a directory$"):
        acquire(ws)
