"""Child processes: forked for real, sent messages and signals, and reaped."""

from __future__ import annotations

import errno
import faulthandler
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from support.children import enter
from support.waiting import wait_until

from nerve.ipc.channel import Channel
from nerve.processes.child import Boot, Child, ChildContext, Role, describe_exit
from nerve.processes.messages import Finish, GetReport, Ready, ToChild

# Test runners may have threads; what is forked here touches none of their locks.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

NO_BOOT = cast(Boot, None)


def child_of(main: Callable[[ChildContext], Any]) -> Child:
    """Fork a child that runs `main`."""
    return Child(Role("probe", main), NO_BOOT)


def end_of(child: Child) -> int:
    """Wait for a child's end, close it, and return its exit code."""
    wait_until(lambda: child.reap() is not None, "the child has ended")
    code = child.reap()
    child.close()
    assert code is not None
    return code


def stay(context: ChildContext) -> None:
    """Send Ready, and stay until the tests are gone (child)."""
    link = enter(context)
    link.send(Ready())
    while not link.ended:
        link.wait(None)


def started(main: Callable[[ChildContext], Any]) -> Child:
    """Fork a child, and wait until it has sent Ready."""
    child = child_of(main)
    assert child.link.wait(10) == [Ready()]
    return child


def abort() -> None:
    """Abort, without output on the stderr of the tests."""
    faulthandler.disable()
    os.abort()


def descriptors() -> set[str]:
    """Return the names of the open descriptors of this process."""
    return {path.name for path in Path("/dev/fd").iterdir()}


# Forking.


def test_a_child_and_the_kernel_exchange_messages() -> None:
    """They arrive as typed messages; the child knows its role and its kernel."""

    def main(context: ChildContext) -> None:
        link = enter(context)
        assert (context.role.name, context.kernel_pid) == ("probe", os.getppid())
        link.send(Ready())
        assert link.wait(10) == [GetReport()]
        link.send(Ready())
        assert link.wait(10) == [Finish()]

    child = started(main)
    assert (child.role.name, child.ready) == ("probe", False)
    child.send(GetReport())
    assert child.link.wait(10) == [Ready()]
    child.send(Finish())
    assert end_of(child) == 0


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (lambda _context: None, 0),
        (lambda _context: sys.exit(3), 3),
        (lambda _context: os._exit(4), 4),
        (lambda _context: 1 // 0, 1),
        (lambda _context: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL),
        (lambda _context: abort(), -signal.SIGABRT),
    ],
    ids=["returns", "sys.exit", "os._exit", "raises", "killed", "aborts"],
)
def test_every_kind_of_end_has_its_exit_code(ending: Callable[[ChildContext], Any], code: int) -> None:
    """Or minus the number of the signal; the link ends, too."""
    child = child_of(ending)
    child.link.wait(10)
    assert child.link.ended
    assert end_of(child) == code


def test_a_closed_child_leaves_no_descriptors() -> None:
    """The kernel has as many as before the fork."""
    before = descriptors()
    for _ in range(3):
        end_of(child_of(lambda _context: None))
    assert descriptors() == before


def test_reaping_a_child_that_lives_does_not_block() -> None:
    """There is an exit code only after its end, and it stays the same."""
    child = started(stay)
    assert child.reap() is None
    child.kill()
    assert child.reap() == child.reap() == -signal.SIGKILL
    assert end_of(child) == -signal.SIGKILL


def test_a_child_may_be_killed_twice_and_after_its_end() -> None:
    """Killing returns when the child is gone."""
    child = child_of(lambda _context: None)
    child.kill()
    child.kill()
    assert end_of(child) in {0, -signal.SIGKILL}


def test_a_signal_is_sent_to_the_child_only_until_it_is_reaped() -> None:
    """Afterwards its pid may be another process's."""
    child = started(stay)
    child.signal(signal.SIGUSR1)
    wait_until(lambda: child.reap() is not None, "it has ended")
    child.signal(signal.SIGUSR1)
    assert end_of(child) == -signal.SIGUSR1


