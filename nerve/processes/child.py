"""A child process: forking it, talking to it and seeing it end; the kernel's side."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from nerve.eventqueue import Wakeup
from nerve.ipc.channel import Channel
from nerve.processes.log_relay import RelayHandler
from nerve.processes.messages import FromChild, ToChild
from nerve.processes.prefetch import PREFETCHING, Prefetch
from nerve.processes.programs import end_group, end_programs
from nerve.processes.signals import held_back
from nerve.reload.revision import Revision
from nerve.workspace import Workspace

CRASH_BYTES = 16 * 1024
"""How much of a crash trace is read."""

JOIN_CHECK_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Boot:
    """What every child of one boot inherits through its fork; `revision` is the one that was active then."""

    workspace: Workspace
    boot_id: str
    revision: Revision
    listener: socket.socket
    lock: int
    relay: RelayHandler

    @property
    def records(self) -> int:
        """The descriptor that every child sends its log records to."""
        return self.relay.records.sending


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of child; `main` runs on the child's side of the fork.

    A child that `outlives_kernel` finishes its work when the kernel is gone; the others die with it. `inherits` returns
    the descriptors of the boot that the child needs; it closes all others. A child that `prefetches` can be sent runs
    while it is busy. One that `has_lane` logs events of its own. One that `leads_group` is the leader of a process
    group, which is killed with it.
    """

    name: str
    main: Callable[[ChildContext], None]
    outlives_kernel: bool = False
    inherits: Callable[[Boot], set[int]] = field(default=lambda _boot: set())
    prefetches: bool = False
    has_lane: bool = False
    leads_group: bool = False


@dataclass(frozen=True, slots=True)
class ChildContext:
    """What one child is passed through its fork: its role, its end of the link, and where a crash writes its trace.

    `prefetched` is the descriptor that it reads prefetched runs from; None if it does not, or the system can't. `lane`
    is the file of its lane, for a role that has one, and `wakeup` wakes the writer.
    """

    role: Role
    boot: Boot
    link: socket.socket
    crash: int
    kernel_pid: int
    prefetched: int | None = None
    lane: Path | None = None
    wakeup: Wakeup | None = None


class Child:
    """One child process, seen from the kernel."""

    def __init__(self, role: Role, boot: Boot, *, lane: Path | None = None, wakeup: Wakeup | None = None) -> None:
        """Fork the child; raises OSError if the system has no room for it."""
        with ExitStack() as undo, ExitStack() as handed_over:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            handed_over.callback(theirs.close)
            crash_in, crash_out = os.pipe()
            undo.callback(os.close, crash_in)
            handed_over.callback(os.close, crash_out)
            for end in (crash_in, crash_out):
                os.set_blocking(end, False)
            self.prefetch = Prefetch() if role.prefetches and PREFETCHING else None
            if self.prefetch:
                undo.callback(self.prefetch.close)
            prefetched = self.prefetch.theirs if self.prefetch else None
            context = ChildContext(role, boot, theirs, crash_out, os.getpid(), prefetched, lane, wakeup)
            fork = multiprocessing.get_context("fork")
            self._process = fork.Process(target=role.main, args=(context,), name=role.name)
            with held_back():
                self._process.start()
            undo.pop_all()
        self.role = role
        self.pid = self._process.pid or 0
        self.link: Channel[FromChild] = Channel(ours, FromChild)
        self.ready = False
        """It has sent Ready."""
        self.failure: str | None = None
        """Why it failed, if it said so or sent something invalid."""
        self._crash = crash_in
        self._on_close: Callable[[], None] = lambda: None

    def send(self, message: ToChild) -> None:
        """Send a message; the part that the link has no room for is sent when it is writable."""
        self.link.send(message)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the child has been reaped: then its pid may be another process's."""
        if self._process.exitcode is None:
            if number == signal.SIGKILL and self.role.leads_group:
                end_programs(self.pid)
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it and wait until it has ended. May be called twice, or after its end."""
        self.signal(signal.SIGKILL)
        self._process.join()
        self._end_group()

    def join(self, timeout: float) -> None:
        """Wait until it has ended, at most `timeout` seconds."""
        # Process.join relies on a descriptor that the child closes with all others it inherited, and would block.
        deadline = time.monotonic() + timeout
        while self.reap() is None and time.monotonic() < deadline:
            time.sleep(JOIN_CHECK_SECONDS)

    def reap(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it lives; never blocks."""
        return self._process.exitcode

    def crash_trace(self) -> str | None:
        """Return the Python stack that the child wrote when it crashed, or on SIGUSR2; None if there is none."""
        try:
            trace = os.read(self._crash, CRASH_BYTES)
        except BlockingIOError:
            return None
        return trace.decode(errors="replace").strip() or None

    def on_close(self, act: Callable[[], None]) -> None:
        """Call `act` once the child has been reaped and closed."""
        self._on_close = act

    def close(self) -> None:
        """Close the descriptors of a reaped child; kill what it has left in its process group."""
        self._end_group()
        self.link.close()
        if self.prefetch:
            self.prefetch.close()
        os.close(self._crash)
        self._process.close()
        self._on_close()

    def _end_group(self) -> None:
        if self.role.leads_group:
            end_group(self.pid)


def describe_exit(code: int) -> str:
    """Return how a process ended in words: `exit code 3`, or `killed by SIGSEGV`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
