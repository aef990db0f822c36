"""What is on disk against what is in force: the update is what changes, and no more."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nerve.config.config import Config, ReflexConfig, SenseConfig, load_config
from nerve.reload.codebase import Codebase, SourceFile, Version
from nerve.reload.revision import Revision, initial_revision
from nerve.reload.snapshot import Snapshot, read_snapshot
from nerve.reload.update import Update, applied, plan_update, unpacked
from nerve.workspace import Workspace

HOME = Path("/w")
GOOD = (
    "def compute(ctx): return 1",
    "def compute(ctx): return 2",
    "import h\ndef compute(ctx): return h",
    "import h as compute",
)
BAD = ("x = = 1", "import h", "return 1")
HELPERS = ("x = 1", "x = 2", "x = = 3", "\n4 = x", None)
NAMES = ("one", "two", "three")
NERVE_YAML = SourceFile("nerve.yaml", "/w/nerve.yaml", b"senses: {}")


def config_of(senses: tuple[str, ...], workers: int = 2) -> Config:
    """Make a configuration with these senses."""
    return Config(workers=workers, senses={name: SenseConfig(name, f"/w/senses/{name}.py") for name in senses})


def main_of(name: str, source: str) -> SourceFile:
    """Make a sense's own file."""
    return SourceFile(f"senses.{name}", f"/w/senses/{name}.py", source.encode())


def helper_of(source: str | None) -> list[SourceFile]:
    """Make the one helper that there is, or isn't."""
    return [] if source is None else [SourceFile("h", "/w/senses/h.py", source.encode())]


@dataclass(frozen=True)
class Files:
    """Everything on disk: no configuration means a broken nerve.yaml."""

    config: Config | None
    mains: dict[str, str]
    helper: str | None

    def disk(self, revision: Revision) -> Snapshot:
        """Read it all, as `read_snapshot` does."""
        senses = (self.config or revision.config).senses
        problems = () if self.config else ("nerve.yaml:1: is broken",)
        mains = {name: main_of(name, self.mains[name]) for name in senses}
        return Snapshot(self.config, problems, mains, Codebase(helper_of(self.helper)), NERVE_YAML)

    def is_good(self, name: str) -> bool:
        """Tell whether a sense can run as it is."""
        source = self.mains[name]
        return source in GOOD and not ("import h" in source and self.helper in HELPERS[2:4])


configs = st.builds(config_of, st.lists(st.sampled_from(NAMES), unique=True).map(tuple), st.integers(1, 2))
files = st.builds(
    Files,
    st.none() | configs,
    st.fixed_dictionaries(dict.fromkeys(NAMES, st.sampled_from(GOOD + BAD))),
    st.sampled_from(HELPERS),
)


def started(at_start: Files) -> Revision:
    """Take what is on disk at the start."""
    config = at_start.config or config_of(NAMES)
    codebase = Codebase(helper_of(at_start.helper))
    return Revision(config, {name: codebase.version(main_of(name, at_start.mains[name])) for name in config.senses})


def content(version: Version) -> tuple[bytes, ...]:
    """Give what a version is made of, whatever its generation."""
    return tuple(module.source for module in version.files)


@settings(max_examples=200, deadline=None)
@given(at_start=files, history=st.lists(st.tuples(files, st.none() | st.just(7)), max_size=6))
def test_whatever_happens_on_disk_the_last_good_of_it_is_in_force(
    at_start: Files, history: list[tuple[Files, int | None]]
) -> None:
    """Config by config and sense by sense, together with what is wrong; looking again finds nothing more."""
    revision = started(at_start)
    for on_disk, request in history:
        before = revision
        disk = on_disk.disk(before)
        update = plan_update(before, disk, home=HOME, request=request)
        revision = applied(before, update)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(update), type=Update) == update
        assert revision.config == (on_disk.config or before.config)
        assert revision.config_problems == disk.problems
        assert revision.versions.keys() == revision.config.senses.keys()
        check_senses(before, revision, on_disk, disk)
        # A sense that was broken and is gone from a configuration that is broken too is looked at again later.
        again = plan_update(revision, on_disk.disk(revision), home=HOME)
        assert again.is_empty


def check_senses(before: Revision, after: Revision, on_disk: Files, disk: Snapshot) -> None:
    """Each good sense is as on disk, each broken one as before (or, if it is new, as it is), with its problem."""
    assert after.broken.keys() == {name for name in after.config.senses if not on_disk.is_good(name)}
    for name, version in after.versions.items():
        there = disk.codebase.version(disk.mains[name])
        if on_disk.is_good(name) or name not in before.versions:
            assert (content(version), version.digest) == (content(there), there.digest)
        else:
            assert version == before.versions[name]
            assert after.broken[name].startswith(("senses/h.py:", f"senses/{name}.py:"))


def good(*, helper: str | None = "x = 1", workers: int = 2, **mains: str) -> Files:
    """Give files with a sound configuration."""
    return Files(config_of(tuple(mains), workers), mains, helper)


ONE = good(one=GOOD[2], two=GOOD[0])


