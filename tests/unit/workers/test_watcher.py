"""The watcher on real folders: however a file changes, the kernel gets an update."""

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
from watchdog.events import FileSystemEvent
from watchdog.observers.api import BaseObserver

from nerve.clock import SystemClock
from nerve.config.config import load_config
from nerve.ipc.channel import Channel
from nerve.processes.child import ChildContext
from nerve.processes.messages import Finish, FromChild, Ready, Rescan, ToChild, UnwatchedFolders
from nerve.reload import file_watch
from nerve.reload.revision import Delta, Revision, initial_revision
from nerve.reload.snapshot import read_snapshot
from nerve.reload.update import Update, plan_update
from nerve.workers.watcher import Watcher
from nerve.workspace import Workspace

# watchdog warns of a folder that it finds twice while it is being made, and goes on.
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")

DEADLINE = 10.0
CONFIG = "workers: 1\nsenses: {one: , two: }\n"
Start = Callable[..., "Harness"]


def compute(value: object, importing: str = "") -> str:
    """Return the source of a sense that signals a value."""
    return f"{importing}\ndef compute(ctx): return {value!r}\n"


class Harness:
    """A workspace, a watcher in a thread, and the kernel's end of its link."""

    def __init__(self, home: Path, revision: Revision | None = None) -> None:
        self.workspace = Workspace(home)
        self.revision = revision or initial_revision(load_config(self.workspace.config_path), self.workspace)
        self.updates: list[Update] = []
        self.ready = False
        self.unwatched: tuple[str, ...] = ()
        ours, theirs = socket.socketpair()
        self.link: Channel[FromChild] = Channel(ours, FromChild)
        self._theirs: Channel[ToChild] = Channel(theirs, ToChild)
        boot = SimpleNamespace(workspace=self.workspace, revision=self.revision)
        context = cast(ChildContext, SimpleNamespace(boot=boot))
        self.process = Watcher(context, self._theirs, SystemClock())
        self._thread = threading.Thread(target=self.process.serve)
        self._thread.start()
        self.wait(lambda: self.ready, "the watcher is ready")

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Handle the watcher's messages as the kernel does, until a condition holds."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() >= deadline:
                raise AssertionError(f"not after {DEADLINE:g} s: {what}; problems: {self.revision.problems}")
            for message in self.link.wait(0.05):
                self._handle(message)

    def _handle(self, message: FromChild) -> None:
        if isinstance(message, Ready):
            self.ready = True
            return
        if isinstance(message, UnwatchedFolders):
            self.unwatched = message.folders
            return
        assert isinstance(message, Update)
        self.updates.append(message)
        self.revision = self.revision.apply(message.unpack())

    def settle(self) -> Revision:
        """Wait until every valid file on disk is active, and return the revision."""

        def remaining() -> Delta:
            return plan_update(self.revision, read_snapshot(self.workspace, self.revision), home=self.workspace.home)

        self.wait(lambda: remaining().is_empty, "the files on disk are active")
        return self.revision

    def source(self, sense: str = "one") -> str:
        """Return the source of a sense's active version."""
        return self.revision.versions[sense].main.source.decode()

    def until_source(self, source: str, sense: str = "one") -> None:
        """Wait until a sense has this source."""
        self.wait(lambda: self.source(sense) == source, f"{sense} is {source!r}")

    def end(self) -> bool:
        """Tell the watcher to finish, and return True if it did."""
        self.link.send(Finish())
        self._thread.join(DEADLINE)
        for end in (self.link, self._theirs, self.process._files):
            end.close()
        return not self._thread.is_alive()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a workspace of two senses."""
    home = (tmp_path / "ws").resolve()
    (home / "senses").mkdir(parents=True)
    (home / "senses" / "one.py").write_text(compute(1))
    (home / "senses" / "two.py").write_text(compute(2))
    (home / "nerve.yaml").write_text(CONFIG)
    return home


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Return a function that starts the watcher; at the end each must finish when it is told to."""
    running: list[Harness] = []

    def started(revision: Revision | None = None) -> Harness:
        running.append(Harness(home, revision))
        return running[-1]

    yield started
    assert all(watcher.end() for watcher in running)


