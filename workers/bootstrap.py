"""The first steps of every child: signals, descriptors, its lifeline, crash traces, title and diagnostics."""

from __future__ import annotations

import ctypes
import faulthandler
import fcntl
import os
import select
import signal
import sys
import termios
import threading
from contextlib import suppress

from setproctitle import setproctitle

from nerve.eventqueue import Lane
from nerve.ipc.channel import Channel
from nerve.processes import log_relay
from nerve.processes.child import ChildContext
from nerve.processes.messages import ToChild
from nerve.processes.signals import leave_signals_to_the_kernel

PR_SET_PDEATHSIG = 1


def enter(context: ChildContext) -> Channel[ToChild]:
    """Set up a freshly forked process as the child that `context` describes; return its link to the kernel (child).

    The link is also its lifeline: the end of the stream means that the kernel is gone.
    """
    leave_signals_to_the_kernel()
    if not context.role.outlives_kernel:
        _die_with(context.kernel_pid, context.link.fileno())
    boot = context.boot
    keep = {context.link.fileno(), context.crash, boot.records} | context.role.inherits(boot)
    if context.prefetched is not None:
        keep.add(context.prefetched)
    if context.wakeup is not None:
        keep |= {context.wakeup.reading, context.wakeup.writing}
    _close_descriptors_except(keep)
    _read_nothing()
    arm_crash_traces(context.crash)
    setproctitle(f"nerve: {context.role.name}")
    log_relay.install(context.boot.relay)
    return Channel(context.link, ToChild)


def lane_of(context: ChildContext) -> Lane:
    """Open the lane that a child was forked with."""
    if context.lane is None or context.wakeup is None:
        raise TypeError(f"a {context.role.name} has no lane")
    return Lane(context.lane, context.wakeup)


def _die_with(kernel_pid: int, link: int) -> None:
    """Make the system kill this process when the kernel dies, even while C code prevents every thread from running.

    Where the system can't do that, a thread waits for the end of the link; what this process has logged is in its lane.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_await_hang_up, args=(link,), name="nerve-lifeline", daemon=True).start()
    if os.getppid() != kernel_pid:
        os._exit(1)  # it died before this process could ask for that


def arm_crash_traces(crash: int) -> None:
    """Write the stack to the descriptor `crash` if this process crashes, and on SIGUSR2; may be called again."""
    faulthandler.disable()
    faulthandler.enable(file=crash)
    faulthandler.unregister(signal.SIGUSR2)
    faulthandler.register(signal.SIGUSR2, file=crash, all_threads=False)


def _read_nothing() -> None:
    """Make standard input empty: nothing that a compute calls or starts may wait for the engine's terminal."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc]  # noqa: SIM115 - as Python opens it


def lead_group() -> None:
    """Make this process the leader of a process group, without a terminal (child).

    A compute that signals its own group reaches only what it has started; and the group can be killed with the worker.
    """
    os.setpgid(0, 0)
    with suppress(OSError):  # there is no terminal
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        try:
            fcntl.ioctl(terminal, termios.TIOCNOTTY)
        finally:
            os.close(terminal)


def _await_hang_up(link: int) -> None:
    poller = select.poll()
    poller.register(link, select.POLLHUP)
    poller.poll()
    os._exit(1)


def _close_descriptors_except(keep: set[int]) -> None:
    """Close inherited descriptors: a sibling's link that stays open here would hide the end of that sibling."""
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - iterdir makes a Path of each, after each fork
        descriptor = int(name)
        if descriptor > 2 and descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:
                continue  # the listing's own descriptor, which is closed already
