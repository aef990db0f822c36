"""Loading senses: all modules are of the version that runs, and none is of another."""

from __future__ import annotations

import importlib
import linecache
import sys
import textwrap
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.interrupters import installed_interrupter

from nerve.config.config import SenseConfig
from nerve.errors import SenseLoadError
from nerve.reload.codebase import Codebase, Version, read_main
from nerve.runtime.interruption import Interruption
from nerve.runtime.loader import SenseLoader

# The default method is an alarm, which the interrupter needs for itself.
pytestmark = pytest.mark.timeout(60, method="thread")


class Bench:
    """A folder of senses, and one worker's loader."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loader = SenseLoader(folder)
        self.loader.install()

    def write(self, path: str, source: str | bytes) -> Path:
        """Write a file in the folder."""
        target = self.folder / path
        target.parent.mkdir(exist_ok=True, parents=True)
        target.write_bytes(source if isinstance(source, bytes) else textwrap.dedent(source).encode())
        return target

    def version(self, sense: str = "probe", generation: int = 0) -> Version:
        """Return the version of a sense that is on disk."""
        main = read_main(SenseConfig(sense, str(self.folder / f"{sense}.py")))
        return Codebase.read(self.folder).version(main, generation)

    def accept(self, sense: str = "probe", generation: int = 0) -> Version:
        """Let a sense run the version on disk; return it."""
        version = self.version(sense, generation)
        self.loader.accept(sense, version)
        return version

    def run(self, sense: str = "probe") -> object:
        """Run a sense in its current version; return what it returns."""
        return self.loader.load(sense)(None)  # type: ignore[arg-type]  # none of these computes uses its context

    def update(self, path: str, source: str, *senses: str) -> None:
        """Write a file, and let these senses (`probe` if none is named) run the version that is then on disk."""
        self.write(path, source)
        for sense in senses or ("probe",):
            self.accept(sense)

    def refusal(self, source: str | bytes) -> SenseLoadError:
        """Return the error of loading a sense with this source, which must fail."""
        self.write("probe.py", source)
        self.accept()
        with pytest.raises(SenseLoadError) as refusal:
            self.loader.load("probe")
        assert "\n" not in str(refusal.value)
        return refusal.value


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench whose modules are removed afterwards."""
    folder = tmp_path / "senses"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])  # as in a worker
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = set(sys.modules)
    yield Bench(folder)
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", [])]
        if any(str(place).startswith(str(tmp_path)) for place in places):
            del sys.modules[name]
    importlib.invalidate_caches()


# One sense.


def test_a_sense_is_loaded_once_per_version(bench: Bench) -> None:
    """Its module-level state lasts as long as the version; the next one has new state, even with the same code."""
    bench.write("probe.py", "runs = []\ndef compute(ctx):\n    runs.append(1)\n    return len(runs)")
    bench.accept()
    assert [bench.run(), bench.run()] == [1, 2]
    bench.loader.accept("probe", None)
    assert bench.run() == 3
    bench.accept()
    assert bench.run() == 1


def test_a_loaded_sense_has_a_module_and_a_file(bench: Bench) -> None:
    """Dataclasses look up their module, and a sense finds the files beside it by `__file__`."""
    path = bench.write(
        "probe.py",
        """
        from __future__ import annotations
        import dataclasses

        @dataclasses.dataclass
        class Reading:
            value: int

        def compute(ctx):
            return Reading(3).value, __file__, __name__
        """,
    )
    bench.accept()
    assert bench.run() == (3, str(path), "senses.probe")


def test_a_missing_file_is_an_error_with_its_path(bench: Bench) -> None:
    """The message has the system's reason."""
    bench.accept()
    with pytest.raises(SenseLoadError, match=r"senses/probe\.py can't be read: No such file or directory"):
        bench.run()


def test_a_folder_in_place_of_a_file_is_an_error(bench: Bench) -> None:
    """The message has the system's reason."""
    (bench.folder / "probe.py").mkdir()
    bench.accept()
    with pytest.raises(SenseLoadError, match="Is a directory"):
        bench.run()


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        (b"def compute(ctx):\n    pass\n\nx = = 2\n", 4, "invalid syntax"),
        (b"def compute(ctx:\n", 1, "'(' was never closed"),
        (b"x = '\xff'\n", 1, "can't decode byte 0xff"),
        (b"if 1:\n\tx\n        y\n", 3, "inconsistent use of tabs"),
    ],
)
def test_a_syntax_error_is_an_error_with_its_line(bench: Bench, source: bytes, line: int, words: str) -> None:
    """Editors can jump to `file:line: message`."""
    message = str(bench.refusal(source))
    assert message.startswith(f"{bench.folder / 'probe.py'}:{line}: ")
    assert words in message


