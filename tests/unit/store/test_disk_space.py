"""Checking the disks for room to rebuild a database."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from nerve.errors import NoRoomError
from nerve.store.disk_space import MARGIN_BYTES, check_room, temporary_folder

MB = 1024 * 1024


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The free space of two disks, `a` and `b`, for the test to set."""
    free: dict[str, int] = {}
    stat = Path.stat

    def stat_on_disk(path: Path, **options: bool) -> object:
        found = stat(path, **options)
        return SimpleNamespace(st_dev=ord(path.name), st_mode=found.st_mode) if path.name in free else found

    for name in "ab":
        (tmp_path / name).mkdir()
    monkeypatch.setattr(Path, "stat", stat_on_disk)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[Path(path).name]))
    return free


def test_one_disk_needs_room_for_both_copies(tmp_path: Path, disks: dict[str, int]) -> None:
    """These are the temporary file and the WAL."""
    environ = {"TMPDIR": str(tmp_path / "a")}
    disks["a"] = 20 * MB + MARGIN_BYTES
    check_room(10 * MB, tmp_path / "a", environ)
    disks["a"] -= 1
    with pytest.raises(NoRoomError, match=r"it needs 36MB in .*/a, and only 36(\.0)?MB are free there; free"):
        check_room(10 * MB, tmp_path / "a", environ)


def test_two_disks_need_room_for_one_copy_each(tmp_path: Path, disks: dict[str, int]) -> None:
    """The message has the disk that is too full."""
    environ = {"TMPDIR": str(tmp_path / "b")}
    disks["a"] = disks["b"] = 10 * MB + MARGIN_BYTES
    check_room(10 * MB, tmp_path / "a", environ)
    disks["b"] = 5 * MB
    with pytest.raises(NoRoomError, match=r"it needs 26MB in .*/b, and only 5MB are free there"):
        check_room(10 * MB, tmp_path / "a", environ)


def test_temporary_folder_is_the_one_of_sqlite(tmp_path: Path) -> None:
    """It is the first usable folder of its list."""
    first, second = tmp_path / "first", tmp_path / "second"
    second.mkdir()
    both = {"SQLITE_TMPDIR": str(first), "TMPDIR": str(second)}
    assert temporary_folder(both) == second
    first.mkdir()
    assert temporary_folder(both) == first
    assert temporary_folder({}) in (Path("/var/tmp"), Path("/usr/tmp"), Path("/tmp"))
