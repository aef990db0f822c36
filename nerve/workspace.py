"""The workspace: where everything is, and how it is found."""

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

    @property
    def code_dir(self) -> Path:
        """The folder of the code that ran, by its digest."""
        return self.data_dir / "code"

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

    @property
    def exists(self) -> bool:
        """There is a nerve.yaml; or there was one, for an engine has run here."""
        return self.config_path.is_file() or self.lock_path.exists()

    def prepare(self) -> None:
        """Make the folders that an engine needs; what is in data/ is for its owner only.

        Raises WorkspaceError where that can't be done, or where someone else holds the place of the sockets.
        """
        for name in ("", "run", "code", "senses", "archive", "archive/logs"):
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
    workspace = _workspace_at(folder.resolve())
    if not workspace.exists:
        step = f"make a workspace there with `nerve init {shlex.quote(str(folder))}`"
        raise WorkspaceError(f"no {CONFIG_NAME} in {folder}, which {named_by} names: {step}")
    return workspace


def _nearest_workspace(cwd: Path) -> Workspace:
    for folder in (cwd, *cwd.parents):
        if Workspace(folder).exists:
            return _workspace_at(folder)
    step = "make a workspace with `nerve init DIR`, or name one with --home DIR"
    raise WorkspaceError(f"no {CONFIG_NAME} in {cwd} or in any folder above it: {step}")


def _workspace_at(home: Path) -> Workspace:
    require_utf8(home)
    return Workspace(home)


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
