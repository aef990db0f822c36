"""The workspace's lock, held and left behind by real processes; time passes only where a test says so."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from nerve.clock import Stamp
from nerve.errors import AlreadyRunningError, WorkspaceError
from nerve.lock import WorkspaceLock, holder_pid
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


class SteppingClock:
    """A clock that only sleeping moves, and that calls `at_sleep` whenever someone sleeps."""

    def __init__(self, at_sleep: Callable[[], object] = lambda: None) -> None:
        self.seconds = 0.0
        self.at_sleep = at_sleep

    def now(self) -> float:
        """The seconds slept so far."""
        return self.seconds

    def stamp(self) -> Stamp:
        """The same as a moment."""
        return Stamp(round(self.seconds * 1e3), round(self.seconds * 1e9))

    def sleep(self, seconds: float) -> None:
        """Let the time pass."""
        self.seconds += seconds
        self.at_sleep()


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A workspace in which the lock's folder has been made."""
    ws = Workspace(tmp_path)
    ws.lock_path.parent.mkdir(parents=True)
    return ws


@pytest.fixture
def engine(ws: Workspace) -> Iterator[Engine]:
    """Start a process that takes the lock; it, and what it leaves behind, end when its input is closed."""
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
    """Close the input of a process, and wait until it, and what it left behind, has closed its output."""
    process.communicate(timeout=10)


def until_zombie(pid: int) -> None:
    """Wait until a process has ended; it is not reaped."""
    deadline = time.monotonic() + 10
    while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} has not ended"
        time.sleep(0.001)


def acquire(ws: Workspace, clock: SteppingClock | None = None, wait: float = 1.0) -> WorkspaceLock:
    """Take the lock, by a clock of the test's own."""
    clock = clock or SteppingClock()
    return WorkspaceLock.acquire(ws, wait=wait, clock=clock, sleep=clock.sleep)


def test_the_lock_is_signed_and_private(ws: Workspace) -> None:
    """While it is held everyone can tell by whom; before and afterwards nobody holds it."""
    assert holder_pid(ws) is None
    lock = acquire(ws)
    assert holder_pid(ws) == os.getpid()
    assert ws.lock_path.stat().st_mode & 0o777 == 0o600
    lock.release()
    assert holder_pid(ws) is None


def test_as_a_context_manager_the_lock_ends_with_its_block(ws: Workspace) -> None:
    """It is held inside, and released at the end, even by an exception."""

    def fail_inside() -> None:
        with acquire(ws):
            assert holder_pid(ws) == os.getpid()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_inside()
    assert holder_pid(ws) is None


def test_release_may_be_called_twice(ws: Workspace) -> None:
    """The second release does nothing, not even to a file that took over the number of the first."""
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


def test_a_second_engine_is_refused_at_once(ws: Workspace, engine: Engine) -> None:
    """A living engine is named with its pid and what can be done; nobody waits."""
    running = engine("holds")
    clock = SteppingClock()
    with pytest.raises(AlreadyRunningError) as refused:
        acquire(ws, clock)
    step = "see `nerve status`, or end it with `nerve stop`"
    assert str(refused.value) == f"nerve already runs here (pid {running.pid}): {step}"
    assert clock.seconds == 0
    assert holder_pid(ws) == running.pid


def test_an_engine_that_has_ended_leaves_the_place(ws: Workspace, engine: Engine) -> None:
    """After a normal end the next engine starts at once, and signs over a longer signature too."""
    close(engine("holds"))
    ws.lock_path.write_text("2147483647\n")
    assert holder_pid(ws) is None
    lock = acquire(ws, wait=0)
    assert ws.lock_path.read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_killed_engine_leaves_the_place(ws: Workspace, engine: Engine) -> None:
    """The lock of a process that was killed is gone with it."""
    killed = engine("holds")
    killed.kill()
    killed.wait(timeout=10)
    assert holder_pid(ws) is None
    acquire(ws, wait=0).release()


