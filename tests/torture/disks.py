"""A disk that a scenario can fill and free: a small file system of its own, or else a quota on the writer's files."""

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
    """Where an engine's data are; `kind` says what it is made of."""

    kind: str

    def fill(self, room: int = 0) -> None:
        """Leave `room` bytes for data that come now."""

    def free(self) -> None:
        """Give the space back."""


class SmallDisk:
    """A file system of SIZE_MB, filled by a file."""

    kind = "a file system"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._filler = folder / "filler"

    def fill(self, room: int = 0) -> None:
        """Let the file grow until the disk is full, or as far as leaves `room` bytes."""
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
    """A limit on the size of the files that the writer writes; what is beyond it fails as on a bad disk."""

    kind = "a quota on the writer's files"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def fill(self, room: int = 0) -> None:
        """Let no file of the writer grow beyond a few KB, or beyond `room` bytes."""
        self._limit(max(room, QUOTA_BYTES))

    def free(self) -> None:
        """Let them grow; a new writer may anyway."""
        self._limit(psutil.RLIM_INFINITY)

    def _limit(self, bytes: int) -> None:
        for writer in titled(self._engine, "writer"):
            writer.rlimit(psutil.RLIMIT_FSIZE, (bytes, psutil.RLIM_INFINITY))


@contextmanager
def small_disk(engine: Engine) -> Iterator[Disk]:
    """Put the engine's data on a disk that can be filled; Skipped where this machine lets us have none."""
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
