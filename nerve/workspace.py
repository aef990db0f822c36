"""The workspace: where everything is, how it is found, and the lock that lets one engine run in it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from nerve.clock import Clock
from nerve.errors import AlreadyRunningError, WorkspaceError
from nerve.units import format_duration

CONFIG_NAME = "nerve.yaml"

_LONGEST_SOCKET_PATH = 100  # bytes; Linux takes 107, macOS 103
_SHORT_BASE = Path("/tmp")  # not $TMPDIR, which may differ between two terminals, and is long on macOS
_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Workspace:
    """The places of one workspace; `home` is absolute and without symlinks, so that all processes agree on them."""

    home: Path

    @property
    def config_path(self) -> Path:
        """The configuration, nerve.yaml."""
        return self.home / CONFIG_NAME

    @property
    def senses_dir(self) -> Path:
        """The folder of the senses' files."""
        return self.home / "senses"

    @property
    def data_dir(self) -> Path:
        """The folder of all that nerve writes."""
        return self.home / "data"

    @property
    def logs_db(self) -> Path:
        """The log."""
        return self.data_dir / "logs.db"

    @property
    def archive_dir(self) -> Path:
        """The folder of the archived log."""
        return self.data_dir / "archive" / "logs"

    def sense_db(self, name: str) -> Path:
        """The database of the sense called `name`."""
        return self.data_dir / "senses" / f"{name}.db"

    @property
    def lock_path(self) -> Path:
        """The file that the running engine holds locked."""
        return self.data_dir / "run" / "lock"

    @property
    def run_dir(self) -> Path:
        """The folder of the sockets: data/run, or a short path in /tmp where home is too long for a socket's.

        It follows from home and the user alone, so that every process finds it, whatever its environment.
        """
        usual = self.data_dir / "run"
        if len(os.fsencode(usual / "control.sock")) <= _LONGEST_SOCKET_PATH:
            return usual
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()
        return _SHORT_BASE / f"nerve-{os.getuid()}" / digest[:16]

    @property
    def event_socket(self) -> Path:
        """Where producers connect to the writer."""
        return self.run_dir / "events.sock"

    @property
    def control_socket(self) -> Path:
        """Where the command line connects to the kernel."""
        return self.run_dir / "control.sock"

    def prepare(self) -> None:
        """Make the folders that an engine needs; new ones, and always that of the sockets, are for their owner only.

        Raises WorkspaceError where that can't be done, or where someone else holds the place of the sockets.
        """
        for name in ("", "run", "senses", "archive", "archive/logs"):
            _make_folder(self.data_dir / name)
        _make_private(self.lock_path.parent)
        if self.run_dir != self.lock_path.parent:
            _claim_folder(self.run_dir.parent)
            _claim_folder(self.run_dir)


def find_workspace(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Workspace:
    """Find the workspace: `explicit`, else $NERVE_HOME, else the nearest folder from `cwd` upwards with a nerve.yaml.

    Raises WorkspaceError, with the next step, where there is none.
    """
    from_environ = environ.get("NERVE_HOME")
    try:
        if explicit is not None:
            return _named_workspace(cwd / explicit, "--home")
        if from_environ:
            return _named_workspace(cwd / from_environ, "$NERVE_HOME")
        return _nearest_workspace(cwd.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # an unreadable folder, a loop of symlinks, a null byte
        raise WorkspaceError(f"can't look for a workspace: {error}; name one with --home DIR") from None


def _named_workspace(folder: Path, named_by: str) -> Workspace:
    workspace = Workspace(folder.resolve())
    if not workspace.config_path.is_file():
        step = f"make a workspace there with `nerve init {shlex.quote(str(folder))}`"
        raise WorkspaceError(f"no {CONFIG_NAME} in {folder}, which {named_by} names: {step}")
    return workspace


def _nearest_workspace(cwd: Path) -> Workspace:
    for folder in (cwd, *cwd.parents):
        workspace = Workspace(folder)
        if workspace.config_path.is_file():
            return workspace
    step = "make a workspace with `nerve init DIR`, or name one with --home DIR"
    raise WorkspaceError(f"no {CONFIG_NAME} in {cwd} or in any folder above it: {step}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        raise WorkspaceError(f"{folder} is in the way: it must be a folder; move it elsewhere") from None
    except OSError as error:
        step = "make its place writable, or use another workspace"
        raise WorkspaceError(f"can't make the folder {folder}: {error.strerror}; {step}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WorkspaceError(f"can't write into {folder}: make it writable, or use another workspace")


def _make_private(folder: Path) -> None:
    try:
        folder.chmod(0o700)
    except OSError as error:
        step = "start nerve as the owner of the workspace"
        raise WorkspaceError(f"can't make {folder} private: {error.strerror}; {step}") from None


def _claim_folder(folder: Path) -> None:
    try:
        status = folder.lstat()
    except FileNotFoundError:
        _make_folder(folder)
        status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        step = "remove it, or move the workspace to a shorter path"
        raise WorkspaceError(f"{folder} is needed for the sockets, and is not a folder of this user's own: {step}")
    _make_private(folder)


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
        sleep(_POLL)


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
        raise WorkspaceError(f"can't write data/run/lock: {error.strerror}") from None


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
