"""The watcher over real folders: whatever way a file changes, the kernel is told what that comes to."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from watchdog.observers.api import BaseObserver

from nerve.clock import SystemClock
from nerve.config.config import load_config
from nerve.ipc.channel import Channel
from nerve.processes.child import ChildContext
from nerve.processes.messages import Finish, FromChild, Ready, Rescan, ToChild, UnwatchedFolders
from nerve.reload.revision import Revision, initial_revision
from nerve.reload.snapshot import read_snapshot
from nerve.reload.update import Update, applied, plan_update, unpacked
from nerve.workers.watcher import Watcher
from nerve.workspace import Workspace

# watchdog says this of a folder that it finds twice while it is being made, and goes on with it.
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")

DEADLINE = 10.0
CONFIG = "workers: 1\nsenses: {one: , two: }\n"


Start = Callable[..., "Rig"]


def compute(value: object, importing: str = "") -> str:
    """Write a sense that signals a value."""
    return f"{importing}\ndef compute(ctx): return {value!r}\n"


class Rig:
    """A workspace, a watcher in a thread, and the kernel's end of its link."""

    def __init__(self, home: Path, revision: Revision | None = None) -> None:
        self.workspace = Workspace(home)
        self.revision = revision or initial_revision(load_config(self.workspace.config_path), self.workspace)
        self.updates: list[Update] = []
        self.ready = False
        self.blind: tuple[str, ...] = ()
        ours, theirs = socket.socketpair()
        self.link: Channel[FromChild] = Channel(ours, FromChild)
        self._theirs: Channel[ToChild] = Channel(theirs, ToChild)
        boot = SimpleNamespace(workspace=self.workspace, revision=self.revision)
        context = cast(ChildContext, SimpleNamespace(boot=boot))
        self.watcher = Watcher(context, self._theirs, SystemClock())
        self._thread = threading.Thread(target=self.watcher.serve)
        self._thread.start()
        self.wait(lambda: self.ready, "the watcher is ready")

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Do as the kernel does with what the watcher says, until a condition holds."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() >= deadline:
                raise AssertionError(f"waited {DEADLINE:g} s in vain until {what}; problems: {self.revision.problems}")
            for message in self.link.wait(0.05):
                self._take(message)

    def _take(self, message: FromChild) -> None:
        if isinstance(message, Ready):
            self.ready = True
            return
        if isinstance(message, UnwatchedFolders):
            self.blind = message.folders
            return
        assert isinstance(message, Update)
        self.updates.append(message)
        self.revision = applied(self.revision, message)

    def settle(self) -> Revision:
        """Wait until all that is on disk is in force, as far as it is good; gives that."""

        def left() -> Update:
            return plan_update(self.revision, read_snapshot(self.workspace, self.revision), home=self.workspace.home)

        self.wait(lambda: left().is_empty, "what is on disk is in force")
        return self.revision

    def source(self, sense: str = "one") -> str:
        """Give the source of a sense that is in force."""
        return self.revision.versions[sense].main.source.decode()

    def until_source(self, source: str, sense: str = "one") -> None:
        """Wait until a sense has this source."""
        self.wait(lambda: self.source(sense) == source, f"{sense} is {source!r}")

    def end(self) -> bool:
        """Have the watcher end; tells whether it did."""
        self.link.send(Finish())
        self._thread.join(DEADLINE)
        self.watcher._observer.stop()
        self.watcher._observer.join(DEADLINE)
        for end in (self.link, self._theirs, self.watcher._bell._heard, self.watcher._bell._rings):
            end.close()
        return not self._thread.is_alive()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace of two senses, in a folder of its own."""
    home = (tmp_path / "ws").resolve()
    (home / "senses").mkdir(parents=True)
    (home / "senses" / "one.py").write_text(compute(1))
    (home / "senses" / "two.py").write_text(compute(2))
    (home / "nerve.yaml").write_text(CONFIG)
    return home


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Start the watcher when the workspace is as it should be; it must end when it is told to."""
    rigs: list[Rig] = []

    def started(revision: Revision | None = None) -> Rig:
        rigs.append(Rig(home, revision))
        return rigs[-1]

    yield started
    assert all(rig.end() for rig in rigs)


@pytest.fixture
def rig(start: Start) -> Rig:
    """Give a running watcher of the usual workspace."""
    return start()


# The ways in which files change.


def in_place(path: Path, text: str) -> None:
    """Write over what is there."""
    path.write_text(text)


