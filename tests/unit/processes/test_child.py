"""Children: forked for real, heard, signalled and reaped; and how long to wait before one is started again."""

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
from hypothesis import given
from hypothesis import strategies as st
from support.children import enter
from support.waiting import wait_until

from nerve.ipc.channel import Channel
from nerve.ipc.sockets import socket_listening_at
from nerve.processes.child import Boot, Child, ChildContext, Role, describe_exit
from nerve.processes.messages import Finish, GetReport, Ready, ToChild
from nerve.processes.restart import (
    FAILED_STARTS_LIMIT,
    FIRST_DELAY_SECONDS,
    LONGEST_DELAY_SECONDS,
    PATIENT_DELAY_SECONDS,
    RECENT_SECONDS,
    restart_delay,
)

# Test runners may have threads; what is forked here touches none of their locks.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

NO_BOOT = cast(Boot, None)


def child_of(main: Callable[[ChildContext], Any]) -> Child:
    """Fork a child that runs `main`."""
    return Child(Role("probe", main), NO_BOOT, 12.5)


def end_of(child: Child) -> int:
    """Wait for a child's end, let go of it, and give its exit code."""
    wait_until(lambda: child.reap() is not None, "the child has ended")
    code = child.reap()
    child.close()
    assert code is not None
    return code


def stay(context: ChildContext) -> None:
    """Say that it is there, and stay until the tests are gone."""
    link = enter(context)
    link.send(Ready())
    while not link.ended:
        link.wait(None)


def started(main: Callable[[ChildContext], Any]) -> Child:
    """Fork a child, and wait until it has said that it is there."""
    child = child_of(main)
    assert child.link.wait(10) == [Ready()]
    return child


def abort() -> None:
    """Abort, without a word on the stderr of the tests."""
    faulthandler.disable()
    os.abort()


def descriptors() -> set[str]:
    """Name the descriptors that this process has open."""
    return {path.name for path in Path("/dev/fd").iterdir()}


# Forking.


def test_a_child_and_the_kernel_exchange_messages() -> None:
    """What one sends the other receives, as types; the child knows who it is and whose."""

    def main(context: ChildContext) -> None:
        link = enter(context)
        assert (context.role.name, context.kernel_pid) == ("probe", os.getppid())
        link.send(Ready())
        assert link.wait(10) == [GetReport()]
        link.send(Ready())
        assert link.wait(10) == [Finish()]

    child = started(main)
    assert (child.role.name, child.started, child.ready) == ("probe", 12.5, False)
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
def test_every_kind_of_end_has_its_code(ending: Callable[[ChildContext], Any], code: int) -> None:
    """An exit code, or minus the signal; the link tells of the end as well."""
    child = child_of(ending)
    child.link.wait(10)
    assert child.link.ended
    assert end_of(child) == code


def test_nothing_is_left_of_a_child() -> None:
    """Its descriptors are all given back."""
    before = descriptors()
    for _ in range(3):
        end_of(child_of(lambda _context: None))
    assert descriptors() == before


def test_a_child_that_lives_is_not_reaped_and_that_never_blocks() -> None:
    """Only after its end is there a code, which stays the same."""
    child = started(stay)
    assert child.reap() is None
    child.kill()
    assert child.reap() == child.reap() == -signal.SIGKILL
    assert end_of(child) == -signal.SIGKILL


def test_killing_may_be_done_twice_and_after_the_end() -> None:
    """It returns when the child is gone."""
    child = child_of(lambda _context: None)
    child.kill()
    child.kill()
    assert end_of(child) in {0, -signal.SIGKILL}


def test_a_signal_reaches_the_child_and_never_its_number_s_next_owner() -> None:
    """Once the child is reaped, its pid may be anybody's."""
    child = started(stay)
    child.signal(signal.SIGUSR1)
    wait_until(lambda: child.reap() is not None, "it has ended")
    child.signal(signal.SIGUSR1)
    assert end_of(child) == -signal.SIGUSR1


def test_a_wait_for_the_end_is_bounded_whatever_the_child_has_closed() -> None:
    """A child closes what it inherited, also what multiprocessing would tell its end by."""
    child = started(stay)
    begun = time.monotonic()
    child.join(0.05)
    assert 0.05 <= time.monotonic() - begun < 5
    assert child.reap() is None
    child.kill()
    assert end_of(child) == -signal.SIGKILL


def test_a_wait_for_the_end_is_over_with_the_end() -> None:
    """It doesn't use up its time, nor does it when the child is gone already."""

    def main(context: ChildContext) -> None:
        enter(context).wait(10)

    child = child_of(main)
    child.send(Finish())
    begun = time.monotonic()
    child.join(30)
    child.join(30)
    assert time.monotonic() - begun < 15
    assert end_of(child) == 0


def test_a_child_can_be_asked_where_it_hangs() -> None:
    """The stack that it writes on SIGUSR2 is read once, and reading never blocks, nor does it after the end."""

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


