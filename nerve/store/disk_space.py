"""Whether the disks have room for rebuilding a database, before that is begun."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from nerve.errors import NoRoomError
from nerve.store.error_mapping import disk_failures
from nerve.units import format_size

MARGIN_BYTES = 16 * 1024 * 1024
"""What is left to others on each disk, since they go on writing meanwhile."""


def check_room(size: int, folder: Path, environ: Mapping[str, str] | None = None) -> None:
    """Raise NoRoomError unless there is room to rebuild a database of `size` bytes that is in `folder`.

    SQLite makes a copy among its temporary files, and then writes that to the WAL beside the database.
    """
    needed: dict[int, int] = {}
    places: dict[int, Path] = {}
    for place in (folder, temporary_folder(os.environ if environ is None else environ)):
        with disk_failures(place):
            disk = place.stat().st_dev
        needed[disk] = needed.get(disk, MARGIN_BYTES) + size
        places.setdefault(disk, place)
    for disk, place in places.items():
        with disk_failures(place):
            free = shutil.disk_usage(place).free
        if free < needed[disk]:
            raise NoRoomError(
                f"the rebuild of the database was skipped: it takes {format_size(needed[disk])} in {place}, and "
                f"{format_size(free)} are free there; free some space and ask again"
            )


def temporary_folder(environ: Mapping[str, str]) -> Path:
    """Give the folder in which SQLite makes its temporary files: the first of its list that it can use."""
    named = [environ.get("SQLITE_TMPDIR"), environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp"]
    usable = (name for name in named if name and Path(name).is_dir() and os.access(name, os.W_OK | os.X_OK))
    return Path(next(usable, "."))
