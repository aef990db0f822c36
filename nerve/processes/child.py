"""Children: forking one, talking to it, seeing it end, and deciding when to start it again; the kernel's side."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from nerve.ipc.channel import Channel
from nerve.processes.log_relay import RelayHandler
from nerve.processes.messages import FromChild, ToChild
from nerve.processes.prefetch import PREFETCHING, Prefetch
from nerve.processes.programs import end_group, end_programs
from nerve.processes.signals import held_back
from nerve.reload.revision import Revision
from nerve.workspace import Workspace

CRASH_BYTES = 16 * 1024
JOIN_CHECK_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Boot:
    """What every child of one boot knows, as it was at its fork: it inherits this."""

    workspace: Workspace
    boot_id: str
    revision: Revision
    listener: socket.socket
    lock: int
    relay: RelayHandler

    @property
    def records(self) -> int:
        """The descriptor through which every child sends its diagnostics."""
        return self.relay.records.sending


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of child: `main` is what runs on its side of the fork.

    `outlives_kernel` is for those that finish their work by themselves when the kernel is gone; the others die with it.
    `inherits` names the descriptors of the boot that it needs; all others are closed on its side.
    `prefetches`: while it is busy, it can be handed what it is to do next. One that `leads_group` is the leader of a
    process group, which is killed with it.
    """

    name: str
    main: Callable[[ChildContext], None]
    outlives_kernel: bool = False
    inherits: Callable[[Boot], set[int]] = field(default=lambda _boot: set())
    prefetches: bool = False
    leads_group: bool = False


@dataclass(frozen=True, slots=True)
class ChildContext:
    """What one child is handed through the fork: who it is, its end of the link, and where a crash writes its trace.

    `prefetched` has what it is to do next, for a role that prefetches, on a system that can do it.
    """

    role: Role
    boot: Boot
    link: socket.socket
    crash: int
    kernel_pid: int
    prefetched: int | None = None


class Child:
    """One running child, seen from the kernel."""

    def __init__(self, role: Role, boot: Boot, now: float) -> None:
        """Fork the child; `now` is the monotonic second of its start. OSError when the system can't fork."""
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
            context = ChildContext(role, boot, theirs, crash_out, os.getpid(), prefetched)
            fork = multiprocessing.get_context("fork")
            self._process = fork.Process(target=role.main, args=(context,), name=role.name)
            with held_back():
                self._process.start()
            undo.pop_all()
        self.role = role
        self.started = now
        self.pid = self._process.pid or 0
        self.link: Channel[FromChild] = Channel(ours, FromChild)
        self.ready = False
        """It has said that it serves."""
        self.failure: str | None = None
        """Why it says that it can't serve."""
        self._crash = crash_in

    def send(self, message: ToChild) -> None:
        """Send a message; what has no room yet is sent when the link is writable."""
        self.link.send(message)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the child has already been reaped."""
        if self._process.exitcode is None:
            if number == signal.SIGKILL and self.role.leads_group:
                end_programs(self.pid)
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it and wait for its end; it may have ended already."""
        self.signal(signal.SIGKILL)
        self._process.join()
        self._end_group()

    def join(self, timeout: float) -> None:
        """Wait for its end, at most `timeout` seconds."""
        # Process.join trusts a descriptor that the child has closed along with all it inherited, and then blocks.
        deadline = time.monotonic() + timeout
        while self.reap() is None and time.monotonic() < deadline:
            time.sleep(JOIN_CHECK_SECONDS)

    def reap(self) -> int | None:
        """Tell the exit code, negative for a signal, or None while it lives; never blocks."""
        return self._process.exitcode

    def crash_trace(self) -> str | None:
        """Give the Python traceback that the child wrote when it crashed, or when it was asked where it hangs."""
        try:
            trace = os.read(self._crash, CRASH_BYTES)
        except BlockingIOError:
            return None
        return trace.decode(errors="replace").strip() or None

    def close(self) -> None:
        """Let go of a reaped child's descriptors; kill what it has left in its process group."""
        self._end_group()
        self.link.close()
        if self.prefetch:
            self.prefetch.close()
        os.close(self._crash)
        self._process.close()

    def _end_group(self) -> None:
        if self.role.leads_group:
            end_group(self.pid)


def describe_exit(code: int) -> str:
    """Say how a process has ended: `exit code 3`, or `killed by SIGSEGV`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
