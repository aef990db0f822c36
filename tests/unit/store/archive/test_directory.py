"""The archive's folder: files appear whole, and the manifest says which count."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from nerve.errors import DiskError, StoreError
from nerve.store.archive.directory import MANIFEST, ArchiveDirectory, read_manifest
from nerve.store.archive.manifest import ArchivedRange, FileName, ManifestEntry

NAME = FileName("2026-11-23", 0)
ENTRY = ManifestEntry(NAME.day, str(NAME), 1, 5, 5, "abc", 4, 0, "L")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the path of a folder that isn't there yet."""
    return tmp_path / "archive" / "logs"


def test_a_file_appears_whole_and_for_its_owner_alone(folder: Path) -> None:
    """Its folder is made, it is written, and nothing else is left."""
    with ArchiveDirectory.held(folder) as shelf:
        shelf.write(NAME, [b"one\n", b"two\n"])
        assert list(shelf.lines(NAME)) == [b"one\n", b"two\n"]
        assert shelf.strays() == [NAME]
    assert [path.name for path in folder.iterdir()] == ["2026-11-23.jsonl"]
    assert stat.S_IMODE((folder / str(NAME)).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_it_counts_once_the_manifest_names_it(folder: Path) -> None:
    """It is no stray then, and the next holder of the folder knows as well."""
    with ArchiveDirectory.held(folder) as shelf:
        shelf.write(NAME, [b"one\n"])
        shelf.add(ENTRY)
        assert shelf.strays() == []
        assert shelf.archived(NAME.day, "L") == (ArchivedRange(5),)
        assert shelf.next_name(NAME.day) == FileName(NAME.day, 1)
    assert read_manifest(folder) == [ENTRY]
    assert stat.S_IMODE((folder / MANIFEST).stat().st_mode) == 0o600
    with ArchiveDirectory.held(folder) as shelf:
        assert shelf.archived(NAME.day, "L") == (ArchivedRange(5),)


def test_a_torn_line_is_cut_before_the_next_is_written(folder: Path) -> None:
    """The manifest stays readable for ever."""
    with ArchiveDirectory.held(folder) as shelf:
        shelf.add(ENTRY)
    with (folder / MANIFEST).open("ab") as manifest:
        manifest.write(b'{"day":"2026-11-24","file":"2026-11-24.js' + b"x" * 1000)
    assert read_manifest(folder) == [ENTRY]
    with ArchiveDirectory.held(folder) as shelf:
        shelf.add(ENTRY)
    assert read_manifest(folder) == [ENTRY, ENTRY]


def test_nothing_is_ever_written_over(folder: Path) -> None:
    """Whatever has the name keeps it."""
    with ArchiveDirectory.held(folder) as shelf:
        (folder / str(NAME)).write_text("mine")
        with pytest.raises(StoreError, match="is in the way"):
            shelf.write(NAME, [b"one\n"])
    assert (folder / str(NAME)).read_text() == "mine"


def test_a_disk_that_fills_gets_its_space_back(folder: Path) -> None:
    """What was written so far is removed, and the failure is a DiskError."""

    def lines() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with ArchiveDirectory.held(folder) as shelf, pytest.raises(DiskError, match="No space left"):
        shelf.write(NAME, lines())
    assert list(folder.iterdir()) == []


def test_what_an_interrupted_archiver_left_is_removed(folder: Path) -> None:
    """Its temporary file is; what only looks like one stays."""
    folder.mkdir(parents=True)
    for name in ("2026-11-23.jsonl.tmp", "2026-11-23.4.jsonl.tmp", "notes.tmp", "2026-11-23.tmp"):
        (folder / name).touch()
    with ArchiveDirectory.held(folder):
        assert sorted(path.name for path in folder.iterdir()) == ["2026-11-23.tmp", "notes.tmp"]


def test_only_one_archiver_works_at_a_time(folder: Path) -> None:
    """The second is told; when the first is done, it may."""
    with (
        ArchiveDirectory.held(folder),
        pytest.raises(StoreError, match="another archiver is at work"),
        ArchiveDirectory.held(folder),
    ):
        pass
    with ArchiveDirectory.held(folder):
        pass


def test_a_damaged_manifest_is_told(folder: Path) -> None:
    """It names the file and the line; nothing is done on the word of a broken one."""
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("oops\n")
    with pytest.raises(StoreError, match=r"manifest.jsonl: line 1 is damaged"), ArchiveDirectory.held(folder):
        pass
    with pytest.raises(StoreError, match="line 1 is damaged"):
        read_manifest(folder)


def test_no_manifest_is_an_empty_archive(folder: Path) -> None:
    """And looking makes no folder."""
    assert read_manifest(folder) == []
    assert not folder.exists()


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    """In one line."""
    (tmp_path / "logs").touch()
    with pytest.raises(StoreError, match="can't be used"), ArchiveDirectory.held(tmp_path / "logs"):
        pass


def test_a_manifest_that_can_not_be_read_is_told(folder: Path) -> None:
    """Whoever only reads hears it, too, in one line."""
    (folder / MANIFEST).mkdir(parents=True)
    with pytest.raises(StoreError, match=MANIFEST):
        ArchiveDirectory(folder)