def by_rename(path: Path, text: str) -> None:
    """Write beside it, then take its place, as most editors do."""
    beside = path.with_suffix(".tmp")
    beside.write_text(text)
    beside.replace(path)


def by_backup(path: Path, text: str) -> None:
    """Move the old one away, then write a new one, as vim does."""
    path.rename(f"{path}~")
    path.write_text(text)
    Path(f"{path}~").unlink()


def by_removal(path: Path, text: str) -> None:
    """Remove it, then write a new one."""
    path.unlink()
    path.write_text(text)


def by_link(path: Path, text: str) -> None:
    """Make it a link to a file elsewhere in the workspace."""
    target = path.parent.parent / "elsewhere.py"
    target.write_text(text)
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("save", [in_place, by_rename, by_backup, by_removal, by_link])
def test_a_sense_that_is_saved_has_a_new_version(rig: Rig, home: Path, save: Callable[[Path, str], None]) -> None:
    """However an editor does it, and once more afterwards; the other sense stays as it is."""
    before = rig.revision.versions["two"]
    save(home / "senses" / "one.py", compute(3))
    rig.until_source(compute(3))
    by_rename(home / "senses" / "one.py", compute(4))
    rig.until_source(compute(4))
    assert rig.settle().versions["two"] == before
    assert rig.revision.problems == ()


@pytest.mark.parametrize("save", [in_place, by_rename, by_backup, by_removal])
def test_a_nerve_yaml_that_is_saved_is_in_force(rig: Rig, home: Path, save: Callable[[Path, str], None]) -> None:
    """With the folders that it names: a sense kept elsewhere is watched from then on."""
    (home / "lib").mkdir()
    (home / "lib" / "far.py").write_text(compute("far"))
    save(home / "nerve.yaml", "workers: 2\nsenses: {one: , far: {path: lib/far.py}}\n")
    rig.wait(lambda: set(rig.revision.versions) == {"one", "far"}, "the new sense is in force")
    assert rig.revision.config.workers == 2
    by_rename(home / "lib" / "far.py", compute("farther"))
    rig.until_source(compute("farther"), "far")


def test_a_broken_sense_is_told_and_so_is_its_mending(rig: Rig, home: Path) -> None:
    """The version that works stays in force meanwhile; mended to what it was, nothing is wrong any more."""
    before = rig.revision
    in_place(home / "senses" / "one.py", "x = 1\ndef compute(:\n")
    rig.wait(lambda: rig.revision.problems, "the problem is told")
    assert rig.revision.problems == ("senses/one.py:2: invalid syntax",)
    assert rig.revision.versions == before.versions
    in_place(home / "senses" / "one.py", compute(1))
    rig.wait(lambda: not rig.revision.problems, "the problem is gone")
    assert rig.revision == before


def test_a_broken_nerve_yaml_is_told_and_so_is_its_mending(rig: Rig, home: Path) -> None:
    """The configuration that works stays in force meanwhile."""
    before = rig.revision
    in_place(home / "nerve.yaml", CONFIG + "nonsense: 1\nworkers: many\n")
    rig.wait(lambda: rig.revision.problems, "the problems are told")
    assert len(rig.settle().config_problems) == 2
    assert rig.revision.config == before.config
    in_place(home / "nerve.yaml", CONFIG)
    rig.wait(lambda: not rig.revision.problems, "the problems are gone")
    assert rig.revision == before


def test_a_file_that_is_added_and_one_that_is_removed(rig: Rig, home: Path) -> None:
    """A sense may be written before or after nerve.yaml names it; without its file it is a problem."""
    in_place(home / "nerve.yaml", "workers: 1\nsenses: {one: , two: , three: }\n")
    rig.wait(lambda: rig.revision.problems, "the missing file is told")
    in_place(home / "senses" / "three.py", compute(3))
    rig.wait(lambda: "three" in rig.revision.versions, "the new sense is in force")
    assert rig.settle().problems == ()
    (home / "senses" / "two.py").unlink()
    rig.wait(lambda: rig.revision.problems, "the missing file is told")
    in_place(home / "nerve.yaml", "workers: 1\nsenses: {one: , three: }\n")
    rig.wait(lambda: set(rig.revision.versions) == {"one", "three"}, "the removed sense is gone")
    assert rig.settle().problems == ()


