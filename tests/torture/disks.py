"""A disk that a scenario can fill and free: a small file system, or else a quota on the writer's files."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psutil
from support.engine import Engine

from torture.processes import titled
from torture.scenario import Skipped

MB = 1024 * 1024
SIZE_MB = 256
QUOTA_BYTES = 64 * 1024


class Disk(Protocol):
    """A disk with an engine's data; `kind` says of which kind it is."""

    kind: str

    def fill(self, room: int = 0) -> None:
        """Leave `room` bytes for new data."""

    def free(self) -> None:
        """Free the space again."""


class SmallDisk:
    """A file system of SIZE_MB, filled by a file."""

    kind = "a file system"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._filler = folder / "filler"

    def fill(self, room: int = 0) -> None:
        """Let the file grow until `room` bytes are left on the disk."""
        with self._filler.open("ab") as filler:
            usage = os.statvfs(self._folder)
            spare = usage.f_bavail * usage.f_frsize - room
            while spare > 0:
                try:
                    os.write(filler.fileno(), bytes(min(spare, MB)))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return
                usage = os.statvfs(self._folder)
                spare = usage.f_bavail * usage.f_frsize - room

    def free(self) -> None:
        """Remove the file."""
        self._filler.unlink()


class Quota:
    """A limit on the size of the writer's files; writes beyond it fail as on a broken disk."""

    kind = "a quota on the writer's files"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def fill(self, room: int = 0) -> None:
        """Limit the files of the writer to a few KB, or to `room` bytes more."""
        self._limit(max(room, QUOTA_BYTES))

    def free(self) -> None:
        """Remove the limit; a new writer has none anyway."""
        self._limit(psutil.RLIM_INFINITY)

    def _limit(self, bytes: int) -> None:
        for writer in titled(self._engine, "writer"):
            writer.rlimit(psutil.RLIMIT_FSIZE, (bytes, psutil.RLIM_INFINITY))


@contextmanager
def small_disk(engine: Engine) -> Iterator[Disk]:
    """Put the engine's data on a disk that can be filled. Raises Skipped if this machine allows none."""
    data = engine.home / "data"
    data.mkdir()
    if _mounted(data):
        try:
            yield SmallDisk(data)
        finally:
            subprocess.run(["umount", "--lazy", str(data)], check=True)  # it may still be in use after a failure
    elif hasattr(psutil, "RLIMIT_FSIZE"):
        yield Quota(engine)
    else:
        raise Skipped("needs the right to mount a file system, or a system that can limit another process")


def _mounted(folder: Path) -> bool:
    mount = shutil.which("mount")
    if mount is None:
        return False
    command = [mount, "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "nerve-torture", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