def test_join_returns_in_time_when_the_child_lives_on() -> None:
    """Also if the child has closed the descriptor by which multiprocessing notices its end."""
    child = started(stay)
    begun = time.monotonic()
    child.join(0.05)
    assert 0.05 <= time.monotonic() - begun < 5
    assert child.reap() is None
    child.kill()
    assert end_of(child) == -signal.SIGKILL


def test_join_returns_when_the_child_has_ended() -> None:
    """It does not use up its time, nor when it is called again."""

    def main(context: ChildContext) -> None:
        enter(context).wait(10)

    child = child_of(main)
    child.send(Finish())
    begun = time.monotonic()
    child.join(30)
    child.join(30)
    assert time.monotonic() - begun < 15
    assert end_of(child) == 0


def test_a_child_writes_its_stack_on_sigusr2() -> None:
    """It is read once; reading never blocks, also after the end."""

    def hang_here(link: Channel[ToChild]) -> None:
        link.send(Ready())
        while not link.ended:
            link.receive()

    def main(context: ChildContext) -> None:
        faulthandler.register(signal.SIGUSR2, file=context.crash, all_threads=False)
        hang_here(enter(context))

    child = started(main)
    assert child.crash_trace() is None
    child.signal(signal.SIGUSR2)
    traces: list[str] = []

    def written() -> bool:
        traces.append(child.crash_trace() or "")
        return "in hang_here" in "".join(traces)

    wait_until(written, "it has written its stack")
    child.kill()
    while child.crash_trace():
        pass
    end_of(child)


def test_a_child_that_crashes_writes_its_stack() -> None:
    """It shows where in Python the deadly signal came."""

    def crash_here() -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def main(context: ChildContext) -> None:
        faulthandler.enable(file=context.crash)
        crash_here()

    child = child_of(main)
    wait_until(lambda: child.reap() is not None, "it has crashed")
    assert "in crash_here" in (child.crash_trace() or "")
    assert end_of(child) == -signal.SIGSEGV


def test_a_trace_that_is_too_long_is_cut() -> None:
    """The child does not block; the trace that is read is bounded, and valid text."""

    def main(context: ChildContext) -> None:
        for _ in range(100):
            try:
                os.write(context.crash, b"\xff" * 4096)
            except BlockingIOError:
                break
        stay(context)

    child = started(main)
    trace = child.crash_trace() or ""
    assert 0 < len(trace) <= 16 * 1024
    child.kill()
    end_of(child)


def test_a_child_begins_with_the_kernel_s_signals_blocked() -> None:
    """It unblocks them when it ignores them; the kernel's own mask is the same as before the fork."""

    def main(context: ChildContext) -> None:
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    child = child_of(main)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert end_of(child) == 0


def test_the_kernel_sees_the_hang_up_of_a_dead_child_at_once() -> None:
    """It keeps no copy of the child's end of the link."""
    child = started(stay)
    child.kill()
    assert select.select([child.link], [], [], 10)[0]
    assert child.link.receive() == []
    assert child.link.ended
    end_of(child)


@pytest.mark.parametrize("prefetches", [False, True])
def test_a_fork_that_fails_is_an_os_error(monkeypatch: pytest.MonkeyPatch, *, prefetches: bool) -> None:
    """The link and all pipes are closed again, and the signal mask is restored."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    opened: list[int] = []
    pipe = os.pipe

    def counting_pipe() -> tuple[int, int]:
        ends = pipe()
        opened.extend(ends)
        return ends

    def no_fork() -> int:
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "pipe", counting_pipe)
    monkeypatch.setattr(os, "fork", no_fork)
    at_first = descriptors()
    with pytest.raises(OSError, match="no more processes"):
        Child(Role("probe", lambda _context: None, prefetches=prefetches), NO_BOOT)
    for left in opened[2:]:  # multiprocessing leaves its own open
        os.close(left)
    assert descriptors() == at_first
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


# Descriptions.


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-signal.SIGKILL, "killed by SIGKILL"),
        (-signal.SIGSEGV, "killed by SIGSEGV"),
        (-40, "killed by signal 40"),
        (-1000, "killed by signal 1000"),
    ],
)
def test_an_end_is_described_in_words(code: int, words: str) -> None:
    """A signal is named if it has a name."""
    assert describe_exit(code) == words
