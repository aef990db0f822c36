"""Warnings before an engine starts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from nerve.cli.preflight import NotedVersion, filesystem_of, preflight_warnings


class Mounted(NamedTuple):
    """A mount, as psutil describes it."""

    mountpoint: str
    fstype: str


MOUNTS = [Mounted("/", "ext4"), Mounted("/home", "xfs"), Mounted("/home/ann/share", "nfs4")]
FIXED_SQLITE = (3, 52, 0)


@pytest.mark.parametrize(
    ("path", "fstype"),
    [("/var/x", "ext4"), ("/home/ann", "xfs"), ("/home/ann/share/w/data", "nfs4"), ("/home/ann/shared", "xfs")],
)
def test_the_nearest_mount_holds_a_path(path: str, fstype: str) -> None:
    """It is the longest mount point that is a parent of the path, compared by whole folder names."""
    assert filesystem_of(Path(path), MOUNTS) == fstype


def test_a_path_without_a_mount_has_no_type() -> None:
    """The list of mounts may be empty, as in some containers."""
    assert filesystem_of(Path("/x"), []) is None


def test_a_network_file_system_is_warned_about() -> None:
    """SQLite's WAL needs shared memory, which network file systems lack; the warning says what to do."""
    [warning] = preflight_warnings(Path("/home/ann/share/data"), MOUNTS, FIXED_SQLITE)
    assert "nfs4" in warning
    assert "local disk" in warning


@pytest.mark.parametrize(
    ("version", "warned"),
    [((3, 6, 23), False), ((3, 7, 0), True), ((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False)],
)
def test_sqlite_with_the_checkpoint_defect_is_warned_about(version: tuple[int, ...], warned: bool) -> None:
    """Versions 3.7.0 to 3.51.2 have the defect."""
    warnings = preflight_warnings(Path("/data"), MOUNTS, version)
    assert bool(warnings) is warned
    assert all("mended in 3.51.3" in warning and len(warning) <= 120 for warning in warnings)


def test_a_version_of_sqlite_is_noted_once(tmp_path: Path) -> None:
    """A warning at each start would soon be ignored; another version is noted again."""
    noted = NotedVersion(tmp_path / "sqlite-version")
    assert [noted.is_new(version) for version in ((3, 40, 1), (3, 40, 1), (3, 46, 0), (3, 46, 0))] == [
        True,
        False,
        True,
        False,
    ]
    assert noted.path.stat().st_mode & 0o777 == 0o600


def test_a_version_that_can_not_be_noted_is_new_each_time(tmp_path: Path) -> None:
    """A folder that can't be written, or a link in place of the file, stops no start, and nothing is overwritten."""
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to("target")
    for path in (tmp_path / "nowhere" / "x", tmp_path / "link"):
        assert NotedVersion(path).is_new((3, 40, 1))
    assert (tmp_path / "target").read_text() == "mine"