def test_helpers_are_watched_however_deep(rig: Rig, home: Path) -> None:
    """In folders that did not exist when the watcher began, too."""
    (home / "senses" / "lib" / "deep").mkdir(parents=True)
    in_place(home / "senses" / "lib" / "deep" / "units.py", "x = 1")
    in_place(home / "senses" / "one.py", compute(1, "import lib.deep.units"))
    rig.wait(lambda: rig.revision.versions["one"].helpers, "the helper is part of the version")
    rig.settle()
    before = rig.revision.versions["one"]
    by_rename(home / "senses" / "lib" / "deep" / "units.py", "x = 2")
    rig.wait(lambda: rig.revision.versions["one"] != before, "the changed helper is in force")
    assert [module.source for module in rig.revision.versions["one"].helpers] == [b"x = 2"]


def test_a_folder_of_senses_that_is_replaced_is_watched_in_its_place(rig: Rig, home: Path) -> None:
    """By `mv`, as a deployment may do it: both the new files and the edits of them are seen."""
    shutil.copytree(home / "senses", home / "new")
    in_place(home / "new" / "one.py", compute("moved"))
    (home / "senses").rename(home / "old")
    (home / "new").rename(home / "senses")
    rig.until_source(compute("moved"))
    in_place(home / "senses" / "one.py", compute("edited"))
    rig.until_source(compute("edited"))
    in_place(home / "old" / "two.py", compute("not this one"))
    in_place(home / "senses" / "two.py", compute("this one"))
    rig.until_source(compute("this one"), "two")
    assert rig.settle().problems == ()


def test_a_folder_of_senses_that_is_gone_for_a_while(rig: Rig, home: Path) -> None:
    """What runs goes on; once it is back it is watched as before."""
    (home / "senses").rename(home.parent / "away")
    rig.wait(lambda: rig.revision.problems, "the missing files are told")
    assert set(rig.revision.versions) == {"one", "two"}
    (home.parent / "away").rename(home / "senses")
    rig.wait(lambda: not rig.revision.problems, "nothing is missing any more")
    in_place(home / "senses" / "one.py", compute("back"))
    rig.until_source(compute("back"))