@pytest.fixture
def watcher(start: Start) -> Harness:
    """Return a running watcher of the workspace."""
    return start()


# The ways in which files change.


def in_place(path: Path, text: str) -> None:
    """Write over the old content."""
    path.write_text(text)


def by_rename(path: Path, text: str) -> None:
    """Write another file and rename it, as most editors do."""
    beside = path.with_suffix(".tmp")
    beside.write_text(text)
    beside.replace(path)


def by_backup(path: Path, text: str) -> None:
    """Rename the old file, then write a new one, as vim does."""
    path.rename(f"{path}~")
    path.write_text(text)
    Path(f"{path}~").unlink()


def by_removal(path: Path, text: str) -> None:
    """Remove the old file, then write a new one."""
    path.unlink()
    path.write_text(text)


def by_link(path: Path, text: str) -> None:
    """Replace it by a link to a file elsewhere in the workspace."""
    target = path.parent.parent / "elsewhere.py"
    target.write_text(text)
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("save", [in_place, by_rename, by_backup, by_removal, by_link])
def test_a_saved_sense_gets_a_new_version(watcher: Harness, home: Path, save: Callable[[Path, str], None]) -> None:
    """This holds for every way to save, and for another save after it; the other sense keeps its version."""
    before = watcher.revision.versions["two"]
    save(home / "senses" / "one.py", compute(3))
    watcher.until_source(compute(3))
    by_rename(home / "senses" / "one.py", compute(4))
    watcher.until_source(compute(4))
    assert watcher.settle().versions["two"] == before
    assert watcher.revision.problems == ()


@pytest.mark.parametrize("save", [in_place, by_rename, by_backup, by_removal])
def test_a_saved_nerve_yaml_becomes_active(watcher: Harness, home: Path, save: Callable[[Path, str], None]) -> None:
    """The folders that it names are watched from then on."""
    (home / "lib").mkdir()
    (home / "lib" / "far.py").write_text(compute("far"))
    save(home / "nerve.yaml", "workers: 2\nsenses: {one: , far: {path: lib/far.py}}\n")
    watcher.wait(lambda: set(watcher.revision.versions) == {"one", "far"}, "the new sense is active")
    assert watcher.revision.config.workers == 2
    by_rename(home / "lib" / "far.py", compute("farther"))
    watcher.until_source(compute("farther"), "far")


def test_a_broken_sense_is_reported_and_so_is_its_fix(watcher: Harness, home: Path) -> None:
    """The working version stays active meanwhile; restoring the old code clears the problem."""
    before = watcher.revision
    in_place(home / "senses" / "one.py", "x = 1\ndef compute(:\n")
    watcher.wait(lambda: watcher.revision.problems, "the problem is reported")
    assert watcher.revision.problems == ("senses/one.py:2: invalid syntax",)
    assert watcher.revision.versions == before.versions
    in_place(home / "senses" / "one.py", compute(1))
    watcher.wait(lambda: not watcher.revision.problems, "the problem is gone")
    assert watcher.revision == before


def test_a_broken_nerve_yaml_is_reported_and_so_is_its_fix(watcher: Harness, home: Path) -> None:
    """The working configuration stays active meanwhile."""
    before = watcher.revision
    in_place(home / "nerve.yaml", CONFIG + "nonsense: 1\nworkers: many\n")
    watcher.wait(lambda: watcher.revision.problems, "the problems are reported")
    assert len(watcher.settle().config_problems) == 2
    assert watcher.revision.config == before.config
    in_place(home / "nerve.yaml", CONFIG)
    watcher.wait(lambda: not watcher.revision.problems, "the problems are gone")
    assert watcher.revision == before