@pytest.mark.parametrize("source", [b"x = 1\x00", b"# coding: klingon\n", b"(" * 100_000, b"-" * 200_000 + b"1"])
def test_any_source_that_can_not_be_compiled_is_an_error_with_its_file(bench: Bench, source: bytes) -> None:
    """The compiler reports some of them without a line, or as another exception."""
    message = str(bench.refusal(source))
    assert message.startswith(str(bench.folder / "probe.py"))
    assert "None" not in message


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('no')", "SystemExit: no"),
        ("import nerve_test_missing", "ModuleNotFoundError: No module named 'nerve_test_missing'"),
        ("open('/nonexistent')", "FileNotFoundError: [Errno 2] No such file or directory: '/nonexistent'"),
        ("raise OSError", "OSError"),
        ("raise SyntaxError('made up')", "SyntaxError: made up"),
    ],
)
def test_an_exception_of_the_module_is_an_error_with_its_traceback(bench: Bench, statement: str, words: str) -> None:
    """It is not taken for an error in reading or compiling the file."""
    refusal = bench.refusal(f"\n{statement}\n")
    assert str(refusal) == f"{bench.folder / 'probe.py'} can't be loaded: {words}"
    assert refusal.traceback
    assert f'File "{bench.folder / "probe.py"}", line 2' in refusal.traceback
    assert "nerve/runtime/loader.py" not in refusal.traceback


def test_a_syntax_error_in_a_helper_names_the_helper(bench: Bench) -> None:
    """That is the file to fix."""
    bench.write("nerve_test_broken.py", "x = = 1")
    assert "nerve_test_broken.py" in str(bench.refusal("import nerve_test_broken"))


@pytest.mark.parametrize("source", ["", "compute = 3", "def computes(ctx): pass"])
def test_a_sense_without_a_compute_is_an_error_that_says_what_to_add(bench: Bench, source: str) -> None:
    """Another name, or a `compute` that is not callable, does not count."""
    assert str(bench.refusal(source)) == f"{bench.folder / 'probe.py'} has no `compute`: add `def compute(ctx):`"


def test_a_failed_load_is_repeated_at_the_next_run(bench: Bench) -> None:
    """What the module needs may exist then."""
    there = bench.folder / "there.txt"
    bench.write(
        "probe.py", f"import pathlib\ntext = pathlib.Path({str(there)!r}).read_text()\ndef compute(ctx): return text"
    )
    bench.accept()
    with pytest.raises(SenseLoadError, match="FileNotFoundError"):
        bench.run()
    there.write_text("now it is")
    assert bench.run() == "now it is"


def test_a_load_that_is_interrupted_in_a_helper_is_repeated(bench: Bench) -> None:
    """A timeout during an import leaves no incomplete module behind."""
    go_on = bench.folder / "go_on"
    bench.write("nerve_test_slow.py", f"import os\nfirst = 1\nwhile not os.path.exists({str(go_on)!r}): pass\nlast = 2")
    bench.write("probe.py", "import nerve_test_slow as slow\ndef compute(ctx): return slow.first, slow.last\n")
    bench.accept()
    with installed_interrupter() as interrupter, pytest.raises(Interruption):
        interrupter.run(lambda: bench.loader.load("probe"), 0.1)
    go_on.touch()
    assert bench.run() == (1, 2)


# Helpers.


