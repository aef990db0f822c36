"""Lanes that an engine has left when it died."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nerve.errors import WireError
from nerve.eventqueue.lane_file import HEAD, SUFFIX, TAIL, LaneFile, is_held


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What waits in lanes while no engine runs: the number of lanes that are not empty, and their bytes."""

    lanes: int
    bytes: int


def left_behind(folder: Path) -> LeftBehind:
    """Return what waits in the lanes of a folder, or nothing if an engine uses them; changes nothing."""
    found = []
    for path in lane_paths(folder):
        if is_held(path):
            return LeftBehind(0, 0)
        try:
            file = LaneFile(path)
        except (WireError, OSError):
            continue
        found.append(min(max(0, file.words[HEAD] - file.words[TAIL]), file.capacity))
        file.close()
    return LeftBehind(sum(1 for size in found if size), sum(found))


def lane_paths(folder: Path) -> list[Path]:
    """Return the files in a folder that are named like lanes."""
    return sorted(folder.glob(f"*{SUFFIX}"))
