"""The watcher's decisions: which folders to watch, and when to read the files."""

from __future__ import annotations

import select
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from nerve.config.config import Config, SenseConfig
from nerve.reload.revision import Revision
from nerve.workers.watcher import (
    LONGEST_SECONDS,
    QUIET_SECONDS,
    ChangeBurst,
    Wakeup,
    WatchedFolder,
    folders_to_watch,
)
from nerve.workspace import Workspace


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a workspace with a folder for its senses."""
    home = (tmp_path / "ws").resolve()
    (home / "senses").mkdir(parents=True)
    (home / "nerve.yaml").write_text("senses: {}\n")
    return home


def test_a_burst_of_changes_ends_after_some_quiet() -> None:
    """The quiet counts from its last change, and without any quiet it ends soon after its first."""
    assert ChangeBurst(10.0, 10.0).deadline == 10.0 + QUIET_SECONDS
    assert ChangeBurst(10.0, 10.1).deadline == 10.1 + QUIET_SECONDS
    assert ChangeBurst(10.0, 99.0).deadline == 10.0 + LONGEST_SECONDS


def test_a_burst_that_has_to_wait_for_a_save_ends_after_it() -> None:
    """Neither quiet nor the limit ends it before that."""
    assert ChangeBurst(10.0, 10.0, not_before=12.0).deadline == 12.0


def test_any_number_of_changes_wakes_the_loop_until_it_is_cleared() -> None:
    """Neither waking nor clearing blocks, however often it is done."""
    wakeup = Wakeup()
    for _ in range(100_000):
        wakeup.on_any_event(cast(Any, None))
    assert readable(wakeup)
    while readable(wakeup):
        wakeup.clear()
    wakeup.clear()
    wakeup.on_any_event(cast(Any, None))
    assert readable(wakeup)
    wakeup.close()


def readable(wakeup: Wakeup) -> bool:
    """Return True if the loop would wake now."""
    return bool(select.select([wakeup], [], [], 0)[0])


def watched(path: Path, *, recursive: bool = False) -> WatchedFolder:
    """Return what is watched of an existing folder."""
    return WatchedFolder(str(path), path.stat().st_ino, recursive)


def revision_with(*paths: Path) -> Revision:
    """Return a revision whose senses have these paths."""
    senses = {f"s{number}": SenseConfig(f"s{number}", str(path)) for number, path in enumerate(paths)}
    return Revision(Config(senses=senses), {})


def test_the_senses_folder_is_watched_recursively_and_others_are_not(home: Path) -> None:
    """The others are the home, for nerve.yaml, and the folder of each sense that is kept elsewhere."""
    (home / "lib" / "a").mkdir(parents=True)
    (home / "senses" / "sub").mkdir()
    revision = revision_with(home / "senses/one.py", home / "senses/sub/x.py", home / "lib/a/y.py", home / "z.py")
    assert folders_to_watch(Workspace(home), revision) == {
        watched(home),
        watched(home / "senses", recursive=True),
        watched(home / "lib" / "a"),
    }


def test_the_targets_of_links_are_watched(home: Path) -> None:
    """This holds for a link in place of nerve.yaml and of the senses' folder."""
    (home / "code").mkdir()
    (home / "conf").mkdir()
    (home / "nerve.yaml").rename(home / "conf" / "nerve.yaml")
    (home / "nerve.yaml").symlink_to("conf/nerve.yaml")
    shutil.rmtree(home / "senses")
    (home / "senses").symlink_to("code")
    folders = folders_to_watch(Workspace(home), revision_with(home / "code" / "one.py"))
    assert folders == {watched(home), watched(home / "conf"), watched(home / "code", recursive=True)}


def test_a_folder_that_is_linked_from_the_senses_folder_is_watched(home: Path) -> None:
    """A recursive watch does not follow links."""
    (home / "shared").mkdir()
    (home / "senses" / "lib").symlink_to("../shared")
    folders = folders_to_watch(Workspace(home), revision_with())
    assert folders == {watched(home), watched(home / "senses", recursive=True), watched(home / "shared")}


def test_a_missing_senses_folder_is_not_watched(home: Path) -> None:
    """A new folder at its path differs from the old one, so that it is watched again."""
    before = folders_to_watch(Workspace(home), revision_with())
    (home / "senses").rename(home / "old")
    assert folders_to_watch(Workspace(home), revision_with()) == {watched(home)}
    (home / "senses").mkdir()
    assert folders_to_watch(Workspace(home), revision_with()) != before


def test_instead_of_a_missing_folder_its_nearest_parent_is_watched(home: Path) -> None:
    """Creating the folder is then a change."""
    (home / "a").mkdir()
    revision = revision_with(home / "a" / "b" / "c" / "one.py", home / "senses" / "d" / "two.py")
    folders = folders_to_watch(Workspace(home), revision)
    assert folders == {watched(home), watched(home / "senses", recursive=True), watched(home / "a")}
