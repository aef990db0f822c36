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
    """The right to run an engine in a workspace: one at a time.

    The lock is on the open file, which a fork shares: it lasts until the kernel and every child that keeps
    the file open have closed it, or ended in whatever way. As a context manager it is released at the end.
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
        """Take the lock and sign it with this process's pid; the workspace must be prepared.

        Raises AlreadyRunningError at once where a living engine has it. Where that has ended but its last
        processes have not, waits for them, `wait` seconds at most, and then raises it too. Raises WorkspaceError
        where the lock's file can't be used.
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
        """The file that holds the lock: a child that is not to hold it closes it; ValueError once released."""
        if self._fd is None:
            raise ValueError("the lock has been released")
        return self._fd

    def release(self) -> None:
        """Close this process's hold; may be called twice. Children that keep theirs keep the lock."""
        if self._fd is not None:
            # Not unlocked: that would take the lock from the children too.
            os.close(self._fd)
            self._fd = None


def holder_pid(workspace: Workspace) -> int | None:
    """Give the pid that the lock is signed with, while anyone holds it; None when nobody does.

    The pid may be of a kernel that has ended, while the last of its children are finishing. None also in the
    instant between the very first taking of the lock and its signing.
    """
    try:
        fd = os.open(workspace.lock_path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise WorkspaceError(f"can't open {workspace.lock_path}: {error.strerror}") from None
    try:
        return None if _try_lock(fd, fcntl.LOCK_SH) else _read_pid(fd)
    finally:
        os.close(fd)


def _await_lock(fd: int, wait: float, clock: Clock, sleep: Callable[[float], None]) -> None:
    deadline = clock.now() + wait
    while not _try_lock(fd, fcntl.LOCK_EX):
        if _try_lock(fd, fcntl.LOCK_SH):  # nobody runs here, someone was just asking
            fcntl.flock(fd, fcntl.LOCK_UN)
        else:
            pid = _read_pid(fd)
            if pid is not None and _is_alive(pid):
                step = "see `nerve status`, or end it with `nerve stop`"
                raise AlreadyRunningError(f"nerve already runs here (pid {pid}): {step}")
            if clock.now() >= deadline:
                waited = f"waited {format_duration(wait)}"
                step = "start again in a moment, or look for processes titled `nerve:`"
                raise AlreadyRunningError(f"an earlier nerve has ended but is still finishing here ({waited}): {step}")
        sleep(_POLL_SECONDS)


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        step = "keep the workspace on a disk that has locks"
        raise WorkspaceError(f"can't lock data/run/lock: {error.strerror}; {step}") from None
    return True


def _sign(fd: int) -> None:
    signature = f"{os.getpid()}\n".encode()
    try:
        os.pwrite(fd, signature, 0)  # over the old one, so that no reader finds the file empty
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