def after(*states: Files) -> tuple[Revision, Update]:
    """Let one state of the disk follow the other; give what is then in force, and the last update."""
    revision, update = started(states[0]), Update()
    for state in states[1:]:
        update = plan_update(revision, state.disk(revision), home=HOME)
        revision = applied(revision, update)
    return revision, update


def test_nothing_new_changes_nothing() -> None:
    """The watcher is woken by more than changes."""
    assert after(ONE, ONE)[1].is_empty


def test_a_changed_helper_changes_the_senses_that_import_it() -> None:
    """And no others; its file is in the update once."""
    first = good(one=GOOD[2], two=GOOD[0], three=GOOD[2])
    revision, update = after(first, replace(first, helper="x = 2"))
    assert set(unpacked(update)) == {"one", "three"}
    assert [module.name for module in update.modules].count("h") == 1
    assert revision.versions["one"].helpers[0].source == b"x = 2"
    assert (update.config, update.problems, update.broken) == (None, None, {})


def test_a_changed_configuration_changes_no_sense() -> None:
    """What it says of a sense is no part of its code."""
    revision, update = after(ONE, good(one=GOOD[2], two=GOOD[0], workers=5))
    assert (update.config, update.versions) == (revision.config, ())
    assert revision.config.workers == 5


def test_a_broken_sense_is_told_once() -> None:
    """Again only when it is broken in another way; mended, it runs, even if that is what ran all along."""
    broken, otherwise = good(one="x = = 1", two=GOOD[0]), good(one="\nx = = 1", two=GOOD[0])
    revision, update = after(ONE, broken)
    assert update.broken == {"one": "senses/one.py:1: invalid syntax"}
    assert revision.problems == ("senses/one.py:1: invalid syntax",)
    assert after(ONE, broken, broken)[1].is_empty
    assert after(ONE, broken, otherwise)[1].broken == {"one": "senses/one.py:2: invalid syntax"}
    revision, update = after(ONE, broken, ONE)
    assert set(unpacked(update)) == {"one"}
    assert (revision.problems, revision) == ((), started(ONE))


def test_a_broken_helper_is_a_problem_of_each_sense_that_imports_it() -> None:
    """They stay as they are; in all it is one line."""
    first = good(one=GOOD[2], two=GOOD[2], three=GOOD[0])
    revision, update = after(first, replace(first, helper="\n\nx = = 1"))
    assert update.broken == dict.fromkeys(("one", "two"), "senses/h.py:3: invalid syntax")
    assert update.versions == ()
    assert revision.problems == ("senses/h.py:3: invalid syntax",)


def test_a_broken_configuration_is_told_once_and_hides_no_sense() -> None:
    """The senses that run can be edited meanwhile; mended, the file is in force, even if nothing in it is new."""
    broken = Files(None, ONE.mains, ONE.helper)
    revision, update = after(ONE, broken)
    assert (update.config, update.problems) == (None, ("nerve.yaml:1: is broken",))
    assert revision.config == ONE.config
    assert after(ONE, broken, broken)[1].is_empty
    edited = Files(None, {**ONE.mains, "two": GOOD[1]}, ONE.helper)
    revision, update = after(ONE, broken, edited)
    assert set(unpacked(update)) == {"two"}
    assert revision.config_problems
    revision, update = after(ONE, broken, ONE)
    assert update.config == ONE.config
    assert revision == started(ONE)


def test_senses_come_and_go_with_the_configuration() -> None:
    """A new one has its version in the same update; one that is gone takes its problems along."""
    broken = good(one="x = = 1", two=GOOD[0])
    revision, update = after(ONE, broken, good(two=GOOD[0], three=GOOD[1]))
    assert set(unpacked(update)) == {"three"}
    assert set(revision.versions) == {"two", "three"}
    assert revision.problems == ()


def test_a_new_sense_that_is_broken_is_in_force_with_its_problem() -> None:
    """There is nothing else that could be; its runs fail until it is mended."""
    revision, update = after(ONE, good(one=GOOD[2], two=GOOD[0], three="x = = 1"))
    assert set(unpacked(update)) == set(update.broken) == {"three"}
    assert revision.versions["three"].main.source == b"x = = 1"
    assert revision.problems == ("senses/three.py:1: invalid syntax",)


def test_a_request_takes_everything_good_as_changed() -> None:
    """In a generation of its own; what is broken stays, and is told again."""
    broken = good(one="x = = 1", two=GOOD[0])
    revision, _ = after(ONE, broken)
    update = plan_update(revision, broken.disk(revision), home=HOME, request=9)
    assert (update.request, update.config, set(unpacked(update))) == (9, broken.config, {"two"})
    assert update.broken == revision.broken
    revision = applied(revision, update)
    assert {name: version.generation for name, version in revision.versions.items()} == {"one": 0, "two": 1}
    assert plan_update(revision, broken.disk(revision), home=HOME).is_empty
    mended = applied(revision, plan_update(revision, ONE.disk(revision), home=HOME))
    assert plan_update(mended, ONE.disk(mended), home=HOME).is_empty