def git(home: Path, *arguments: str) -> None:
    """Run git in the workspace, whatever the user's own settings are."""
    settings = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    subprocess.run(["git", *settings, *arguments], cwd=home, env=environment, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")
def test_a_checkout_of_another_branch_is_one_change_of_everything(home: Path, start: Start) -> None:
    """Files changed, added and removed, and nerve.yaml with them; and back again."""
    git(home, "init")
    git(home, "add", ".")
    git(home, "commit", "-m", "first")
    git(home, "checkout", "-b", "other")
    (home / "senses" / "two.py").unlink()
    in_place(home / "senses" / "three.py", compute(3, "from lib import units"))
    (home / "senses" / "lib").mkdir()
    in_place(home / "senses" / "lib" / "units.py", "x = 1")
    in_place(home / "senses" / "one.py", compute("other"))
    in_place(home / "nerve.yaml", "workers: 3\nsenses: {one: , three: }\n")
    git(home, "add", "--all")
    git(home, "commit", "-m", "second")
    git(home, "checkout", "main")
    rig = start()
    for _ in range(2):
        git(home, "checkout", "other")
        rig.wait(lambda: rig.revision.config.workers == 3, "the other branch is in force")
        assert set(rig.settle().versions) == {"one", "three"}
        assert (rig.source(), rig.revision.problems) == (compute("other"), ())
        assert [module.name for module in rig.revision.versions["three"].helpers] == ["lib.units"]
        git(home, "checkout", "main")
        rig.wait(lambda: rig.revision.config.workers == 1, "the first branch is in force")
        assert set(rig.settle().versions) == {"one", "two"}
        assert (rig.source(), rig.revision.problems) == (compute(1), ())


def test_a_nerve_yaml_behind_a_link_is_watched_where_it_is(home: Path, start: Start) -> None:
    """And so is the link itself."""
    (home / "conf").mkdir()
    for name, workers in (("a.yaml", 1), ("b.yaml", 5)):
        (home / "conf" / name).write_text(CONFIG.replace("1", str(workers)))
    (home / "nerve.yaml").unlink()
    (home / "nerve.yaml").symlink_to("conf/a.yaml")
    rig = start()
    by_rename(home / "conf" / "a.yaml", CONFIG.replace("1", "4"))
    rig.wait(lambda: rig.revision.config.workers == 4, "the edited file is in force")
    (home / "link").symlink_to("conf/b.yaml")
    (home / "link").rename(home / "nerve.yaml")
    rig.wait(lambda: rig.revision.config.workers == 5, "the other file is in force")
    in_place(home / "conf" / "b.yaml", CONFIG.replace("1", "6"))
    rig.wait(lambda: rig.revision.config.workers == 6, "the edited other file is in force")


def test_no_change_of_many_is_missed(rig: Rig, home: Path) -> None:
    """Saves in quick succession, of all kinds and of all files: in the end what is on disk is in force."""
    saves = (in_place, by_rename, by_backup, by_removal)
    for number in range(60):
        name = ("one", "two")[number % 2]
        saves[number % len(saves)](home / "senses" / f"{name}.py", compute(number) if number % 7 else "x = = 1")
        if number % 10 == 0:
            by_rename(home / "nerve.yaml", CONFIG.replace("1", str(number + 1)))
    rig.until_source(compute(58))
    rig.until_source(compute(59), "two")
    rig.wait(lambda: rig.revision.config.workers == 51, "the last nerve.yaml is in force")
    assert rig.settle().problems == ()


# Talking to the kernel.


def test_a_survey_is_answered_with_everything_anew(rig: Rig) -> None:
    """Under its number, though nothing has changed; and the change that follows is an update again."""
    rig.link.send(Rescan(7))
    rig.wait(lambda: rig.updates, "the survey is answered")
    [update] = rig.updates
    assert (update.request, set(unpacked(update)), update.config) == (7, {"one", "two"}, rig.revision.config)
    assert rig.revision.generation == 1
    rig.link.send(Rescan(8))
    rig.wait(lambda: len(rig.updates) == 2, "the next survey is answered")
    assert (rig.updates[1].request, rig.revision.generation) == (8, 2)


def test_what_had_changed_before_the_watcher_began_is_told(home: Path, start: Start) -> None:
    """A watcher that is started again takes up what has happened since its predecessor died."""
    revision = initial_revision(load_config(home / "nerve.yaml"), Workspace(home))
    in_place(home / "senses" / "one.py", compute("meanwhile"))
    start(revision).until_source(compute("meanwhile"))


def test_without_the_kernel_the_watcher_ends(home: Path) -> None:
    """Its link is its lifeline."""
    rig = Rig(home)
    rig.link.close()
    rig._thread.join(DEADLINE)
    assert rig.end()


def test_a_folder_that_cannot_be_watched_is_told_and_so_is_that_it_can_be(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person must know that a save there has no effect; what can be watched still is."""
    schedule = BaseObserver.schedule

    def refuse(observer: BaseObserver, handler: Any, path: str, **options: Any) -> Any:
        if path.endswith("/lib"):
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        return schedule(observer, handler, path, **options)

    monkeypatch.setattr(BaseObserver, "schedule", refuse)
    (home / "lib").mkdir()
    (home / "lib" / "two.py").write_text(compute(2))
    in_place(home / "nerve.yaml", CONFIG.replace("two: ", "two: {path: lib/two.py}"))
    rig = start()
    assert rig.blind == (f"{home}/lib (inotify watch limit reached)",)
    in_place(home / "senses" / "one.py", compute("seen"))
    rig.until_source(compute("seen"))
    in_place(home / "nerve.yaml", CONFIG)
    rig.wait(lambda: rig.blind == (), "nothing is left that can't be watched")


def test_a_sense_whose_folders_are_gone_is_noticed_once_it_is_back(home: Path, start: Start) -> None:
    """However many of them are missing: each that comes leads to the next."""
    (home / "a" / "b" / "c").mkdir(parents=True)
    in_place(home / "a" / "b" / "c" / "two.py", compute(2))
    in_place(home / "nerve.yaml", CONFIG.replace("two: ", "two: {path: a/b/c/two.py}"))
    rig = start()
    shutil.rmtree(home / "a")
    rig.wait(lambda: watched(rig) == {home, home / "senses"}, "nothing below is watched")
    for folder in ("a", "a/b", "a/b/c"):
        (home / folder).mkdir()
        rig.wait(lambda folder=folder: home / folder in watched(rig), f"{folder} is watched")
    in_place(home / "a" / "b" / "c" / "two.py", compute("there"))
    rig.until_source(compute("there"), "two")


def watched(rig: Rig) -> set[Path]:
    """Give the folders that a watcher watches."""
    return {Path(place.path) for place in rig.watcher._places}
