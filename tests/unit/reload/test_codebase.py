"""The code of the senses: what belongs to a sense's version, and when that is another one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.config.config import SenseConfig
from nerve.reload.codebase import (
    DIGEST_DIGITS,
    MAX_SOURCE_BYTES,
    Codebase,
    SourceFile,
    Version,
    closure,
    imports,
    module_name,
    read_main,
    read_source,
    source_paths,
)

FOLDER = Path("/w/senses")


def file_at(path: str, source: str) -> SourceFile:
    """Make a file of the senses' folder."""
    return SourceFile(module_name(FOLDER, FOLDER / path), str(FOLDER / path), source.encode())


def codebase_of(files: Mapping[str, str]) -> Codebase:
    """Make a codebase of files, by their paths in the senses' folder."""
    return Codebase(file_at(path, source) for path, source in files.items())


def main_of(source: str) -> SourceFile:
    """Make a sense's own file."""
    return SourceFile("senses.probe", str(FOLDER / "probe.py"), source.encode())


def used_by(source: str, **files: str) -> set[str]:
    """Name what a sense with this source imports of files; in their names `__` is a slash."""
    helpers = codebase_of({f"{name.replace('__', '/')}.py": text for name, text in files.items()}).files
    return set(closure(main_of(source), helpers))


# What a sense imports.


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("", set()),
        ("import a", {"a"}),
        ("import a as b", {"a"}),
        ("import a, b", {"a", "b"}),
        ("import a.x", {"a"}),
        ("from a import x", {"a"}),
        ("from a import *", {"a"}),
        ("import unknown, a", {"a"}),
        ("def f():\n    import a", {"a"}),
        ("class A:\n    import a", {"a"}),
        ("if 0:\n    import a\nelse:\n    import b", {"a", "b"}),
        ("try:\n    import a\nexcept ImportError:\n    import b", {"a", "b"}),
        ("async def f():\n    with x:\n        from a import y", {"a"}),
        ("# import a\n'import a'", set()),
        ("a.x()", set()),
        ("import = a", set()),
        ("import a\0", set()),
        ("from . import a", set()),
        ("from .. import a", set()),
        ("from .......... import a", set()),
    ],
)
def test_imports_are_found_wherever_they_are_written(source: str, used: set[str]) -> None:
    """At the top, in functions and in branches; not in comments, nor where there is no Python."""
    assert used_by(source, a="", b="", c="") == used


@pytest.mark.parametrize(
    "source",
    [
        "import importlib",
        "import importlib.util as x",
        "from importlib import import_module",
        "def f():\n    return __import__('a')",
        "import runpy",
        "from pkgutil import iter_modules",
    ],
)
def test_who_may_import_anything_has_everything(source: str) -> None:
    """Names that are made at run time can't be told beforehand."""
    assert used_by(source, a="", b="", c__d="") == {"a", "b", "c.d"}


def test_who_imports_by_name_in_a_helper_has_everything() -> None:
    """It is the same one step further on."""
    assert used_by("import a", a="__import__('b')", b="", c="") == {"a", "b", "c"}


def test_the_standard_library_wins() -> None:
    """A helper called like one of its modules is never what is imported."""
    assert used_by("import random, email.utils, a", random="import b", email__utils="", a="", b="") == {"a"}


def test_helpers_lead_to_further_helpers() -> None:
    """As far as it goes, and in circles; a sense may import the file that it is, too."""
    files = {"a": "import b", "b": "from c import x", "c": "import a", "d": "import a"}
    assert used_by("import a", **files) == {"a", "b", "c"}
    assert used_by("import probe", probe="import a", a="") == {"probe", "a"}


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("import p", {"p"}),
        ("import p.a", {"p", "p.a"}),
        ("import p.q.b", {"p", "p.q", "p.q.b"}),
        ("from p import a", {"p", "p.a"}),
        ("from p.q import b as c, nothing", {"p", "p.q", "p.q.b"}),
        ("from p.q.b import x", {"p", "p.q", "p.q.b"}),
        ("from n import m", {"n.m"}),
        ("import n", set()),
        ("import n.m", {"n.m"}),
    ],
)
def test_packages_come_with_their_parents(source: str, used: set[str]) -> None:
    """Importing a module runs the `__init__.py` of every folder above it; where there is none, nothing is run."""
    files = {"p/__init__.py": "", "p/a.py": "", "p/q/__init__.py": "", "p/q/b.py": "", "n/m.py": ""}
    assert set(closure(main_of(source), codebase_of(files).files)) == used