@pytest.mark.parametrize(
    ("helper", "importing", "using"),
    [
        ("nerve_test_a.py", "import nerve_test_a", "nerve_test_a.value"),
        ("nerve_test_a.py", "from nerve_test_a import value", "value"),
        ("nerve_test_a.py", "from nerve_test_a import *", "value"),
        ("nerve_test_a/__init__.py", "import nerve_test_a", "nerve_test_a.value"),
        ("nerve_test_a/b.py", "import nerve_test_a.b", "nerve_test_a.b.value"),
        ("nerve_test_a/b.py", "from nerve_test_a import b", "b.value"),
        ("nerve_test_a/b.py", "import nerve_test_a.b as b", "b.value"),
        ("nerve_test_a/b.py", "from nerve_test_a.b import value", "value"),
        ("nerve_test_a/b/c.py", "import nerve_test_a.b.c", "nerve_test_a.b.c.value"),
        ("nerve_test_a/b/c.py", "from nerve_test_a.b import c", "c.value"),
    ],
)
@pytest.mark.parametrize("lazily", [False, True])
def test_a_changed_helper_is_reloaded(bench: Bench, helper: str, importing: str, using: str, *, lazily: bool) -> None:
    """However it is imported: at the top or in a function, from a module, a package or a folder without code."""
    body = f"def compute(ctx):\n    {importing}\n    return {using}" if lazily else ""
    if lazily and "*" in importing:
        pytest.skip("Python allows this at the top only")
    bench.write("probe.py", body or f"{importing}\ndef compute(ctx): return {using}")
    for value in range(3):
        bench.update(helper, f"value = {value}")
        assert bench.run() == value


def test_a_changed_helper_is_reloaded_with_the_helpers_that_import_it(bench: Bench) -> None:
    """They may have copied values from it when they were loaded."""
    bench.write("probe.py", "from nerve_test_a import twice\ndef compute(ctx): return twice")
    bench.write("nerve_test_a.py", "from nerve_test_b import once\ntwice = 2 * once")
    for value in (1, 2):
        bench.update("nerve_test_b.py", f"once = {value}")
        assert bench.run() == 2 * value


def test_helpers_that_import_each_other_are_reloaded_together(bench: Bench) -> None:
    """Each of them is part of the other's version."""
    bench.write("probe.py", "import nerve_test_a\ndef compute(ctx): return nerve_test_a.both()")
    bench.write("nerve_test_a.py", "import nerve_test_b\nname = 'a'\ndef both(): return nerve_test_b.name")
    for value in ("x", "y"):
        bench.update("nerve_test_b.py", f"import nerve_test_a\nname = '{value}' + getattr(nerve_test_a, 'name', '')")
        assert bench.run() == value


def test_a_reloaded_package_has_its_unchanged_modules(bench: Bench) -> None:
    """A module that stays loaded is an attribute of the reloaded package."""
    bench.write("nerve_test_a/b.py", "value = 'b'")
    bench.write("probe.py", "import nerve_test_a.b\ndef compute(ctx): return nerve_test_a.n, nerve_test_a.b.value")
    for n in (1, 2):
        bench.update("nerve_test_a/__init__.py", f"n = {n}")
        assert bench.run() == (n, "b")


def test_an_unchanged_helper_keeps_its_state(bench: Bench) -> None:
    """A connection in a helper, for instance, survives changes of the sense and of other helpers."""
    bench.write("nerve_test_state.py", "seen = []")
    bench.write("nerve_test_other.py", "x = 1")
    source = "import nerve_test_state as s, nerve_test_other\ndef compute(ctx): s.seen.append({n}); return s.seen"
    bench.update("probe.py", source.format(n=1))
    bench.run()
    bench.update("nerve_test_other.py", "x = 2")
    bench.run()
    bench.update("probe.py", source.format(n=2))
    assert bench.run() == [1, 1, 2]


def test_two_senses_can_use_different_versions_of_a_helper(bench: Bench) -> None:
    """A sense whose file is broken keeps the old version, whichever runs first, imported at the top or later."""
    early = "from nerve_test_a import value\ndef compute(ctx): return value"
    late = "def compute(ctx):\n    from nerve_test_a import value\n    return value"
    for sense, source in (("one", early), ("two", early), ("three", late), ("four", late)):
        bench.write(f"{sense}.py", source)
    bench.update("nerve_test_a.py", "value = 1", "one", "two", "three", "four")
    assert bench.run("one") == bench.run("three") == 1
    bench.update("nerve_test_a.py", "value = 2", "two", "four")
    runs = ("one", "two", "three", "four", "four", "two", "one", "three")
    assert [bench.run(sense) for sense in runs] == [1, 2, 1, 2, 2, 2, 1, 1]


def test_a_removed_helper_can_not_be_imported_any_more(bench: Bench) -> None:
    """A worker that had loaded it fails as a new one does."""
    bench.write("nerve_test_a.py", "value = 1")
    bench.update("probe.py", "import nerve_test_a\ndef compute(ctx): return nerve_test_a.value")
    assert bench.run() == 1
    (bench.folder / "nerve_test_a.py").unlink()
    bench.accept()
    with pytest.raises(SenseLoadError, match="No module named 'nerve_test_a'"):
        bench.run()


