"""What a person should know before an engine runs here: places and versions that put the log at risk; pure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

NETWORK_FILESYSTEMS = frozenset(
    {"9p", "afpfs", "afs", "ceph", "cifs", "davfs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
)
CHECKPOINT_DEFECT = ((3, 7, 0), (3, 51, 2))
"""SQLite's first and last version that can lose commits when a checkpoint of one process races a commit of another."""


class Mount(Protocol):
    """A mounted file system, as psutil gives it."""

    @property
    def mountpoint(self) -> str:
        """Where it is."""

    @property
    def fstype(self) -> str:
        """Of what kind it is."""


def preflight_warnings(data: Path, mounts: Iterable[Mount], sqlite: tuple[int, ...]) -> list[str]:
    """Give a sentence for each risk to a log in the folder `data`, with this version of SQLite."""
    sentences = []
    filesystem = filesystem_of(data, mounts)
    if filesystem in NETWORK_FILESYSTEMS:
        sentences.append(
            f"{data} is on a network file system ({filesystem}), where SQLite's WAL does not work reliably: "
            "keep the workspace on a local disk"
        )
    if CHECKPOINT_DEFECT[0] <= sqlite <= CHECKPOINT_DEFECT[1]:
        version = ".".join(map(str, sqlite))
        sentences.append(
            f"SQLite {version} can lose commits when another program writes or checkpoints logs.db while nerve runs: "
            "open it read-only (sqlite3 -readonly), as nerve's own commands do"
        )
    return sentences


def filesystem_of(path: Path, mounts: Iterable[Mount]) -> str | None:
    """Give the type of the file system that holds `path` (absolute); None when no mount does."""
    holding = [mount for mount in mounts if path.is_relative_to(mount.mountpoint)]
    return max(holding, key=lambda mount: len(Path(mount.mountpoint).parts)).fstype if holding else None
