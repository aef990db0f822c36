"""Reading the files on disk, and waiting for one that is being saved."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nerve.config.config import Config, ReflexConfig, SenseConfig, load_config
from nerve.reload.codebase import Codebase, SourceFile
from nerve.reload.revision import Revision, initial_revision
from nerve.reload.snapshot import Snapshot, read_snapshot
from nerve.reload.update import plan_update
from nerve.workspace import Workspace

NOW = 1000.0
CONFIG_FILE = SourceFile(name="nerve.yaml", path="/w/nerve.yaml", source=b"senses: {}")
SENSE = SourceFile(name="senses.one", path="/w/senses/one.py", source=b"import h\ndef compute(ctx): ...")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a workspace of two senses and a helper."""
    (tmp_path / "senses").mkdir()
    (tmp_path / "senses" / "one.py").write_text("import h\ndef compute(ctx): ...")
    (tmp_path / "senses" / "two.py").write_text("def compute(ctx): ...")
    (tmp_path / "senses" / "h.py").write_text("")
    (tmp_path / "nerve.yaml").write_text("workers: 1\nsenses: {one: , two: }\nreflexes: [{sense: two, on: one}]\n")
    return Workspace(tmp_path.resolve())


@pytest.fixture
def revision(workspace: Workspace) -> Revision:
    """Return the revision that an engine in the workspace starts with."""
    return initial_revision(load_config(workspace.config_path), workspace)


def test_the_initial_revision_and_the_first_snapshot_are_the_same(workspace: Workspace, revision: Revision) -> None:
    """The watcher's first look must not cause an update."""
    assert plan_update(revision, read_snapshot(workspace, revision), home=workspace.home).is_empty
    assert revision.config.reflexes == (ReflexConfig("two-on-one", "two", None, ("one",)),)
    assert [module.name for module in revision.versions["one"].files] == ["senses.one", "h"]


@pytest.mark.parametrize("text", ["workers: [", None])
def test_a_broken_or_missing_nerve_yaml_is_one_problem(
    workspace: Workspace, revision: Revision, text: str | None
) -> None:
    """The senses are then those of the active configuration."""
    if text is None:
        workspace.config_path.unlink()
    else:
        workspace.config_path.write_text(text)
    snapshot = read_snapshot(workspace, revision)
    assert snapshot.config is None
    assert len(snapshot.problems) == 1
    assert set(snapshot.mains) == {"one", "two"}


def test_an_empty_nerve_yaml_is_a_problem(workspace: Workspace, revision: Revision) -> None:
    """A save that failed halfway must not remove every sense."""
    workspace.config_path.write_text("")
    snapshot = read_snapshot(workspace, revision)
    problem = "nerve.yaml:1: is empty; for a workspace without senses write `senses: {}`"
    assert (snapshot.config, snapshot.problems) == (None, (problem,))


def test_a_missing_senses_folder_breaks_the_senses_and_nothing_else(workspace: Workspace, revision: Revision) -> None:
    """That is what a checkout looks like between two of its steps."""
    shutil.rmtree(workspace.senses_dir)
    delta = plan_update(revision, read_snapshot(workspace, revision), home=workspace.home)
    assert delta.versions == {}
    assert set(delta.broken) == {"one", "two"}
    assert len(delta.config_problems or ()) == 2


@pytest.mark.parametrize(
    ("source", "name", "age", "waited", "remaining"),
    [
        pytest.param(b"x = 1", "h", 0.01, 0.0, 0.04, id="with content, just written"),
        pytest.param(b"x = 1", "h", 0.06, 0.0, 0.0, id="with content, old enough"),
        pytest.param(b"x = 1", "h", 0.01, 2.0, 0.0, id="with content, waited long enough"),
        pytest.param(b"", "h", 0.7, 0.0, 2.3, id="emptied"),
        pytest.param(b"", "h", 0.7, 9.9, 2.3, id="emptied, waited almost long enough"),
        pytest.param(b"", "h", 0.7, 10.0, 0.0, id="emptied, waited long enough"),
        pytest.param(b"", "new", 0.1, 0.0, 0.2, id="new and empty"),
        pytest.param(b"", "new", 0.4, 0.0, 0.0, id="new and empty, old enough"),
        pytest.param(b"", "new", 0.1, 10.0, 0.0, id="new and empty, waited long enough"),
        pytest.param(b"x = 1", "h", -0.001, 0.0, 0.051, id="clock one tick ahead"),
        pytest.param(b"x = 1", "h", -3600.0, 0.0, 0.0, id="modified in the future"),
    ],
)
def test_a_file_being_saved_is_waited_for(
    source: bytes, name: str, age: float, waited: float, remaining: float
) -> None:
    """The wait depends on whether the file is empty, had content before, and on how long it took already."""
    before = Codebase([SourceFile(name="h", path="/w/senses/h.py", source=b"x = 0")])
    config = Config(senses={"one": SenseConfig("one", "/w/senses/one.py")})
    revision = Revision(config, {"one": before.version(SENSE)})
    file = SourceFile(name=name, path=f"/w/senses/{name}.py", source=source, modified=round((NOW - age) * 1e9))
    snapshot = Snapshot(revision.config, (), {}, Codebase([file]), CONFIG_FILE)
    assert snapshot.unsettled_seconds(NOW, waited, revision) == pytest.approx(remaining)


def test_an_emptied_nerve_yaml_is_waited_for_like_any_emptied_file() -> None:
    """It is not part of any sense's version, but it is never meant to be empty."""
    config_file = SourceFile(name="nerve.yaml", path="/w/nerve.yaml", source=b"", modified=round((NOW - 1.0) * 1e9))
    snapshot = Snapshot(None, (), {}, Codebase([]), config_file)
    assert snapshot.unsettled_seconds(NOW, 0.0, Revision(Config(), {})) == pytest.approx(2.0)


def test_the_longest_wait_of_all_files_counts() -> None:
    """Files are taken together, so one that is not settled holds up the others."""
    files = [
        SourceFile(name=name, path=f"/w/senses/{name}.py", source=source, modified=round(NOW * 1e9))
        for name, source in (("a", b"x"), ("b", b""), ("c", b"x"))
    ]
    snapshot = Snapshot(None, (), {}, Codebase(files), CONFIG_FILE)
    assert snapshot.unsettled_seconds(NOW, 0.0, Revision(Config(), {})) == pytest.approx(0.3)