def test_an_added_sense_becomes_active_and_a_removed_one_goes(watcher: Harness, home: Path) -> None:
    """Its file may be written or removed before or after the edit of nerve.yaml; meanwhile it is a problem."""
    in_place(home / "nerve.yaml", "workers: 1\nsenses: {one: , two: , three: }\n")
    watcher.wait(lambda: watcher.revision.problems, "the missing file is reported")
    in_place(home / "senses" / "three.py", compute(3))
    watcher.wait(lambda: "three" in watcher.revision.versions, "the new sense is active")
    assert watcher.settle().problems == ()
    (home / "senses" / "two.py").unlink()
    watcher.wait(lambda: watcher.revision.problems, "the missing file is reported")
    in_place(home / "nerve.yaml", "workers: 1\nsenses: {one: , three: }\n")
    watcher.wait(lambda: set(watcher.revision.versions) == {"one", "three"}, "the removed sense is gone")
    assert watcher.settle().problems == ()


def test_helpers_are_watched_at_any_depth(watcher: Harness, home: Path) -> None:
    """This includes folders that did not exist when the watcher started."""
    (home / "senses" / "lib" / "deep").mkdir(parents=True)
    in_place(home / "senses" / "lib" / "deep" / "units.py", "x = 1")
    in_place(home / "senses" / "one.py", compute(1, "import lib.deep.units"))
    watcher.wait(lambda: watcher.revision.versions["one"].helpers, "the helper is part of the version")
    watcher.settle()
    before = watcher.revision.versions["one"]
    by_rename(home / "senses" / "lib" / "deep" / "units.py", "x = 2")
    watcher.wait(lambda: watcher.revision.versions["one"] != before, "the changed helper is active")
    assert [module.source for module in watcher.revision.versions["one"].helpers] == [b"x = 2"]


def test_a_replaced_senses_folder_is_watched(watcher: Harness, home: Path) -> None:
    """A deployment may swap folders: the new files and later edits of them take effect, edits of the old ones don't."""
    shutil.copytree(home / "senses", home / "new")
    in_place(home / "new" / "one.py", compute("moved"))
    (home / "senses").rename(home / "old")
    (home / "new").rename(home / "senses")
    watcher.until_source(compute("moved"))
    in_place(home / "senses" / "one.py", compute("edited"))
    watcher.until_source(compute("edited"))
    in_place(home / "old" / "two.py", compute("not this one"))
    in_place(home / "senses" / "two.py", compute("this one"))
    watcher.until_source(compute("this one"), "two")
    assert watcher.settle().problems == ()


def test_a_senses_folder_that_is_missing_for_a_while_is_watched_again(watcher: Harness, home: Path) -> None:
    """The active versions stay meanwhile."""
    (home / "senses").rename(home.parent / "away")
    watcher.wait(lambda: watcher.revision.problems, "the missing files are reported")
    assert set(watcher.revision.versions) == {"one", "two"}
    (home.parent / "away").rename(home / "senses")
    watcher.wait(lambda: not watcher.revision.problems, "nothing is missing any more")
    in_place(home / "senses" / "one.py", compute("back"))
    watcher.until_source(compute("back"))