def test_a_folder_can_become_a_package_and_a_folder_again(bench: Bench) -> None:
    """An added `__init__.py` is run; a removed one leaves nothing behind."""
    bench.write("nerve_test_a/b.py", "value = 1")
    source = "import nerve_test_a.b\ndef compute(ctx): return getattr(nerve_test_a, 'name', 'none')"
    bench.update("probe.py", source)
    assert bench.run() == "none"
    bench.update("nerve_test_a/__init__.py", "name = 'a'")
    assert bench.run() == "a"
    (bench.folder / "nerve_test_a" / "__init__.py").unlink()
    bench.accept()
    assert bench.run() == "none"


def test_a_module_can_become_a_package_with_the_same_source(bench: Bench) -> None:
    """It is reloaded, for it has another file, and can contain modules."""
    path = bench.write("nerve_test_a.py", "value = 1")
    bench.update("probe.py", "import nerve_test_a\ndef compute(ctx): return nerve_test_a.__file__")
    assert bench.run() == str(path)
    path.unlink()
    bench.update("nerve_test_a/__init__.py", "value = 1")
    assert bench.run() == str(bench.folder / "nerve_test_a" / "__init__.py")


def test_a_helper_does_not_shadow_the_standard_library(bench: Bench) -> None:
    """Other code that imports `random` does not get a sense with that name."""
    bench.write("colorsys.py", "raise AssertionError('this is not the one')")
    bench.update("probe.py", "import colorsys\ndef compute(ctx): return colorsys.__file__")
    sys.modules.pop("colorsys", None)
    assert not str(bench.run()).startswith(str(bench.folder))