def test_a_crash_leaves_its_trace_behind() -> None:
    """A signal that kills, in C code or by hand, is told with the Python stack."""

    def crash_here() -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def main(context: ChildContext) -> None:
        faulthandler.enable(file=context.crash)
        crash_here()

    child = child_of(main)
    wait_until(lambda: child.reap() is not None, "it has crashed")
    assert "in crash_here" in (child.crash_trace() or "")
    assert end_of(child) == -signal.SIGSEGV


def test_a_child_that_writes_too_much_of_a_trace_neither_blocks_nor_floods() -> None:
    """What doesn't fit into the pipe is lost; what is read is bounded, and valid text."""

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


def test_signals_around_the_fork_are_the_kernel_s() -> None:
    """A child is born with them blocked, until it handles them itself; the kernel's mask is as ever."""

    def main(context: ChildContext) -> None:
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    child = child_of(main)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert end_of(child) == 0


def test_siblings_hang_up_is_seen_by_the_kernel_at_once() -> None:
    """The kernel keeps no copy of a child's own end."""
    child = started(stay)
    child.kill()
    assert select.select([child.link], [], [], 10)[0]
    assert child.link.receive() == []
    assert child.link.ended
    end_of(child)


@pytest.mark.parametrize("prefetches", [False, True])
def test_a_fork_that_fails_is_an_os_error(monkeypatch: pytest.MonkeyPatch, *, prefetches: bool) -> None:
    """The caller decides what then; the link and all pipes are closed again, and signals flow."""
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
        Child(Role("probe", lambda _context: None, prefetches=prefetches), NO_BOOT, 12.5)
    for left in opened[2:]:  # multiprocessing leaves its own open
        os.close(left)
    assert descriptors() == at_first
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


# Descriptions and decisions.


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
    """Signals have names, where they have any."""
    assert describe_exit(code) == words


def test_the_first_death_restarts_at_once() -> None:
    """One accident is no pattern, nor are two that lie far apart."""
    assert restart_delay([100.0], 0, 100.0) == 0.0
    assert restart_delay([100.0, 100.0 + RECENT_SECONDS + 1], 0, 100.0 + RECENT_SECONDS + 1) == 0.0
    assert restart_delay([], 0, 5.0) == 0.0


def test_each_further_death_doubles_the_delay_up_to_the_longest() -> None:
    """It starts small, and never grows past its cap."""
    delays = [restart_delay([7.0] * deaths, 0, 7.0) for deaths in range(1, 40)]
    assert delays[:4] == [0.0, FIRST_DELAY_SECONDS, 2 * FIRST_DELAY_SECONDS, 4 * FIRST_DELAY_SECONDS]
    assert delays[-1] == LONGEST_DELAY_SECONDS


def test_what_can_wait_is_soon_restarted_once_a_minute() -> None:
    """One that dies at each start, all day long, does so no more than that; the first times are as quick as ever."""
    now, deaths = 0.0, list[float]()
    while now < 86_400:
        deaths = [*deaths[-50:], now]
        delay = restart_delay(deaths, 0, now, PATIENT_DELAY_SECONDS)
        assert delay is not None
        now += delay
    assert deaths[-1] - deaths[-2] == PATIENT_DELAY_SECONDS
    assert restart_delay([now] * 4, 0, now, PATIENT_DELAY_SECONDS) == 4 * FIRST_DELAY_SECONDS


def test_deaths_are_forgotten_after_a_while() -> None:
    """Only what happened recently counts, to the second."""
    deaths = [0.0, 0.0, 0.0, 5.0]
    assert restart_delay(deaths, 0, RECENT_SECONDS) == 4 * FIRST_DELAY_SECONDS
    assert restart_delay(deaths, 0, RECENT_SECONDS + 0.001) == 0.0


def test_it_gives_up_only_on_what_never_gets_to_serve() -> None:
    """Any number of deaths is restarted; starts that fail in a row are not."""
    assert restart_delay([1.0] * 1000, 0, 1.0) is not None
    assert restart_delay([1.0], FAILED_STARTS_LIMIT - 1, 1.0) is not None
    assert restart_delay([1.0], FAILED_STARTS_LIMIT, 1.0) is None
    assert restart_delay([], FAILED_STARTS_LIMIT + 1, 1.0) is None


@given(
    deaths=st.lists(st.floats(0, 100), max_size=60),
    more=st.lists(st.floats(0, 100), max_size=5),
    failed=st.integers(0, FAILED_STARTS_LIMIT - 1),
    now=st.floats(100, 120),
)
def test_a_delay_is_bounded_and_never_shrinks_with_more_deaths(
    deaths: list[float], more: list[float], failed: int, now: float
) -> None:
    """Whatever the history, the wait is short enough for a person."""
    delay, longer = restart_delay(deaths, failed, now), restart_delay(deaths + more, failed, now)
    assert delay is not None
    assert longer is not None
    assert 0.0 <= delay <= longer <= LONGEST_DELAY_SECONDS


def test_a_socket_is_its_owner_s_alone_and_replaces_a_dead_one(tmp_path: Any) -> None:
    """What a crash has left is in nobody's way."""
    path = tmp_path / "events.sock"
    socket_listening_at(path).close()
    listener = socket_listening_at(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert listener.gettimeout() == 0
    listener.close()