def git(home: Path, *arguments: str) -> None:
    """Run git in the workspace, independent of the user's settings."""
    settings = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    subprocess.run(["git", *settings, *arguments], cwd=home, env=environment, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_checkout_of_another_branch_becomes_active(home: Path, start: Start) -> None:
    """It changes, adds and removes files and edits nerve.yaml; the checkout of the first branch undoes it all."""
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
    watcher = start()
    for _ in range(2):
        git(home, "checkout", "other")
        watcher.wait(lambda: watcher.revision.config.workers == 3, "the other branch is active")
        assert set(watcher.settle().versions) == {"one", "three"}
        assert (watcher.source(), watcher.revision.problems) == (compute("other"), ())
        assert [module.name for module in watcher.revision.versions["three"].helpers] == ["lib.units"]
        git(home, "checkout", "main")
        watcher.wait(lambda: watcher.revision.config.workers == 1, "the first branch is active")
        assert set(watcher.settle().versions) == {"one", "two"}
        assert (watcher.source(), watcher.revision.problems) == (compute(1), ())


def test_a_nerve_yaml_behind_a_link_is_watched(home: Path, start: Start) -> None:
    """Both the target and the link itself are."""
    (home / "conf").mkdir()
    for name, workers in (("a.yaml", 1), ("b.yaml", 5)):
        (home / "conf" / name).write_text(CONFIG.replace("1", str(workers)))
    (home / "nerve.yaml").unlink()
    (home / "nerve.yaml").symlink_to("conf/a.yaml")
    watcher = start()
    by_rename(home / "conf" / "a.yaml", CONFIG.replace("1", "4"))
    watcher.wait(lambda: watcher.revision.config.workers == 4, "the edited file is active")
    (home / "link").symlink_to("conf/b.yaml")
    (home / "link").rename(home / "nerve.yaml")
    watcher.wait(lambda: watcher.revision.config.workers == 5, "the other file is active")
    in_place(home / "conf" / "b.yaml", CONFIG.replace("1", "6"))
    watcher.wait(lambda: watcher.revision.config.workers == 6, "the edited other file is active")


def test_no_save_of_many_is_missed(watcher: Harness, home: Path) -> None:
    """After saves in quick succession, of all kinds and of all files, the files on disk are active."""
    saves = (in_place, by_rename, by_backup, by_removal)
    for number in range(60):
        name = ("one", "two")[number % 2]
        saves[number % len(saves)](home / "senses" / f"{name}.py", compute(number) if number % 7 else "x = = 1")
        if number % 10 == 0:
            by_rename(home / "nerve.yaml", CONFIG.replace("1", str(number + 1)))
    watcher.until_source(compute(58))
    watcher.until_source(compute(59), "two")
    watcher.wait(lambda: watcher.revision.config.workers == 51, "the last nerve.yaml is active")
    assert watcher.settle().problems == ()


# Messages from and to the kernel.


def test_a_rescan_is_answered_with_everything_reloaded(watcher: Harness) -> None:
    """The answer has the number of the request, even if no file has changed."""
    watcher.link.send(Rescan(7))
    watcher.wait(lambda: watcher.updates, "the rescan is answered")
    [update] = watcher.updates
    assert (update.request, update.config) == (7, watcher.revision.config)
    assert set(update.unpack().versions) == {"one", "two"}
    assert watcher.revision.generation == 1
    watcher.link.send(Rescan(8))
    watcher.wait(lambda: len(watcher.updates) == 2, "the next rescan is answered")
    assert (watcher.updates[1].request, watcher.revision.generation) == (8, 2)


def test_a_change_before_the_watcher_started_is_reported(home: Path, start: Start) -> None:
    """A restarted watcher finds what has changed since its predecessor died."""
    revision = initial_revision(load_config(home / "nerve.yaml"), Workspace(home))
    in_place(home / "senses" / "one.py", compute("meanwhile"))
    start(revision).until_source(compute("meanwhile"))


def test_the_watcher_ends_when_the_kernel_is_gone(home: Path) -> None:
    """It notices that its link is closed."""
    watcher = Harness(home)
    watcher.link.close()
    watcher._thread.join(DEADLINE)
    assert watcher.end()


def test_an_unwatched_folder_is_reported_until_it_is_no_longer_needed(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users must know that a save there has no effect; the other folders are watched."""
    schedule = BaseObserver.schedule

    def refuse(observer: BaseObserver, handler: Any, path: str, **options: Any) -> Any:
        if path.endswith("/lib"):
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        return schedule(observer, handler, path, **options)

    monkeypatch.setattr(BaseObserver, "schedule", refuse)
    (home / "lib").mkdir()
    (home / "lib" / "two.py").write_text(compute(2))
    in_place(home / "nerve.yaml", CONFIG.replace("two: ", "two: {path: lib/two.py}"))
    watcher = start()
    assert watcher.unwatched == (f"{home}/lib (inotify watch limit reached)",)
    in_place(home / "senses" / "one.py", compute("seen"))
    watcher.until_source(compute("seen"))
    in_place(home / "nerve.yaml", CONFIG)
    watcher.wait(lambda: watcher.unwatched == (), "no folder is unwatched")


def test_a_sense_whose_folders_were_removed_is_detected_when_it_is_back(home: Path, start: Start) -> None:
    """Any number of folders may be missing: each one that is created leads to the next."""
    (home / "a" / "b" / "c").mkdir(parents=True)
    in_place(home / "a" / "b" / "c" / "two.py", compute(2))
    in_place(home / "nerve.yaml", CONFIG.replace("two: ", "two: {path: a/b/c/two.py}"))
    watcher = start()
    shutil.rmtree(home / "a")
    watcher.wait(lambda: watched(watcher) == {home, home / "senses"}, "nothing below is watched")
    for folder in ("a", "a/b", "a/b/c"):
        (home / folder).mkdir()
        watcher.wait(lambda folder=folder: home / folder in watched(watcher), f"{folder} is watched")
    in_place(home / "a" / "b" / "c" / "two.py", compute("there"))
    watcher.until_source(compute("there"), "two")


def test_a_watcher_without_an_inotify_instance_answers_rescans(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it notices no change, and sees again once the system has room for it."""
    full = OSError(errno.EMFILE, "inotify instance limit reached")
    with monkeypatch.context() as patch:
        patch.setattr(file_watch, "Observer", raising(full))
        watcher = start()
        assert watcher.unwatched == (f"{home} and its senses (inotify instance limit reached)",)
        in_place(home / "senses" / "one.py", compute("by hand"))
        watcher.link.send(Rescan(1))
        watcher.until_source(compute("by hand"))
    watcher.link.send(Rescan(2))
    watcher.wait(lambda: watcher.unwatched == (), "all folders are watched")
    in_place(home / "senses" / "one.py", compute("seen"))
    watcher.until_source(compute("seen"))


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread")]
)
def test_a_watcher_that_can_open_nothing_more_says_why(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A descriptor or a thread may be missing as well."""
    monkeypatch.setattr(file_watch, "Observer", raising(error))
    assert start().unwatched == (f"{home} and its senses ({getattr(error, 'strerror', error)})",)


def raising(error: Exception) -> Callable[..., Any]:
    """Return a function that raises an error."""

    def fail(*_: object) -> None:
        raise error

    return fail


def test_a_file_that_grows_in_the_workspace_does_not_wake_the_watcher(
    watcher: Harness, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither does any other file that is none of nerve's; the system doesn't even report the single writes."""
    seen: list[tuple[str, bool]] = []
    matters = file_watch.ChangeFilter.matters

    def record(changes: file_watch.ChangeFilter, event: FileSystemEvent) -> bool:
        seen.append((Path(os.fsdecode(event.src_path)).name, matters(changes, event)))
        return seen[-1][1]

    monkeypatch.setattr(file_watch.ChangeFilter, "matters", record)
    with (home / "grows.log").open("a") as growing:
        for number in range(20):
            growing.write(f"line {number}\n")
            growing.flush()
            for name in ("nerve.log", "app.db-journal", "senses/data.csv", "4913"):
                in_place(home / name, f"line {number}\n")
            (home / "app.db-journal").unlink()
            (home / "nerve.log").rename(home / f"nerve.log.{number}")
        in_place(home / "fence.py", "")
        watcher.wait(lambda: ("fence.py", True) in seen, "everything before the fence is reported")
    assert {name for name, is_change in seen if is_change} == {"fence.py"}
    assert [name for name, _ in seen].count("grows.log") <= 2  # it was made, and perhaps closed


def test_a_sense_that_is_written_without_being_closed_is_a_change(watcher: Harness, home: Path) -> None:
    """In the senses' folder the system reports every write."""
    with (home / "senses" / "one.py").open("r+") as sense:
        sense.write(compute(9))
        sense.flush()
        watcher.until_source(compute(9))


def watched(watcher: Harness) -> set[Path]:
    """Return the folders that a watcher watches."""
    return {Path(folder.path) for folder in watcher.process._files.folders}
