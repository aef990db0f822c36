"""Updates: what a snapshot changes in the active revision, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nerve.config.config import Config, SenseConfig
from nerve.reload.codebase import Codebase, SourceFile, Version
from nerve.reload.revision import Delta, Revision
from nerve.reload.snapshot import Snapshot
from nerve.reload.update import Update, plan_update

HOME = Path("/w")
VALID = (
    "def compute(ctx): return 1",
    "def compute(ctx): return 2",
    "import h\ndef compute(ctx): return h",
    "import h as compute",
)
BROKEN = ("x = = 1", "import h", "return 1")
HELPERS = ("x = 1", "x = 2", "x = = 3", "\n4 = x", None)
NAMES = ("one", "two", "three")
NERVE_YAML = SourceFile(name="nerve.yaml", path="/w/nerve.yaml", source=b"senses: {}")


def config_of(senses: tuple[str, ...], workers: int = 2) -> Config:
    """Return a configuration with these senses."""
    return Config(workers=workers, senses={name: SenseConfig(name, f"/w/senses/{name}.py") for name in senses})


def main_of(name: str, source: str) -> SourceFile:
    """Return a sense's own file."""
    return SourceFile(name=f"senses.{name}", path=f"/w/senses/{name}.py", source=source.encode())


def helper_of(source: str | None) -> list[SourceFile]:
    """Return the one helper, if there is one."""
    return [] if source is None else [SourceFile(name="h", path="/w/senses/h.py", source=source.encode())]


@dataclass(frozen=True)
class Files:
    """Everything on disk; without a configuration, nerve.yaml is broken."""

    config: Config | None
    mains: dict[str, str]
    helper: str | None

    def snapshot(self, revision: Revision) -> Snapshot:
        """Return the snapshot that `read_snapshot` would make of them."""
        senses = (self.config or revision.config).senses
        problems = () if self.config else ("nerve.yaml:1: is broken",)
        mains = {name: main_of(name, self.mains[name]) for name in senses}
        return Snapshot(self.config, problems, mains, Codebase(helper_of(self.helper)), NERVE_YAML)

    def is_valid(self, name: str) -> bool:
        """Return True if a sense can run as it is on disk."""
        source = self.mains[name]
        return source in VALID and not ("import h" in source and self.helper in HELPERS[2:4])


configs = st.builds(config_of, st.lists(st.sampled_from(NAMES), unique=True).map(tuple), st.integers(1, 2))
files = st.builds(
    Files,
    st.none() | configs,
    st.fixed_dictionaries(dict.fromkeys(NAMES, st.sampled_from(VALID + BROKEN))),
    st.sampled_from(HELPERS),
)


def initial(on_disk: Files) -> Revision:
    """Return the revision of an engine that is started with these files."""
    config = on_disk.config or config_of(NAMES)
    codebase = Codebase(helper_of(on_disk.helper))
    return Revision(config, {name: codebase.version(main_of(name, on_disk.mains[name])) for name in config.senses})


def sources_of(version: Version) -> tuple[bytes, ...]:
    """Return the sources of a version, which don't depend on its generation."""
    return tuple(module.source for module in version.files)


def plan(revision: Revision, on_disk: Files, *, force: bool = False) -> Delta:
    """Plan the update from a revision to the files on disk."""
    return plan_update(revision, on_disk.snapshot(revision), home=HOME, force=force)


@settings(max_examples=200, deadline=None)
@given(at_start=files, history=st.lists(st.tuples(files, st.booleans()), max_size=6))
def test_the_last_valid_state_of_each_file_is_active(at_start: Files, history: list[tuple[Files, bool]]) -> None:
    """This holds for the configuration and for each sense, after any history; planning again finds no change."""
    revision = initial(at_start)
    for on_disk, force in history:
        before = revision
        snapshot = on_disk.snapshot(before)
        delta = plan_update(before, snapshot, home=HOME, force=force)
        revision = before.apply(delta)
        sent = msgspec.msgpack.encode(Update.pack(delta))
        assert msgspec.msgpack.decode(sent, type=Update).unpack() == delta
        assert revision.config == (on_disk.config or before.config)
        assert revision.config_problems == snapshot.problems
        assert revision.versions.keys() == revision.config.senses.keys()
        check_senses(before, revision, on_disk, snapshot)
        assert plan(revision, on_disk).is_empty


def check_senses(before: Revision, after: Revision, on_disk: Files, snapshot: Snapshot) -> None:
    """Check that each valid sense is as on disk, and each broken one as before, or as on disk if it is new."""
    assert after.broken.keys() == {name for name in after.config.senses if not on_disk.is_valid(name)}
    for name, version in after.versions.items():
        current = snapshot.codebase.version(snapshot.mains[name])
        if on_disk.is_valid(name) or name not in before.versions:
            assert (sources_of(version), version.digest) == (sources_of(current), current.digest)
        else:
            assert version == before.versions[name]
            assert after.broken[name].startswith(("senses/h.py:", f"senses/{name}.py:"))


