"""Warnings about file systems and SQLite versions that put the log at risk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

NETWORK_FILESYSTEMS = frozenset(
    {"9p", "afpfs", "afs", "ceph", "cifs", "davfs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
)
CHECKPOINT_DEFECT = ((3, 7, 0), (3, 51, 2))
"""First and last version of SQLite that can lose commits if one process checkpoints while another commits."""

FIRST_SOUND = "3.51.3"


class Mount(Protocol):
    """A mounted file system, as psutil describes it."""

    @property
    def mountpoint(self) -> str:
        """The folder at which it is mounted."""

    @property
    def fstype(self) -> str:
        """The type of the file system, such as ext4."""


@dataclass(frozen=True, slots=True)
class NotedVersion:
    """Remembers in a file of which version of SQLite a start has warned: at each start it would soon be ignored."""

    path: Path

    def is_new(self, sqlite: tuple[int, ...]) -> bool:
        """Return True the first time that it is asked for a version, and remember that."""
        version = ".".join(map(str, sqlite))
        with suppress(OSError, UnicodeDecodeError):
            if self.path.read_text() == version:
                return False
        with suppress(OSError):  # without a note the next start warns again
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(file, "w") as stream:  # noqa: PTH123 - Path.open() takes no descriptor
                stream.write(version)
        return True


def preflight_warnings(data: Path, mounts: Iterable[Mount], sqlite: tuple[int, ...]) -> list[str]:
    """Return a sentence for each risk to a log in the folder `data` (absolute) with this version of SQLite; pure."""
    warnings = []
    filesystem = filesystem_of(data, mounts)
    if filesystem in NETWORK_FILESYSTEMS:
        warnings.append(
            f"{data} is on a network file system ({filesystem}), where SQLite's WAL mode is not reliable: "
            "move the workspace to a local disk"
        )
    if has_checkpoint_defect(sqlite):
        version = ".".join(map(str, sqlite))
        warnings.append(f"SQLite {version}: let only nerve write to logs.db (mended in {FIRST_SOUND})")
    return warnings


def has_checkpoint_defect(sqlite: tuple[int, ...]) -> bool:
    """Return True if this version of SQLite can lose commits when another program writes or checkpoints logs.db."""
    return CHECKPOINT_DEFECT[0] <= sqlite <= CHECKPOINT_DEFECT[1]


def filesystem_of(path: Path, mounts: Iterable[Mount]) -> str | None:
    """Return the type of the file system that holds `path` (absolute); None if no mount does."""
    candidates = [mount for mount in mounts if path.is_relative_to(mount.mountpoint)]
    return max(candidates, key=lambda mount: len(Path(mount.mountpoint).parts)).fstype if candidates else None