@pytest.mark.parametrize(
    ("path", "source", "used"),
    [
        ("p/a.py", "from . import b", {"p", "p.b"}),
        ("p/a.py", "from .b import x", {"p", "p.b"}),
        ("p/a.py", "from .q import c", {"p", "p.q", "p.q.c"}),
        ("p/__init__.py", "from . import b", {"p.b"}),
        ("p/__init__.py", "from .q.c import x", {"p.q", "p.q.c"}),
        ("p/q/c.py", "from .. import b", {"p", "p.b"}),
        ("p/q/c.py", "from ..b import x", {"p", "p.b"}),
        ("p/q/c.py", "from . import d", {"p", "p.q", "p.q.d"}),
        ("p/q/__init__.py", "from .. import b", {"p", "p.b"}),
        ("p/q/__init__.py", "from . import d", {"p", "p.q.d"}),
        ("p/a.py", "from ... import top", set()),
        ("top.py", "from . import p", set()),
    ],
)
def test_relative_imports_start_where_the_file_is(path: str, source: str, used: set[str]) -> None:
    """A dot is the package, each further one the package above; what leads out of the folder leads nowhere."""
    others = ("p/__init__", "p/a", "p/b", "p/q/__init__", "p/q/c", "p/q/d", "top")
    files = {f"{name}.py": "" for name in others} | {path: source}
    helpers = codebase_of(files).files
    found = set(closure(helpers[module_name(FOLDER, FOLDER / path)], helpers))
    assert used <= found
    assert found - used <= {"p", "p.q"}


def test_nesting_beyond_what_python_parses_imports_nothing() -> None:
    """Such a file has a problem that is told elsewhere."""
    assert imports(b"-" * 200_000 + b"1", "a", is_package=False) == frozenset()
    assert imports(b"# coding: klingon\nimport b", "a", is_package=False) == frozenset()


# Digests.


def test_the_digest_of_a_sense_alone_is_that_of_its_file() -> None:
    """`sha256sum senses/probe.py` begins with it."""
    source = "def compute(ctx): ...\n"
    digest = codebase_of({"a.py": "unused"}).version(main_of(source)).digest
    assert len(digest) == DIGEST_DIGITS == 32
    assert hashlib.sha256(source.encode()).hexdigest().startswith(digest)


def test_files_by_themselves_have_the_digest_of_their_content() -> None:
    """So that a version with helpers can be compared with what is on disk, file by file."""
    version = codebase_of({"a.py": "import b", "b.py": "x"}).version(main_of("import a"))
    sources = {"probe.py": b"import a", "a.py": b"import b", "b.py": b"x"}
    assert version.digests == {f"/w/senses/{path}": hashlib.sha256(s).hexdigest()[:32] for path, s in sources.items()}
    assert version.digest not in version.digests.values()


def test_a_version_has_all_files_of_its_closure() -> None:
    """Its own, then the others in the order of their names, each with what it is imported as."""
    version = codebase_of({"b.py": "import a", "a.py": "", "c.py": ""}).version(main_of("import b"), generation=3)
    assert [module.name for module in version.files] == ["senses.probe", "a", "b"]
    assert (version.generation, version.error) == (3, None)


def test_a_digest_is_the_same_in_every_process() -> None:
    """It is in the log, and is compared across boots: nothing of it hangs on the order of a set."""
    code = (
        "from nerve.reload.codebase import *\n"
        "files = [SourceFile(n, n, b'import a, b, c, d') for n in 'abcd']\n"
        "print(Codebase(files).version(SourceFile('senses.x', 'x', b'import a')).digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


NAMES = ("a", "b", "c", "p", "p.q")
PATHS = {"a": "a.py", "b": "b.py", "c": "c.py", "p": "p/__init__.py", "p.q": "p/q.py"}
sources = st.tuples(st.lists(st.sampled_from(NAMES), max_size=2, unique=True), st.integers(0, 1)).map(
    lambda drawn: "\n".join([*(f"import {name}" for name in drawn[0]), f"x = {drawn[1]}"])
)


@given(main=sources, before=st.fixed_dictionaries(dict.fromkeys(NAMES, sources)), changed=st.data())
def test_a_version_is_another_one_if_and_only_if_a_file_of_its_closure_is(
    main: str, before: dict[str, str], changed: st.DataObject
) -> None:
    """For each sense and each helper: an edit anywhere in what it imports, and nowhere else, changes its digest."""
    name = changed.draw(st.sampled_from(NAMES))
    after = before | {name: changed.draw(sources)}
    old, new = (codebase_of({PATHS[n]: text for n, text in files.items()}) for files in (before, after))
    for file in (main_of(main), *old.files.values()):
        if file.name == name:
            continue
        inside = name in closure(file, old.files)
        versions = old.version(file), new.version(file)
        differs = inside and before[name] != after[name]
        assert (versions[0].digest != versions[1].digest) == differs
        assert (versions[0] != versions[1]) == differs


def test_a_file_that_moves_is_another_version() -> None:
    """A module that becomes a package may have modules of its own."""
    module, package = (codebase_of({path: "x"}).version(main_of("import a")) for path in ("a.py", "a/__init__.py"))
    assert module != package


def test_versions_travel_unchanged() -> None:
    """From the watcher to the kernel and on to the workers."""
    version = codebase_of({"a.py": "import a"}).version(main_of("import a"), 2)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(version), type=Version) == version