def files_of(*, helper: str | None = "x = 1", workers: int = 2, **mains: str) -> Files:
    """Return files with a valid configuration of these senses."""
    return Files(config_of(tuple(mains), workers), mains, helper)


ONE = files_of(one=VALID[2], two=VALID[0])


def after(*states: Files) -> tuple[Revision, Delta]:
    """Return the revision after these states of the disk, one after the other, and the last delta."""
    revision, delta = initial(states[0]), Delta()
    for state in states[1:]:
        delta = plan(revision, state)
        revision = revision.apply(delta)
    return revision, delta


def test_unchanged_files_make_an_empty_delta() -> None:
    """The watcher is woken by events that change nothing, too."""
    assert after(ONE, ONE)[1].is_empty


def test_a_changed_helper_changes_exactly_the_senses_that_import_it() -> None:
    """Senses that don't import it keep their version."""
    first = files_of(one=VALID[2], two=VALID[0], three=VALID[2])
    revision, delta = after(first, replace(first, helper="x = 2"))
    assert set(delta.versions) == {"one", "three"}
    assert revision.versions["one"].helpers[0].source == b"x = 2"
    assert (delta.config, delta.config_problems, delta.broken) == (None, None, {})


def test_a_packed_update_has_each_module_once() -> None:
    """A helper that many senses import must not make the message many times as long."""
    first = files_of(one=VALID[2], two=VALID[0], three=VALID[2])
    _, delta = after(first, replace(first, helper="x = 2"))
    packed = Update.pack(delta, request=3)
    assert sorted(module.name for module in packed.modules) == ["h", "senses.one", "senses.three"]
    assert (packed.request, packed.unpack()) == (3, delta)


def test_a_changed_configuration_changes_no_version() -> None:
    """The settings of a sense are not part of its code."""
    revision, delta = after(ONE, files_of(one=VALID[2], two=VALID[0], workers=5))
    assert (delta.config, delta.versions) == (revision.config, {})
    assert revision.config.workers == 5


def test_a_broken_sense_is_reported_once() -> None:
    """It is reported again only with another problem."""
    broken, otherwise = files_of(one="x = = 1", two=VALID[0]), files_of(one="\nx = = 1", two=VALID[0])
    revision, delta = after(ONE, broken)
    assert delta.broken == {"one": "senses/one.py:1: invalid syntax"}
    assert revision.problems == ("senses/one.py:1: invalid syntax",)
    assert after(ONE, broken, broken)[1].is_empty
    assert after(ONE, broken, otherwise)[1].broken == {"one": "senses/one.py:2: invalid syntax"}


def test_a_fixed_sense_is_active_again_even_if_its_code_is_as_before() -> None:
    """Otherwise its problem would stay."""
    revision, delta = after(ONE, files_of(one="x = = 1", two=VALID[0]), ONE)
    assert set(delta.versions) == {"one"}
    assert (revision.problems, revision) == ((), initial(ONE))


def test_a_broken_helper_breaks_each_sense_that_imports_it() -> None:
    """These senses keep their versions; the revision has the problem once."""
    first = files_of(one=VALID[2], two=VALID[2], three=VALID[0])
    revision, delta = after(first, replace(first, helper="\n\nx = = 1"))
    assert delta.broken == dict.fromkeys(("one", "two"), "senses/h.py:3: invalid syntax")
    assert delta.versions == {}
    assert revision.problems == ("senses/h.py:3: invalid syntax",)


def test_a_broken_configuration_is_reported_once() -> None:
    """The active configuration stays."""
    broken = Files(None, ONE.mains, ONE.helper)
    revision, delta = after(ONE, broken)
    assert (delta.config, delta.config_problems) == (None, ("nerve.yaml:1: is broken",))
    assert revision.config == ONE.config
    assert after(ONE, broken, broken)[1].is_empty


def test_senses_can_be_edited_while_the_configuration_is_broken() -> None:
    """An edit has its effect, and the problem of the configuration stays."""
    broken = Files(None, ONE.mains, ONE.helper)
    edited = Files(None, {**ONE.mains, "two": VALID[1]}, ONE.helper)
    revision, delta = after(ONE, broken, edited)
    assert set(delta.versions) == {"two"}
    assert revision.config_problems


def test_a_fixed_configuration_is_active_again_even_if_it_is_as_before() -> None:
    """Otherwise its problems would stay."""
    revision, delta = after(ONE, Files(None, ONE.mains, ONE.helper), ONE)
    assert delta.config == ONE.config
    assert revision == initial(ONE)


