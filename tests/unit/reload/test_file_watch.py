"""The watch on files: which folders are watched, and which events matter."""

from __future__ import annotations

import select
import shutil
from pathlib import Path

import pytest
from watchdog import events

from nerve.config.config import Config, SenseConfig
from nerve.reload.file_watch import ChangeFilter, Wakeup, WatchedFolder, folders_to_watch
from nerve.reload.revision import Revision
from nerve.workspace import Workspace


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a workspace with a folder for its senses."""
    home = (tmp_path / "ws").resolve()
    (home / "senses").mkdir(parents=True)
    (home / "nerve.yaml").write_text("senses: {}\n")
    return home


def test_any_number_of_changes_wakes_the_loop_until_it_is_cleared() -> None:
    """Neither waking nor clearing blocks, however often it is done."""
    wakeup = Wakeup()
    for _ in range(100_000):
        wakeup.on_any_event(events.FileClosedEvent("/w/nerve.yaml"))
    assert readable(wakeup)
    while readable(wakeup):
        wakeup.clear()
    wakeup.clear()
    wakeup.on_any_event(events.FileClosedEvent("/w/nerve.yaml"))
    assert readable(wakeup)
    wakeup.close()


def readable(wakeup: Wakeup) -> bool:
    """Return True if the loop would wake now."""
    return bool(select.select([wakeup], [], [], 0)[0])


def watched(path: Path, *, recursive: bool = False, writes: bool = True) -> WatchedFolder:
    """Return what is watched of an existing folder."""
    return WatchedFolder(str(path), path.stat().st_ino, recursive, writes)


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
        watched(home, writes=False),
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
    assert folders == {
        watched(home, writes=False),
        watched(home / "conf", writes=False),
        watched(home / "code", recursive=True),
    }


def test_a_folder_that_is_linked_from_the_senses_folder_is_watched(home: Path) -> None:
    """A recursive watch does not follow links."""
    (home / "common").mkdir()
    (home / "senses" / "lib").symlink_to("../common")
    folders = folders_to_watch(Workspace(home), revision_with())
    assert folders == {watched(home, writes=False), watched(home / "senses", recursive=True), watched(home / "common")}


def test_a_missing_senses_folder_is_not_watched(home: Path) -> None:
    """A new folder at its path differs from the old one, so that it is watched again."""
    before = folders_to_watch(Workspace(home), revision_with())
    (home / "senses").rename(home / "old")
    assert folders_to_watch(Workspace(home), revision_with()) == {watched(home, writes=False)}
    (home / "senses").mkdir()
    assert folders_to_watch(Workspace(home), revision_with()) != before


def test_instead_of_a_missing_folder_its_nearest_parent_is_watched(home: Path) -> None:
    """Creating the folder is then a change."""
    (home / "a").mkdir()
    revision = revision_with(home / "a" / "b" / "c" / "one.py", home / "senses" / "d" / "two.py")
    folders = folders_to_watch(Workspace(home), revision)
    assert folders == {watched(home, writes=False), watched(home / "senses", recursive=True), watched(home / "a")}


def test_the_folder_of_a_linked_helper_is_watched(home: Path) -> None:
    """A helper may be linked from a checkout or a store, which has the file that changes."""
    shared = home.parent / "checkout"
    shared.mkdir()
    (shared / "units.py").touch()
    (home / "senses" / "units.py").symlink_to(shared / "units.py")
    (home / "senses" / "data.csv").symlink_to("/etc/hosts")
    folders = folders_to_watch(Workspace(home), revision_with())
    assert folders == {watched(home, writes=False), watched(home / "senses", recursive=True), watched(shared)}


# Which events matter.


@pytest.mark.parametrize(
    ("event", "matters"),
    [
        (events.FileModifiedEvent("/w/nerve.log"), False),
        (events.FileClosedEvent("/w/nerve.log"), False),
        (events.FileCreatedEvent("/w/nerve.log.1"), False),
        (events.FileDeletedEvent("/w/app.db-journal"), False),
        (events.FileMovedEvent("/w/nerve.log", "/w/nerve.log.1"), False),
        (events.FileMovedEvent("/w/x.tmp", "/w/nerve.yaml"), True),
        (events.FileMovedEvent("/w/nerve.yaml", "/w/nerve.yaml~"), True),
        (events.FileClosedEvent("/w/nerve.yaml"), True),
        (events.FileModifiedEvent("/w/senses/lib/a.py"), True),
        (events.FileDeletedEvent("/w/senses/a.py"), True),
        (events.FileClosedEvent("/w/shared/probe.sense"), True),
        (events.FileClosedEvent("/w/conf/production.yaml"), True),
        (events.DirCreatedEvent("/w/senses"), True),
        (events.DirMovedEvent("/w/new", "/w/senses"), True),
        (events.FileDeletedEvent("/w/senses/..data"), True),
        (events.FileModifiedEvent("/w/senses/..data"), False),
    ],
)
def test_only_events_of_files_that_are_read_matter(event: events.FileSystemEvent, matters: bool) -> None:
    """These are nerve.yaml, what the configuration names, Python files, folders and links."""
    names = frozenset({"nerve.yaml", "production.yaml", "probe.sense"})
    assert ChangeFilter(names, frozenset({"/w/senses/..data"})).matters(event) == matters


def test_a_new_link_of_any_name_matters(home: Path) -> None:
    """Deployments exchange a whole folder of senses by renaming one link, which is also known once it is gone."""
    link = home / "senses" / "..data"
    link.symlink_to("elsewhere")
    assert ChangeFilter().matters(events.FileMovedEvent(f"{link}_tmp", str(link)))
    known = ChangeFilter.of(Workspace(home), revision_with(), folders_to_watch(Workspace(home), revision_with()))
    link.unlink()
    assert known.matters(events.FileDeletedEvent(str(link)))
    assert not known.matters(events.FileDeletedEvent(str(home / "senses" / "other")))
