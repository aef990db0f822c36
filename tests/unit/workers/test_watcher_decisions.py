"""The watcher's decisions: which folders to watch, and when to look."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from nerve.config.config import Config, SenseConfig
from nerve.reload.revision import Revision
from nerve.workers.watcher import LONGEST_SECONDS, QUIET_SECONDS, ChangeBurst, Wakeup, WatchedFolder, places
from nerve.workspace import Workspace


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace with a folder for its senses."""
    home = (tmp_path / "ws").resolve()
    (home / "senses").mkdir(parents=True)
    (home / "nerve.yaml").write_text("senses: {}\n")
    return home


def test_a_flurry_is_over_after_some_quiet() -> None:
    """Of its last change, whenever the first was; but never much later than that."""
    assert ChangeBurst(10.0, 10.0).over_at == 10.0 + QUIET_SECONDS
    assert ChangeBurst(10.0, 10.1).over_at == 10.1 + QUIET_SECONDS
    assert ChangeBurst(10.0, 99.0).over_at == 10.0 + LONGEST_SECONDS


def test_a_bell_rings_once_and_is_silenced() -> None:
    """However often it is rung, it neither blocks nor has to be silenced twice."""
    bell = Wakeup()
    with bell._heard, bell._rings:
        for _ in range(100_000):
            bell.on_any_event(cast(Any, None))
        while True:
            bell.silence()
            try:
                assert bell._heard.recv(1)
            except BlockingIOError:
                break
        bell.silence()


def place(path: Path, *, recursive: bool = False) -> WatchedFolder:
    """Give the place that a folder is now."""
    return WatchedFolder(str(path), path.stat().st_ino, recursive)


def in_force_with(*paths: Path) -> Revision:
    """Give something in force whose senses are at these paths."""
    senses = {f"s{number}": SenseConfig(f"s{number}", str(path)) for number, path in enumerate(paths)}
    return Revision(Config(senses=senses), {})


def test_the_senses_folder_is_watched_with_all_in_it_and_others_by_themselves(home: Path) -> None:
    """The home itself for nerve.yaml, and the folder of each sense that is elsewhere."""
    (home / "lib" / "a").mkdir(parents=True)
    (home / "senses" / "sub").mkdir()
    revision = in_force_with(home / "senses/one.py", home / "senses/sub/x.py", home / "lib/a/y.py", home / "z.py")
    assert places(Workspace(home), revision) == {
        place(home),
        place(home / "senses", recursive=True),
        place(home / "lib" / "a"),
    }


def test_places_are_those_that_links_lead_to(home: Path) -> None:
    """Of nerve.yaml and of the senses' folder; a file outside is watched where it is."""
    (home / "code").mkdir()
    (home / "conf").mkdir()
    (home / "nerve.yaml").rename(home / "conf" / "nerve.yaml")
    (home / "nerve.yaml").symlink_to("conf/nerve.yaml")
    shutil.rmtree(home / "senses")
    (home / "senses").symlink_to("code")
    found = places(Workspace(home), in_force_with(home / "code" / "one.py"))
    assert found == {place(home), place(home / "conf"), place(home / "code", recursive=True)}


def test_a_folder_that_is_not_there_is_no_place_yet(home: Path) -> None:
    """And another folder at its path is another place."""
    before = places(Workspace(home), in_force_with())
    (home / "senses").rename(home / "old")
    assert places(Workspace(home), in_force_with()) == {place(home)}
    (home / "senses").mkdir()
    assert places(Workspace(home), in_force_with()) != before


def test_instead_of_a_folder_that_is_not_there_the_nearest_above_it_is_a_place(home: Path) -> None:
    """In that, its coming is a change."""
    (home / "a").mkdir()
    revision = in_force_with(home / "a" / "b" / "c" / "one.py", home / "senses" / "d" / "two.py")
    assert places(Workspace(home), revision) == {place(home), place(home / "senses", recursive=True), place(home / "a")}
