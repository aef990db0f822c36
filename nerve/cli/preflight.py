"""Warnings before an engine starts: file systems and SQLite versions that put the log at risk. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

NETWORK_FILESYSTEMS = frozenset(
    {"9p", "afpfs", "afs", "ceph", "cifs", "davfs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
)
CHECKPOINT_DEFECT = ((3, 7, 0), (3, 51, 2))
"""First and last version of SQLite that can lose commits if one process checkpoints while another commits."""


class Mount(Protocol):
    """A mounted file system, as psutil describes it."""

    @property
    def mountpoint(self) -> str:
        """The folder at which it is mounted."""

    @property
    def fstype(self) -> str:
        """The type of the file system, such as ext4."""


def preflight_warnings(data: Path, mounts: Iterable[Mount], sqlite: tuple[int, ...]) -> list[str]:
    """Return a sentence for each risk to a log in the folder `data` (absolute) with this version of SQLite."""
    warnings = []
    filesystem = filesystem_of(data, mounts)
    if filesystem in NETWORK_FILESYSTEMS:
        warnings.append(
            f"{data} is on a network file system ({filesystem}), where SQLite's WAL mode is not reliable: "
            "move the workspace to a local disk"
        )
    if CHECKPOINT_DEFECT[0] <= sqlite <= CHECKPOINT_DEFECT[1]:
        version = ".".join(map(str, sqlite))
        warnings.append(
            f"SQLite {version} can lose commits if another program writes or checkpoints logs.db while nerve runs: "
            "open it read-only (sqlite3 -readonly), as nerve's own commands do"
        )
    return warnings


def filesystem_of(path: Path, mounts: Iterable[Mount]) -> str | None:
    """Return the type of the file system that holds `path` (absolute); None if no mount does."""
    candidates = [mount for mount in mounts if path.is_relative_to(mount.mountpoint)]
    return max(candidates, key=lambda mount: len(Path(mount.mountpoint).parts)).fstype if candidates else None
