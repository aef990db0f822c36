"""What a start warns of."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from nerve.cli.preflight import filesystem_of, preflight_warnings


class Mounted(NamedTuple):
    """A mount, as psutil gives it."""

    mountpoint: str
    fstype: str


MOUNTS = [Mounted("/", "ext4"), Mounted("/home", "xfs"), Mounted("/home/ann/share", "nfs4")]
SOUND = (3, 52, 0)


@pytest.mark.parametrize(
    ("path", "fstype"),
    [("/var/x", "ext4"), ("/home/ann", "xfs"), ("/home/ann/share/w/data", "nfs4"), ("/home/ann/shared", "xfs")],
)
def test_the_nearest_mount_holds_a_path(path: str, fstype: str) -> None:
    """The longest mount point that is a parent counts, by whole names."""
    assert filesystem_of(Path(path), MOUNTS) == fstype


def test_no_mount_no_type() -> None:
    """Where nothing is known, nothing is claimed."""
    assert filesystem_of(Path("/x"), []) is None


def test_a_network_file_system_is_named_with_what_to_do() -> None:
    """SQLite's WAL needs shared memory, which no network has."""
    [sentence] = preflight_warnings(Path("/home/ann/share/data"), MOUNTS, SOUND)
    assert "nfs4" in sentence
    assert "local disk" in sentence


@pytest.mark.parametrize(
    ("version", "warned"),
    [((3, 6, 23), False), ((3, 7, 0), True), ((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False)],
)
def test_a_sqlite_with_the_checkpoint_defect_is_named(version: tuple[int, ...], warned: bool) -> None:
    """The defect was there from 3.7.0 to 3.51.2, both included."""
    sentences = preflight_warnings(Path("/data"), MOUNTS, version)
    assert bool(sentences) is warned
    assert all("read-only" in sentence for sentence in sentences)