def test_a_helper_does_not_shadow_an_installed_package(bench: Bench, tmp_path: Path) -> None:
    """The senses' folder is the last entry of sys.path."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "nerve_test_a.py").write_text("value = 'installed'")
    sys.path.insert(0, str(site))
    bench.write("nerve_test_a.py", "value = 'ours'")
    bench.update("probe.py", "from nerve_test_a import value\ndef compute(ctx): return value")
    assert bench.run() == "installed"


def test_a_folder_without_code_on_the_path_does_not_hide_a_helper(bench: Bench, tmp_path: Path) -> None:
    """Such a folder is not an installed package."""
    (tmp_path / "site" / "nerve_test_a").mkdir(parents=True)
    sys.path.insert(0, str(tmp_path / "site"))
    bench.write("probe.py", "from nerve_test_a import value\ndef compute(ctx): return value")
    for value in (1, 2):
        bench.update("nerve_test_a/__init__.py", f"value = {value}")
        assert bench.run() == value


def test_helpers_neither_use_nor_leave_bytecode_files(bench: Bench) -> None:
    """Bytecode files tell versions apart only by size and time in seconds."""
    bench.write("probe.py", "import nerve_test_a\ndef compute(ctx): return nerve_test_a.value")
    for value in (1, 2, 3):
        bench.update("nerve_test_a.py", f"value = {value}")
        assert bench.run() == value
    assert list(bench.folder.rglob("*.pyc")) == []


def test_a_run_uses_its_version_even_if_the_files_have_changed(bench: Bench) -> None:
    """The log has the digest of the code that runs; files that were saved later must not run under it."""
    bench.write("nerve_test_a.py", "value = 1")
    bench.update("probe.py", "import nerve_test_a\ndef compute(ctx): return nerve_test_a.value")
    bench.write("nerve_test_a.py", "value = 2")
    bench.write("probe.py", "x = = 1")
    assert bench.run() == 1


def test_a_helper_can_read_the_files_beside_it(bench: Bench) -> None:
    """A package may contain data."""
    bench.write("nerve_test_a/table.txt", "1 2 3")
    bench.write("nerve_test_a/__init__.py", "import pkgutil\ntable = pkgutil.get_data(__name__, 'table.txt')")
    bench.update("probe.py", "from nerve_test_a import table\ndef compute(ctx): return table")
    assert bench.run() == b"1 2 3"


# Reloading everything.


def test_a_new_generation_is_reloaded_although_nothing_has_changed(bench: Bench) -> None:
    """Senses and helpers may read other files when they are loaded."""
    bench.write("nerve_test_state.py", "seen = []")
    bench.write("probe.py", "import nerve_test_state as s\ndef compute(ctx): s.seen.append(1); return len(s.seen)")
    bench.accept()
    assert [bench.run(), bench.run()] == [1, 2]
    bench.accept(generation=1)
    assert [bench.run(), bench.run()] == [1, 2]


def test_senses_of_two_generations_share_a_helper_that_is_loaded_once(bench: Bench) -> None:
    """A sense that could not be reloaded does not make the others reload their helpers at each run."""
    source = "def compute(ctx):\n    import nerve_test_state as s\n    s.seen.append(1)\n    return len(s.seen)"
    bench.write("nerve_test_state.py", "seen = []")
    bench.write("good.py", source)
    bench.write("broken.py", "def compute(ctx): pass")
    bench.accept("good")
    bench.accept("broken")
    bench.accept("good", generation=1)
    counts = []
    for _ in range(3):
        counts.append(bench.run("good"))
        bench.run("broken")
    assert counts == [1, 2, 3]


# Tracebacks.


@pytest.mark.parametrize("where", ["probe.py", "nerve_test_a.py"])
def test_a_traceback_shows_the_lines_that_ran(bench: Bench, where: str) -> None:
    """The lines in the file may be others now."""
    bench.write("probe.py", "from nerve_test_a import compute")
    bench.write(where, "def compute(ctx):\n    raise ValueError('as it was')\n")
    bench.accept()
    bench.loader.load("probe")
    bench.write(where, "# a new first line\n# and a second\n")
    linecache.checkcache()
    with pytest.raises(ValueError, match="as it was") as failure:
        bench.run()
    assert "raise ValueError('as it was')" in "".join(traceback.format_exception(failure.value))


def test_a_changed_helper_in_a_symlinked_folder_is_reloaded(bench: Bench, tmp_path: Path) -> None:
    """It can be shared by several workspaces."""
    shared = tmp_path / "shared"
    shared.mkdir()
    bench.folder.mkdir(exist_ok=True)
    (bench.folder / "nerve_test_lib").symlink_to(shared)
    bench.write("probe.py", "from nerve_test_lib.a import value\ndef compute(ctx): return value")
    for value in (1, 2):
        (shared / "a.py").write_text(f"value = {value}")
        bench.accept()
        assert bench.run() == value


def test_modules_that_another_finder_imported_are_reloaded_with_the_next_version(bench: Bench) -> None:
    """A library that imports by name loads them from the disk, and no version mentions them."""
    bench.write("nerve_test_plugin.py", "value = 1")
    source = "import pydoc\ndef compute(ctx): return pydoc.locate('nerve_test_plugin.value')"
    bench.update("probe.py", source)
    sys.path.append(str(bench.folder))
    assert bench.run() == 1
    bench.write("nerve_test_plugin.py", "value = 22")
    bench.update("probe.py", f"{source}  # changed")
    assert bench.run() == 22


# The package `senses`.

WAYS = {
    "from . import {0}": "{0}",
    "from .{0} import *": "{0}",
    "from senses import {0}": "{0}",
    "from senses.{0} import *": "{0}",
    "import senses.{0}": "{0}",
    "import senses.{0} as known": "{0}",
    "import {0}; from . import {0} as again; assert {0} is again": "{0}",
}


@pytest.mark.parametrize("lazily", [False, True], ids=["at the top", "in the compute"])
@pytest.mark.parametrize("way", WAYS)
def test_a_helper_is_a_module_of_the_package_and_is_reloaded(bench: Bench, way: str, *, lazily: bool) -> None:
    """However it is imported, the run has the active version."""
    if lazily and "*" in way:
        pytest.skip("Python allows this at the top only")
    top, inside = ("", way) if lazily else (way, "")
    bench.write(
        "probe.py",
        f"""
        import sys
        {top.format("nerve_test_a")}

        def compute(ctx):
            {inside.format("nerve_test_a") or "pass"}
            module = sys.modules["nerve_test_a"]
            return module.value, sys.modules.get("senses.nerve_test_a", module).value
        """,
    )
    for value in (1, 2):
        bench.update("nerve_test_a.py", f"value = {value}")
        assert bench.run() == (value, value)


@pytest.mark.parametrize(
    "importing", ["from . import b", "from .. import lib", "from ..lib.b import value", "from .b import value"]
)
def test_a_helper_can_import_relatively(bench: Bench, importing: str) -> None:
    """Helpers in a folder, with or without `__init__.py`, and the sense use the same modules."""
    bench.write("lib/b.py", "value = []")
    bench.write("lib/a.py", f"{importing}\nimport lib.b as same")
    bench.write("probe.py", "from lib.a import same\nfrom senses.lib import a, b\ndef compute(ctx): return same is b")
    bench.accept()
    assert bench.run() is True
    bench.update("lib/__init__.py", "kind = 'package'")
    assert bench.run() is True


def test_helpers_at_the_top_can_import_each_other_relatively(bench: Bench) -> None:
    """Also in a circle; a change of one reloads both."""
    bench.write("nerve_test_a.py", "from . import nerve_test_b\nvalue = 1\ndef get(): return nerve_test_b.value")
    bench.write("probe.py", "from . import nerve_test_a\ndef compute(ctx): return nerve_test_a.get()")
    for value in (1, 2):
        bench.update("nerve_test_b.py", f"from . import nerve_test_a\nvalue = {value}")
        assert bench.run() == value


def test_a_helper_in_the_package_can_have_a_name_of_the_standard_library(bench: Bench) -> None:
    """`from . import random` is the helper, `import random` is not."""
    bench.write("colorsys.py", "value = 1")
    bench.write(
        "probe.py",
        "import colorsys as theirs\nfrom . import colorsys\ndef compute(ctx): return colorsys.value, theirs.__file__",
    )
    for value in (1, 2):
        bench.update("colorsys.py", f"value = {value}")
        found, path = bench.run()  # type: ignore[misc]  # a tuple
        assert found == value
        assert not str(path).startswith(str(bench.folder))


def test_what_a_sense_or_a_helper_defines_can_be_pickled(bench: Bench) -> None:
    """Also after another sense has run, and an instance that an earlier run has pickled."""
    bench.write("lib/kinds.py", "class Kind: pass")
    code = """
        import dataclasses, enum, pickle
        from lib.kinds import Kind

        @dataclasses.dataclass
        class Reading:
            value: int

        class Colour(enum.Enum):
            RED = 1

        def helper(): return 5
        kept = []

        def compute(ctx):
            kept.append(pickle.dumps([Reading(3), Colour.RED, helper, Kind]))
            return [pickle.loads(data) == [Reading(3), Colour.RED, helper, Kind] for data in kept]
    """
    for sense in ("probe", "other"):
        bench.write(f"{sense}.py", code)
        bench.accept(sense)
    assert [bench.run("probe"), bench.run("other"), bench.run("probe")] == [[True], [True], [True, True]]


def test_a_sense_imports_another_sense_in_the_version_that_it_was_checked_with(bench: Bench) -> None:
    """It gets a helper, and not the module of the sense that runs, which may be older or newer."""
    bench.write("other.py", "value = 1\ndef compute(ctx): return value")
    bench.write(
        "probe.py",
        "def compute(ctx):\n    from senses.other import value\n    from . import other\n    return value, other.value",
    )
    bench.accept("other")
    bench.accept()
    assert [bench.run("other"), bench.run(), bench.run("other")] == [1, (1, 1), 1]
    bench.update("other.py", "value = 2\ndef compute(ctx): return value")
    assert [bench.run("other"), bench.run(), bench.run("other")] == [1, (2, 2), 1]
    bench.accept("other")
    assert [bench.run(), bench.run("other"), bench.run()] == [(2, 2), 2, (2, 2)]


def test_a_removed_module_of_the_package_can_not_be_imported_any_more(bench: Bench) -> None:
    """Its old version does not stay under any name."""
    bench.write("nerve_test_a.py", "value = 1")
    bench.update("probe.py", "from . import nerve_test_a\ndef compute(ctx): return nerve_test_a.value")
    assert bench.run() == 1
    (bench.folder / "nerve_test_a.py").unlink()
    bench.update("probe.py", "def compute(ctx):\n    from . import nerve_test_a")
    with pytest.raises(ImportError):
        bench.run()


def test_a_relative_import_beyond_the_package_fails_as_usual(bench: Bench) -> None:
    """The workspace's folder is not a package."""
    assert "beyond top-level package" in str(bench.refusal("from .. import nerve_test_a\ndef compute(ctx): pass"))
