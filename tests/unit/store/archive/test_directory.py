"""ArchiveDirectory: files appear whole, and the manifest lists the valid ones."""

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
ENTRY = ManifestEntry(
    day=NAME.day, file=str(NAME), rows=1, first_id=5, last_id=5, sha256="abc", bytes=4, ts=0, log_id="L"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The path of a folder that does not exist yet."""
    return tmp_path / "archive" / "logs"


def test_written_file_is_complete_and_private(folder: Path) -> None:
    """Folders are created, only the owner has access, and no temporary file is left."""
    with ArchiveDirectory.held(folder) as directory:
        directory.write(NAME, [b"one\n", b"two\n"])
        assert list(directory.lines(NAME)) == [b"one\n", b"two\n"]
        assert directory.strays() == [NAME]
    assert [path.name for path in folder.iterdir()] == ["2026-11-23.jsonl"]
    assert stat.S_IMODE((folder / str(NAME)).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_file_is_valid_once_it_is_in_the_manifest(folder: Path) -> None:
    """It is not a stray any more, also for the next holder of the lock."""
    with ArchiveDirectory.held(folder) as directory:
        directory.write(NAME, [b"one\n"])
        directory.add(ENTRY)
        assert directory.strays() == []
        assert directory.archived(NAME.day, "L") == (ArchivedRange(5),)
        assert directory.next_name(NAME.day) == FileName(NAME.day, 1)
    assert read_manifest(folder) == [ENTRY]
    assert stat.S_IMODE((folder / MANIFEST).stat().st_mode) == 0o600
    with ArchiveDirectory.held(folder) as directory:
        assert directory.archived(NAME.day, "L") == (ArchivedRange(5),)


def test_incomplete_line_is_removed_before_the_next_one(folder: Path) -> None:
    """The manifest stays readable after a power failure."""
    with ArchiveDirectory.held(folder) as directory:
        directory.add(ENTRY)
    with (folder / MANIFEST).open("ab") as manifest:
        manifest.write(b'{"day":"2026-11-24","file":"2026-11-24.js' + b"x" * 1000)
    assert read_manifest(folder) == [ENTRY]
    with ArchiveDirectory.held(folder) as directory:
        directory.add(ENTRY)
    assert read_manifest(folder) == [ENTRY, ENTRY]


def test_existing_file_is_not_overwritten(folder: Path) -> None:
    """Writing to its name raises StoreError."""
    with ArchiveDirectory.held(folder) as directory:
        (folder / str(NAME)).write_text("mine")
        with pytest.raises(StoreError, match="exists, and is not a file of this archive"):
            directory.write(NAME, [b"one\n"])
    assert (folder / str(NAME)).read_text() == "mine"


def test_incomplete_file_is_removed_when_the_disk_is_full(folder: Path) -> None:
    """The failure is a DiskError."""

    def lines() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with ArchiveDirectory.held(folder) as directory, pytest.raises(DiskError, match="No space left"):
        directory.write(NAME, lines())
    assert list(folder.iterdir()) == []


def test_temporary_files_of_an_interrupted_archiver_are_removed(folder: Path) -> None:
    """Files with other names stay."""
    folder.mkdir(parents=True)
    for name in ("2026-11-23.jsonl.tmp", "2026-11-23.4.jsonl.tmp", "notes.tmp", "2026-11-23.tmp"):
        (folder / name).touch()
    with ArchiveDirectory.held(folder):
        assert sorted(path.name for path in folder.iterdir()) == ["2026-11-23.tmp", "notes.tmp"]


def test_second_archiver_is_refused_while_the_first_runs(folder: Path) -> None:
    """After that, it can take the lock."""
    with (
        ArchiveDirectory.held(folder),
        pytest.raises(StoreError, match="another archiver is running"),
        ArchiveDirectory.held(folder),
    ):
        pass
    with ArchiveDirectory.held(folder):
        pass


def test_damaged_manifest_raises_store_error(folder: Path) -> None:
    """The message names the file and the line; nothing is changed."""
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("oops\n")
    with pytest.raises(StoreError, match=r"manifest.jsonl: line 1 is damaged"), ArchiveDirectory.held(folder):
        pass
    with pytest.raises(StoreError, match="line 1 is damaged"):
        read_manifest(folder)


def test_missing_manifest_is_an_empty_archive(folder: Path) -> None:
    """Reading it creates no folder."""
    assert read_manifest(folder) == []
    assert not folder.exists()


def test_file_in_place_of_the_folder_raises_store_error(tmp_path: Path) -> None:
    """The message is one line."""
    (tmp_path / "logs").touch()
    with pytest.raises(StoreError, match="can't be used"), ArchiveDirectory.held(tmp_path / "logs"):
        pass


def test_unreadable_manifest_raises_store_error(folder: Path) -> None:
    """Opening the folder only for reading raises it too."""
    (folder / MANIFEST).mkdir(parents=True)
    with pytest.raises(StoreError, match=MANIFEST):
        ArchiveDirectory(folder)
