"""The machine of a benchmark run, and the versions of everything that is measured."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

PACKAGES = ("nerve", "peewee", "msgspec", "huey", "APScheduler", "loguru")


class Machine(msgspec.Struct, frozen=True):
    """The machine and the versions; `file_system` is that of the measured folder."""

    processor: str
    cpus: int
    memory_gb: float
    system: str
    file_system: str
    versions: dict[str, str]


def this_machine(folder: Path) -> Machine:
    """Return a description of this machine; the measured files are in `folder`."""
    return Machine(
        processor=_processor(),
        cpus=os.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1024**3, 1),
        system=f"{platform.system()} {platform.release()}",
        file_system=_file_system(folder),
        versions={
            "Python": platform.python_version(),
            "SQLite": sqlite3.sqlite_version,
            **{package: metadata.version(package) for package in PACKAGES},
        },
    )


def _processor() -> str:
    """Return the model of the processor on Linux, and elsewhere its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def _file_system(folder: Path) -> str:
    """Return the type of a folder's file system: that of the longest mount point above it."""
    resolved = folder.resolve()
    above = [part for part in psutil.disk_partitions(all=True) if resolved.is_relative_to(part.mountpoint)]
    return max(above, key=lambda part: len(part.mountpoint)).fstype if above else "unknown"