def test_a_new_sense_has_its_version_in_the_update_that_adds_it() -> None:
    """A removed one loses its version and its problems in the same way."""
    broken = files_of(one="x = = 1", two=VALID[0])
    revision, delta = after(ONE, broken, files_of(two=VALID[0], three=VALID[1]))
    assert set(delta.versions) == {"three"}
    assert set(revision.versions) == {"two", "three"}
    assert revision.problems == ()


def test_a_new_sense_that_is_broken_is_active_with_its_problem() -> None:
    """There is no earlier version; its runs fail until it is fixed."""
    revision, delta = after(ONE, files_of(one=VALID[2], two=VALID[0], three="x = = 1"))
    assert set(delta.versions) == set(delta.broken) == {"three"}
    assert revision.versions["three"].main.source == b"x = = 1"
    assert revision.problems == ("senses/three.py:1: invalid syntax",)


def test_a_forced_update_changes_every_valid_file() -> None:
    """The versions get the next generation; a broken sense keeps its version and is reported again."""
    broken = files_of(one="x = = 1", two=VALID[0])
    revision, _ = after(ONE, broken)
    delta = plan(revision, broken, force=True)
    assert (delta.config, set(delta.versions), delta.broken) == (broken.config, {"two"}, revision.broken)
    revision = revision.apply(delta)
    assert {name: version.generation for name, version in revision.versions.items()} == {"one": 0, "two": 1}
    assert plan(revision, broken).is_empty
    fixed = revision.apply(plan(revision, ONE))
    assert plan(fixed, ONE).is_empty


def test_a_forced_update_reports_known_problems_again() -> None:
    """Whoever asked for it must see them."""
    broken = Files(None, dict.fromkeys(ONE.mains, "x = = 1"), None)
    revision, _ = after(ONE, broken)
    delta = plan(revision, broken, force=True)
    assert (delta.config_problems, set(delta.broken)) == (("nerve.yaml:1: is broken",), {"one", "two"})


def test_a_sense_with_too_much_source_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version has to fit into a message."""
    monkeypatch.setattr("nerve.reload.update.MAX_CODE_BYTES", 60)
    revision, delta = after(ONE, replace(ONE, helper="x = 1" + " " * 50))
    assert set(delta.broken) == {"one"}
    assert "more than" in delta.broken["one"]
    assert sources_of(revision.versions["one"]) == (VALID[2].encode(), b"x = 1")


def test_a_problem_names_the_file_relative_to_the_workspace() -> None:
    """That is how nerve.yaml names a sense that is not in the senses' folder."""
    config = Config(senses={"one": SenseConfig("one", "/w/lib/x.py")})
    main = SourceFile(
        name="senses.one", path="/w/lib/x.py", source=b"", error="can't be read: No such file or directory"
    )
    revision = Revision(config, {"one": Codebase([]).version(main)})
    delta = plan_update(revision, Snapshot(config, (), {"one": main}, Codebase([]), NERVE_YAML), home=HOME)
    assert delta.broken == {"one": "lib/x.py:1: can't be read: No such file or directory"}


def test_a_senses_folder_that_is_too_large_changes_no_version() -> None:
    """What runs stays, and the problem is reported."""
    config = config_of(NAMES)
    files = Files(config, dict.fromkeys(NAMES, VALID[2]), HELPERS[0])
    first = Revision(config, {})
    revision = first.apply(plan_update(first, files.snapshot(first), home=HOME))
    snapshot = replace(files.snapshot(revision), config=None, problems=("p",), codebase=Codebase([], "p"))
    delta = plan_update(revision, snapshot, home=HOME)
    assert delta == Delta(config_problems=("p",))
    assert plan_update(revision.apply(delta), snapshot, home=HOME, force=True).versions == {}


def test_each_helper_is_compiled_once_for_all_senses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the time grows with the square of the number of files."""
    checked: list[str] = []
    monkeypatch.setattr("nerve.reload.update.problem_of", lambda _source, path, **_: checked.append(path))
    helpers = [SourceFile(name=f"h{n}", path=f"/w/senses/h{n}.py", source=b"") for n in range(600)]
    names = tuple(f"s{n}" for n in range(600))
    config = config_of(names)
    mains = {name: main_of(name, f"import importlib\nX = {name!r}") for name in names}
    snapshot = Snapshot(config, (), mains, Codebase(helpers), NERVE_YAML)
    delta = plan_update(Revision(config, {}), snapshot, home=HOME)
    assert len(delta.versions) == 600
    assert len(checked) == 1200
    update = Update.pack(delta)
    assert (len(update.modules), len(update.helpers)) == (1200, 1)
    assert update.unpack() == delta
