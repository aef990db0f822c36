"""The machine that is measured on, and the versions of all that is measured."""

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
    """What the figures depend on; `file_system` is that of the folder in which everything is measured."""

    processor: str
    cpus: int
    memory_gb: float
    system: str
    file_system: str
    versions: dict[str, str]


def this_machine(folder: Path) -> Machine:
    """Describe this machine; `folder` is where the measured files are."""
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
    """Give the model of the processor, where Linux tells it; else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def _file_system(folder: Path) -> str:
    """Give the type of the file system that a folder is on: that of the longest mount point above it."""
    resolved = folder.resolve()
    above = [part for part in psutil.disk_partitions(all=True) if resolved.is_relative_to(part.mountpoint)]
    return max(above, key=lambda part: len(part.mountpoint)).fstype if above else "unknown"