def test_a_request_is_answered_even_where_all_is_broken() -> None:
    """With the problems, all of them, though they are known."""
    broken = Files(None, dict.fromkeys(ONE.mains, "x = = 1"), None)
    revision, _ = after(ONE, broken)
    update = plan_update(revision, broken.disk(revision), home=HOME, request=1)
    assert (update.request, update.problems, set(update.broken)) == (1, ("nerve.yaml:1: is broken",), {"one", "two"})


def test_too_much_source_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version has to fit into a message."""
    monkeypatch.setattr("nerve.reload.update.MAX_CODE_BYTES", 60)
    revision, update = after(ONE, replace(ONE, helper="x = 1" + " " * 50))
    assert set(update.broken) == {"one"}
    assert "more than" in update.broken["one"]
    assert content(revision.versions["one"]) == (GOOD[2].encode(), b"x = 1")


def test_a_sense_that_is_kept_elsewhere_is_named_by_its_place() -> None:
    """Relative to the workspace, as nerve.yaml names it."""
    config = Config(senses={"one": SenseConfig("one", "/w/lib/x.py")})
    main = SourceFile("senses.one", "/w/lib/x.py", b"", "can't be read: No such file or directory")
    revision = Revision(config, {"one": Codebase([]).version(main)})
    update = plan_update(revision, Snapshot(config, (), {"one": main}, Codebase([]), NERVE_YAML), home=HOME)
    assert update.broken == {"one": "lib/x.py:1: can't be read: No such file or directory"}


# Reading the disk.


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Give a workspace of two senses and a helper."""
    (tmp_path / "senses").mkdir()
    (tmp_path / "senses" / "one.py").write_text("import h\ndef compute(ctx): ...")
    (tmp_path / "senses" / "two.py").write_text("def compute(ctx): ...")
    (tmp_path / "senses" / "h.py").write_text("")
    (tmp_path / "nerve.yaml").write_text("workers: 1\nsenses: {one: , two: }\nreflexes: [{sense: two, on: one}]\n")
    return Workspace(tmp_path.resolve())


def test_what_is_read_at_the_start_is_what_is_read_later(workspace: Workspace) -> None:
    """So that the watcher's first look finds nothing, whoever wrote the files and when."""
    revision = initial_revision(load_config(workspace.config_path), workspace)
    assert plan_update(revision, read_snapshot(workspace, revision), home=workspace.home).is_empty
    assert revision.config.reflexes == (ReflexConfig("two-on-one", "two", None, ("one",)),)
    assert [module.name for module in revision.versions["one"].files] == ["senses.one", "h"]


def test_a_nerve_yaml_that_is_gone_or_broken_is_a_problem_of_its_own(workspace: Workspace) -> None:
    """The senses are then those that run."""
    revision = initial_revision(load_config(workspace.config_path), workspace)
    for spoil in (lambda: workspace.config_path.write_text("workers: ["), workspace.config_path.unlink):
        spoil()
        disk = read_snapshot(workspace, revision)
        assert disk.config is None
        assert len(disk.problems) == 1
        assert set(disk.mains) == {"one", "two"}


def test_a_folder_that_is_gone_breaks_the_senses_and_nothing_else(workspace: Workspace) -> None:
    """As between the two steps of a checkout."""
    revision = initial_revision(load_config(workspace.config_path), workspace)
    shutil.rmtree(workspace.senses_dir)
    update = plan_update(revision, read_snapshot(workspace, revision), home=workspace.home)
    assert update.versions == ()
    assert set(update.broken) == {"one", "two"}
    assert len(update.problems or ()) == 2


@pytest.mark.parametrize(
    ("source", "name", "age", "waited", "left"),
    [
        (b"x = 1", "h", 0.01, 0.0, 0.04),
        (b"x = 1", "h", 0.06, 0.0, 0.0),
        (b"x = 1", "h", 0.01, 2.0, 0.0),
        (b"", "h", 0.7, 0.0, 2.3),
        (b"", "h", 0.7, 10.0, 0.0),
        (b"", "new", 0.1, 0.0, 0.2),
        (b"", "new", 0.4, 0.0, 0.0),
        (b"x = 1", "h", -0.001, 0.0, 0.051),
        (b"x = 1", "h", -3600.0, 0.0, 0.0),
    ],
)
def test_a_file_that_is_just_being_saved_is_waited_for(
    source: bytes, name: str, age: float, waited: float, left: float
) -> None:
    """Longest for one that has been emptied; in the end it counts as it is, and one from the future says nothing."""
    before = Codebase([SourceFile("h", "/w/senses/h.py", b"x = 0")])
    revision = Revision(config_of(("one",)), {"one": before.version(main_of("one", "import h\ndef compute(ctx): ..."))})
    file = SourceFile(name, f"/w/senses/{name}.py", source, modified=round((1000 - age) * 1e9))
    disk = Snapshot(revision.config, (), {}, Codebase([file]), NERVE_YAML)
    assert disk.unsettled_seconds(1000.0, waited, revision) == pytest.approx(left)
