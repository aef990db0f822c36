"""Checking that the disks have enough free space for rebuilding a database."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from nerve.errors import NoRoomError
from nerve.store.error_mapping import disk_failures
from nerve.units import format_size

MARGIN_BYTES = 16 * 1024 * 1024
"""Space that is left free on each disk, because other programs keep writing meanwhile."""


def check_room(size: int, folder: Path, environ: Mapping[str, str] | None = None) -> None:
    """Raise NoRoomError unless there is room to rebuild a database of `size` bytes in `folder`.

    SQLite writes a copy to a temporary file, and then copies that to the WAL beside the database.
    """
    needed: dict[int, int] = {}
    folders: dict[int, Path] = {}
    for path in (folder, temporary_folder(os.environ if environ is None else environ)):
        with disk_failures(path):
            disk = path.stat().st_dev
        needed[disk] = needed.get(disk, MARGIN_BYTES) + size
        folders.setdefault(disk, path)
    for disk, path in folders.items():
        with disk_failures(path):
            free = shutil.disk_usage(path).free
        if free < needed[disk]:
            raise NoRoomError(
                f"the rebuild of the database was skipped: it needs {format_size(needed[disk])} in {path}, and only "
                f"{format_size(free)} are free there; free some space and try again"
            )


def temporary_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder for SQLite's temporary files: the first usable one of its list."""
    named = [environ.get("SQLITE_TMPDIR"), environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp"]
    usable = (name for name in named if name and Path(name).is_dir() and os.access(name, os.W_OK | os.X_OK))
    return Path(next(usable, "."))
