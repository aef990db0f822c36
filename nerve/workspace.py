"""The workspace: the paths of everything in it, and how it is found."""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nerve.errors import WorkspaceError

CONFIG_NAME = "nerve.yaml"

_LONGEST_SOCKET_PATH = 100  # bytes; Linux takes 107, macOS 103
_SHORT_BASE = Path("/tmp")  # not $TMPDIR, which may differ between two terminals, and is long on macOS


@dataclass(frozen=True, slots=True)
class Workspace:
    """The paths of a workspace; `home` is absolute and has no symlinks, so that all processes use the same paths."""

    home: Path

    @property
    def config_path(self) -> Path:
        """The configuration file, nerve.yaml."""
        return self.home / CONFIG_NAME

    @property
    def senses_dir(self) -> Path:
        """The folder with the senses' files."""
        return self.home / "senses"

    @property
    def data_dir(self) -> Path:
        """The folder that nerve writes to."""
        return self.home / "data"

    @property
    def logs_db(self) -> Path:
        """The database with the log."""
        return self.data_dir / "logs.db"

    @property
    def archive_dir(self) -> Path:
        """The folder with the archived part of the log."""
        return self.data_dir / "archive" / "logs"

    @property
    def code_dir(self) -> Path:
        """The folder of the code that ran, by its digest."""
        return self.data_dir / "code"

    def sense_db(self, name: str) -> Path:
        """Return the path of a sense's own database."""
        return self.data_dir / "senses" / f"{name}.db"

    @property
    def lock_path(self) -> Path:
        """The file that a running engine keeps locked."""
        return self.data_dir / "run" / "lock"

    @property
    def run_dir(self) -> Path:
        """The folder with the sockets: data/run, or a short path in /tmp if a socket's path would be too long.

        It depends on home and the user only, so that every process finds it, whatever its environment.
        """
        usual = self.data_dir / "run"
        if len(os.fsencode(usual / "control.sock")) <= _LONGEST_SOCKET_PATH:
            return usual
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()
        return _SHORT_BASE / f"nerve-{os.getuid()}" / digest[:16]

    @property
    def lanes_dir(self) -> Path:
        """The folder of the event queue's files: always on the file system of the log."""
        return self.data_dir / "run" / "lanes"

    @property
    def event_socket(self) -> Path:
        """The socket on which the writer accepts the archiver's orders."""
        return self.run_dir / "events.sock"

    @property
    def control_socket(self) -> Path:
        """The socket on which the kernel accepts commands."""
        return self.run_dir / "control.sock"

    @property
    def exists(self) -> bool:
        """True if there is a nerve.yaml, or there was one: an engine has run here."""
        return self.config_path.is_file() or self.lock_path.exists()

    def prepare(self) -> None:
        """Create the folders that an engine needs; only their owner can access data/.

        Raises WorkspaceError if that fails, or if the folder for the sockets belongs to someone else.
        """
        for name in ("", "run", "run/lanes", "code", "senses", "archive", "archive/logs"):
            _make_folder(self.data_dir / name)
        _make_private(self.data_dir)
        _make_private(self.lock_path.parent)
        if self.run_dir != self.lock_path.parent:
            _claim_folder(self.run_dir.parent)
            _claim_folder(self.run_dir)


def is_utf8(path: Path) -> bool:
    """Return True if a path is valid UTF-8, as nerve's messages and its log are; file systems allow any bytes."""
    return os.fsencode(path) == str(path).encode(errors="replace")


def require_utf8(home: Path) -> None:
    """Raise WorkspaceError unless a path is valid UTF-8."""
    if not is_utf8(home):
        raise WorkspaceError(f"the path {str(home)!a} is not valid UTF-8: rename the folder")


def find_workspace(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Workspace:
    """Return the workspace: `explicit`, or $NERVE_HOME, or the nearest folder from `cwd` upwards with a nerve.yaml.

    Raises WorkspaceError if there is none; its message says what to do.
    """
    from_environ = environ.get("NERVE_HOME")
    try:
        if explicit is not None:
            return _named_workspace(cwd / explicit, "--home")
        if from_environ:
            return _named_workspace(cwd / from_environ, "$NERVE_HOME")
        return _nearest_workspace(cwd.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # an unreadable folder, a symlink loop, a null byte
        raise WorkspaceError(f"can't look for a workspace: {error}; choose one with --home DIR") from None


def _named_workspace(folder: Path, named_by: str) -> Workspace:
    workspace = _workspace_at(folder.resolve())
    if not workspace.exists:
        step = f"create a workspace there with `nerve init {shlex.quote(str(folder))}`"
        raise WorkspaceError(f"no {CONFIG_NAME} in {folder} (from {named_by}): {step}")
    return workspace


def _nearest_workspace(cwd: Path) -> Workspace:
    for folder in (cwd, *cwd.parents):
        if Workspace(folder).exists:
            return _workspace_at(folder)
    step = "create a workspace with `nerve init DIR`, or choose one with --home DIR"
    raise WorkspaceError(f"no {CONFIG_NAME} in {cwd} or in any folder above it: {step}")


def _workspace_at(home: Path) -> Workspace:
    require_utf8(home)
    return Workspace(home)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        raise WorkspaceError(f"{folder} is not a folder, but nerve needs one there: move it elsewhere") from None
    except OSError as error:
        step = "make the folder above it writable, or use another workspace"
        raise WorkspaceError(f"can't create the folder {folder}: {error.strerror}; {step}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WorkspaceError(f"can't write to {folder}: make it writable, or use another workspace")


def _make_private(folder: Path) -> None:
    try:
        folder.chmod(0o700)
    except OSError as error:
        step = "run nerve as the owner of the workspace"
        raise WorkspaceError(f"can't make {folder} private: {error.strerror}; {step}") from None


def _claim_folder(folder: Path) -> None:
    try:
        status = folder.lstat()
    except FileNotFoundError:
        _make_folder(folder)
        status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        step = "remove it, or move the workspace to a shorter path"
        raise WorkspaceError(f"{folder} is needed for sockets, but is not a folder that belongs to this user: {step}")
    _make_private(folder)
