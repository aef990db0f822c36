"""The lock that lets one engine run in a workspace."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from typing import Self

import psutil

from nerve.clock import Clock
from nerve.errors import AlreadyRunningError, WorkspaceError
from nerve.units import format_duration
from nerve.workspace import Workspace

_POLL_SECONDS = 0.02


class WorkspaceLock:
    """The lock that lets only one engine run in a workspace; a context manager that releases it.

    It belongs to the open file, which a fork shares: it lasts until the kernel, and every child that keeps the file
    open, has closed it or has ended in any way.
    """

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @classmethod
    def acquire(
        cls, workspace: Workspace, *, wait: float, clock: Clock, sleep: Callable[[float], None] = time.sleep
    ) -> WorkspaceLock:
        """Take the lock and write this process's pid into its file; the workspace must be prepared.

        Raises AlreadyRunningError at once if an engine is running. If its kernel has ended, but other processes of it
        have not, waits for them up to `wait` seconds and then raises it. Raises WorkspaceError if the lock's file can't
        be used.
        """
        try:
            fd = os.open(workspace.lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise WorkspaceError(f"can't open {workspace.lock_path}: {error.strerror}") from None
        try:
            _await_lock(fd, wait, clock, sleep)
            _sign(fd)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd)

    def fileno(self) -> int:
        """Return the descriptor of the lock's file, which a child closes that must not keep the lock.

        Raises ValueError once the lock is released.
        """
        if self._fd is None:
            raise ValueError("the lock has been released")
        return self._fd

    def release(self) -> None:
        """Close the lock's file in this process; may be called twice. Children that have it open keep the lock."""
        if self._fd is not None:
            # Closed, not unlocked: unlocking would take the lock from the children, too.
            os.close(self._fd)
            self._fd = None


def _await_lock(fd: int, wait: float, clock: Clock, sleep: Callable[[float], None]) -> None:
    deadline = clock.now() + wait
    while not _try_lock(fd, fcntl.LOCK_EX):
        if _try_lock(fd, fcntl.LOCK_SH):  # no engine: another process is just checking
            fcntl.flock(fd, fcntl.LOCK_UN)
        else:
            pid = _read_pid(fd)
            if pid is not None and _is_alive(pid):
                step = "see `nerve status`, or stop it with `nerve stop`"
                raise AlreadyRunningError(f"an engine is already running here (pid {pid}): {step}")
            if clock.now() >= deadline:
                waited = f"waited {format_duration(wait)}"
                step = "try again in a moment, or look for processes titled `nerve:`"
                raise AlreadyRunningError(f"processes of an earlier engine are still running here ({waited}): {step}")
        sleep(_POLL_SECONDS)


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        step = "move the workspace to a file system that supports locks"
        raise WorkspaceError(f"can't lock data/run/lock: {error.strerror}; {step}") from None
    return True


def _sign(fd: int) -> None:
    signature = f"{os.getpid()}\n".encode()
    try:
        os.pwrite(fd, signature, 0)  # overwritten, so that no reader finds the file empty
        os.ftruncate(fd, len(signature))
    except OSError as error:
        step = "free some space, or check the disk"
        raise WorkspaceError(f"can't write data/run/lock: {error.strerror}; {step}") from None


def _read_pid(fd: int) -> int | None:
    digits = os.pread(fd, 32, 0).partition(b"\n")[0]
    return int(digits) if digits.isdigit() and len(digits) <= 10 and int(digits) > 0 else None


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