def test_the_last_child_of_a_dead_engine_is_waited_for(ws: Workspace, engine: Engine) -> None:
    """While a child still has the lock the start waits, and goes on as soon as the child has ended."""
    dead = engine("leaves a child")
    dead.wait(timeout=10)
    clock = SteppingClock(at_sleep=lambda: close(dead))
    lock = acquire(ws, clock, wait=5)
    assert 0 < clock.seconds < 1
    assert holder_pid(ws) == os.getpid()
    lock.release()


def test_a_child_that_does_not_finish_is_not_waited_for_forever(ws: Workspace, engine: Engine) -> None:
    """Past `wait` the refusal says that it is an earlier engine's end that takes so long."""
    dead = engine("leaves a child")
    dead.wait(timeout=10)
    clock = SteppingClock()
    with pytest.raises(AlreadyRunningError) as refused:
        acquire(ws, clock, wait=1.5)
    assert str(refused.value) == (
        "an earlier nerve has ended but is still finishing here (waited 1.5s): "
        "start again in a moment, or look for processes titled `nerve:`"
    )
    assert clock.seconds == pytest.approx(1.5, abs=0.1)
    assert holder_pid(ws) == dead.pid


def test_an_engine_that_nobody_has_reaped_counts_as_ended(ws: Workspace, engine: Engine) -> None:
    """A zombie has a pid, but it is its children that are waited for."""
    zombie = engine("leaves a child")
    until_zombie(zombie.pid)
    with pytest.raises(AlreadyRunningError, match="still finishing"):
        acquire(ws, wait=0)


def test_a_child_that_lets_go_does_not_take_the_lock_from_its_parent(ws: Workspace, engine: Engine) -> None:
    """Releasing closes one process's hold, and unlocks nothing."""
    parent = engine("child lets go")
    assert holder_pid(ws) == parent.pid


def test_whoever_only_asks_is_not_taken_for_an_engine(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that meets `nerve status` in the act tries again, though the file is signed by someone alive."""
    ws.lock_path.write_text(f"{os.getpid()}\n")
    probe = os.open(ws.lock_path, os.O_RDONLY)
    fcntl.flock(probe, fcntl.LOCK_SH)
    clock = SteppingClock(at_sleep=lambda: os.close(probe))
    lock = acquire(ws, clock, wait=0)
    assert clock.seconds > 0
    lock.release()


@pytest.mark.parametrize("content", [b"", b"rubbish\n", b"0\n", b"-5\n", b"9" * 40, b"\xff\xfe"])
def test_a_lock_without_a_readable_signature_is_waited_for(ws: Workspace, content: bytes) -> None:
    """Whatever is written in the file, the lock alone decides, and no pid is made up."""
    lock = acquire(ws)
    ws.lock_path.write_bytes(content)
    assert holder_pid(ws) is None
    with pytest.raises(AlreadyRunningError, match="still finishing"):
        acquire(ws, wait=0)
    lock.release()
    acquire(ws, wait=0).release()


def test_a_refused_start_leaves_no_file_open(ws: Workspace, engine: Engine) -> None:
    """A start that was refused holds nothing, so that the lock is free when its holder ends."""
    running = engine("holds")
    before = psutil.Process().num_fds()
    with pytest.raises(AlreadyRunningError):
        acquire(ws)
    assert psutil.Process().num_fds() == before
    close(running)
    assert holder_pid(ws) is None


def test_a_lock_file_that_can_not_be_used_is_told(tmp_path: Path) -> None:
    """Without a folder to put it in, or with a folder in its place, the lock names its file and the reason."""
    ws = Workspace(tmp_path)
    assert holder_pid(ws) is None
    with pytest.raises(WorkspaceError, match=r"can't open .*/data/run/lock: No such file or directory$"):
        acquire(ws)
    ws.lock_path.mkdir(parents=True)
    with pytest.raises(WorkspaceError, match=r"can't open .*/data/run/lock: Is a directory$"):
        acquire(ws)