# Reading.


@pytest.mark.parametrize(
    ("path", "name"),
    [("a.py", "a"), ("lib/units.py", "lib.units"), ("lib/__init__.py", "lib"), ("a/b/__init__.py", "a.b")],
)
def test_a_module_is_named_by_its_place(path: str, name: str) -> None:
    """As Python would import it from the senses' folder."""
    assert module_name(FOLDER, FOLDER / path) == name


def test_hidden_files_and_caches_are_no_code(tmp_path: Path) -> None:
    """What editors, version control and Python keep beside the senses is left alone."""
    for path in ("a.py", "lib/b.py", ".git/c.py", "lib/.#d.py", "__pycache__/e.py", "f.pyc", "g.txt", "h.py~"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert [str(path.relative_to(tmp_path)) for path in source_paths(tmp_path)] == ["a.py", "lib/b.py"]
    assert list(source_paths(tmp_path / "nowhere")) == []


def test_the_folder_is_read_as_it_is(tmp_path: Path) -> None:
    """Files that can't be read are part of it, with their error; a stray `__init__.py` at the top is not."""
    (tmp_path / "a.py").write_text("import b")
    (tmp_path / "b.py").mkdir()
    (tmp_path / "__init__.py").touch()
    codebase = Codebase.read(tmp_path)
    assert {name: file.error for name, file in codebase.files.items()} == {
        "a": None,
        "b": "can't be read: Is a directory",
    }
    main = read_main(SenseConfig("a", str(tmp_path / "a.py")))
    broken = codebase.broken(main)
    assert broken
    assert broken.name == "b"


def test_what_can_not_be_read_has_an_error_and_no_source(tmp_path: Path) -> None:
    """Missing, too large, or no file at all: one line each, and never an exception."""
    (tmp_path / "large.py").write_bytes(b"#" * (MAX_SOURCE_BYTES + 1))
    (tmp_path / "just.py").write_bytes(b"#" * MAX_SOURCE_BYTES)
    errors = {name: read_source(tmp_path / f"{name}.py", name).error for name in ("missing", "large", "just")}
    assert errors == {
        "missing": "can't be read: No such file or directory",
        "large": "is larger than 4 MB",
        "just": None,
    }
    assert read_source(tmp_path / "large.py", "large").source == b""


def test_a_sense_s_own_file_is_named_after_the_sense() -> None:
    """Wherever it lies; a dash can't be part of a module's name."""
    assert read_main(SenseConfig("disk-usage", "/nowhere/x.py")).name == "senses.disk_usage"


def test_a_version_of_a_file_that_can_not_be_read_says_why(tmp_path: Path) -> None:
    """It is in force at the start all the same, and its runs fail with this."""
    version = Codebase([]).version(read_main(SenseConfig("a", str(tmp_path / "a.py"))))
    assert version.error == "can't be read: No such file or directory"


def test_a_file_that_is_emptied_while_it_is_read_is_never_an_old_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is that of what was read, or later: so it is seen to be in the middle of a save."""
    path = tmp_path / "x.py"
    path.write_text("VALUE = 1\n")
    os.utime(path, (1_000_000, 1_000_000))
    look = os.fstat

    def look_and_empty(descriptor: int) -> os.stat_result:
        status = look(descriptor)
        path.write_text("")
        return status

    monkeypatch.setattr("nerve.reload.codebase.os.fstat", look_and_empty)
    assert read_source(path, "x").source == b"VALUE = 1\n"
