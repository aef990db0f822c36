"""The code of the senses: what belongs to a version, and when it changes."""

from __future__ import annotations

import ast
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
    imports,
    module_name,
    read_main,
    read_source,
    source_paths,
)

FOLDER = Path("/w/senses")


def file_at(path: str, source: str) -> SourceFile:
    """Return a file of the senses' folder."""
    return SourceFile(name=module_name(FOLDER, FOLDER / path), path=str(FOLDER / path), source=source.encode())


def codebase_of(files: Mapping[str, str]) -> Codebase:
    """Return a codebase of files, given by their paths in the senses' folder."""
    return Codebase(file_at(path, source) for path, source in files.items())


def main_of(source: str) -> SourceFile:
    """Return a sense's own file."""
    return SourceFile(name="senses.probe", path=str(FOLDER / "probe.py"), source=source.encode())


def used_by(source: str, **files: str) -> set[str]:
    """Return which of the files a sense with this source imports; `__` in their names is a slash."""
    codebase = codebase_of({f"{name.replace('__', '/')}.py": text for name, text in files.items()})
    return set(codebase.used_by(main_of(source)))


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
        ("from . import a", {"a"}),
        ("from .a import x", {"a"}),
        ("import senses.a", {"a"}),
        ("from senses import a", {"a"}),
        ("from senses.a import x", {"a"}),
        ("import senses", set()),
        ("from .. import a", set()),
        ("from .......... import a", set()),
    ],
)
def test_imports_are_found_anywhere_in_a_file(source: str, used: set[str]) -> None:
    """They may be at the top, in functions or in branches; comments and invalid Python have none."""
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
def test_a_dynamic_import_may_import_every_helper(source: str) -> None:
    """Names that are made at run time are not known before."""
    assert used_by(source, a="", b="", c__d="") == {"a", "b", "c.d"}


def test_a_dynamic_import_in_a_helper_may_import_every_helper() -> None:
    """The sense that imports the helper depends on all of them, too."""
    assert used_by("import a", a="__import__('b')", b="", c="") == {"a", "b", "c"}


def test_the_standard_library_wins_over_a_helper_of_the_same_name() -> None:
    """Such a helper is never imported, so it is not part of a version."""
    assert used_by("import random, email.utils, a", random="import b", email__utils="", a="", b="") == {"a"}


def test_a_helper_with_a_name_of_the_standard_library_is_found_in_the_package() -> None:
    """There it can't be meant otherwise."""
    assert used_by("from . import random\nimport email", random="import a", email="", a="") == {"random", "a"}


def test_imports_of_helpers_are_followed() -> None:
    """They may form circles, and a sense may import its own file as a helper."""
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
    """Importing a module runs the `__init__.py` of each of its packages, if there is one."""
    files = {"p/__init__.py": "", "p/a.py": "", "p/q/__init__.py": "", "p/q/b.py": "", "n/m.py": ""}
    assert set(codebase_of(files).used_by(main_of(source))) == used


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
        ("p/a.py", "from .. import top", {"top"}),
        ("p/q/c.py", "from ... import top", {"top"}),
        ("p/a.py", "from ... import top", set()),
        ("top.py", "from . import p", {"p"}),
        ("p/a.py", "from senses.p.q import c", {"p", "p.q", "p.q.c"}),
    ],
)
def test_relative_imports_start_at_the_file(path: str, source: str, used: set[str]) -> None:
    """A dot is the package, each further one the package above; beyond the senses' folder there is nothing."""
    others = ("p/__init__", "p/a", "p/b", "p/q/__init__", "p/q/c", "p/q/d", "top")
    files = {f"{name}.py": "" for name in others} | {path: source}
    codebase = codebase_of(files)
    found = set(codebase.used_by(codebase.files[module_name(FOLDER, FOLDER / path)]))
    assert used <= found
    assert found - used <= {"p", "p.q"}


def test_a_source_that_python_cannot_parse_imports_nothing() -> None:
    """The syntax check reports such a file."""
    assert imports(b"-" * 200_000 + b"1", "a", is_package=False) == frozenset()
    assert imports(b"# coding: klingon\nimport b", "a", is_package=False) == frozenset()


# Digests.


def test_the_digest_of_a_sense_without_helpers_is_that_of_its_file() -> None:
    """The output of `sha256sum senses/probe.py` begins with it."""
    source = "def compute(ctx): ...\n"
    digest = codebase_of({"a.py": "unused"}).version(main_of(source)).digest
    assert len(digest) == DIGEST_DIGITS == 32
    assert hashlib.sha256(source.encode()).hexdigest().startswith(digest)


def test_the_digests_of_a_version_are_those_of_its_files() -> None:
    """A version with helpers can be compared with the files on disk, one by one."""
    version = codebase_of({"a.py": "import b", "b.py": "x"}).version(main_of("import a"))
    sources = {"probe.py": b"import a", "a.py": b"import b", "b.py": b"x"}
    assert version.digests == {f"/w/senses/{path}": hashlib.sha256(s).hexdigest()[:32] for path, s in sources.items()}
    assert version.digest not in version.digests.values()


def test_a_version_has_all_files_that_it_imports() -> None:
    """Its own file comes first, then the others, sorted by the name under which they are imported."""
    version = codebase_of({"b.py": "import a", "a.py": "", "c.py": ""}).version(main_of("import b"), generation=3)
    assert [module.name for module in version.files] == ["senses.probe", "a", "b"]
    assert (version.generation, version.error) == (3, None)


def test_a_digest_is_the_same_in_every_process() -> None:
    """It is in the log and compared across boots, so it must not depend on the order of a set."""
    code = (
        "from nerve.reload.codebase import *\n"
        "files = [SourceFile(name=n, path=n, source=b'import a, b, c, d') for n in 'abcd']\n"
        "print(Codebase(files).version(SourceFile(name='senses.x', path='x', source=b'import a')).digest)"
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
def test_a_version_changes_if_and_only_if_a_file_that_it_imports_changes(
    main: str, before: dict[str, str], changed: st.DataObject
) -> None:
    """This holds for the digest and for the version, of each sense and each helper."""
    name = changed.draw(st.sampled_from(NAMES))
    after = before | {name: changed.draw(sources)}
    old, new = (codebase_of({PATHS[n]: text for n, text in files.items()}) for files in (before, after))
    for file in (main_of(main), *old.files.values()):
        if file.name == name:
            continue
        inside = name in old.used_by(file)
        versions = old.version(file), new.version(file)
        differs = inside and before[name] != after[name]
        assert (versions[0].digest != versions[1].digest) == differs
        assert (versions[0] != versions[1]) == differs


def test_a_moved_file_changes_the_version() -> None:
    """A module that becomes a package has the same source, but may have submodules."""
    module, package = (codebase_of({path: "x"}).version(main_of("import a")) for path in ("a.py", "a/__init__.py"))
    assert module != package


def test_a_version_can_be_encoded_and_decoded() -> None:
    """The watcher sends it to the kernel, and the kernel to the workers."""
    version = codebase_of({"a.py": "import a"}).version(main_of("import a"), 2)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(version), type=Version) == version


# Reading.


@pytest.mark.parametrize(
    ("path", "name"),
    [("a.py", "a"), ("lib/units.py", "lib.units"), ("lib/__init__.py", "lib"), ("a/b/__init__.py", "a.b")],
)
def test_a_module_is_named_by_its_path(path: str, name: str) -> None:
    """The name is the one under which Python imports it from the senses' folder."""
    assert module_name(FOLDER, FOLDER / path) == name


def test_hidden_files_and_caches_are_not_read(tmp_path: Path) -> None:
    """Editors, version control and Python keep such files beside the senses."""
    for path in ("a.py", "lib/b.py", ".git/c.py", "lib/.#d.py", "__pycache__/e.py", "f.pyc", "g.txt", "h.py~"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert [str(path.relative_to(tmp_path)) for path in source_paths(tmp_path)] == ["a.py", "lib/b.py"]
    assert list(source_paths(tmp_path / "nowhere")) == []


def test_a_codebase_has_every_file_of_the_folder(tmp_path: Path) -> None:
    """An unreadable file is part of it, with its error; a stray `__init__.py` at the top is not."""
    (tmp_path / "a.py").write_text("import b")
    (tmp_path / "b.py").mkdir()
    (tmp_path / "__init__.py").touch()
    codebase = Codebase.read(tmp_path)
    assert {name: file.error for name, file in codebase.files.items()} == {
        "a": None,
        "b": "can't be read: Is a directory",
    }


def test_an_unreadable_file_has_an_error_and_no_source(tmp_path: Path) -> None:
    """Whatever the reason, it is one line, and there is no exception; a named pipe is not waited for."""
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "large.py").write_bytes(b"#" * (MAX_SOURCE_BYTES + 1))
    (tmp_path / "just.py").write_bytes(b"#" * MAX_SOURCE_BYTES)
    errors = {name: read_source(tmp_path / f"{name}.py", name).error for name in ("missing", "pipe", "large", "just")}
    assert errors == {
        "missing": "can't be read: No such file or directory",
        "pipe": "can't be read: it is not a regular file",
        "large": "is larger than 4 MB",
        "just": None,
    }
    assert read_source(tmp_path / "large.py", "large").source == b""


def test_the_module_of_a_sense_is_named_after_the_sense() -> None:
    """Its path doesn't matter; a dash can't be part of a module's name."""
    assert read_main(SenseConfig("disk-usage", "/nowhere/x.py")).name == "senses.disk_usage"


def test_a_version_of_an_unreadable_file_has_its_error(tmp_path: Path) -> None:
    """It is active at the start all the same, and its runs fail with this error."""
    version = Codebase([]).version(read_main(SenseConfig("a", str(tmp_path / "a.py"))))
    assert version.error == "can't be read: No such file or directory"


def test_a_file_emptied_during_the_read_is_not_read_as_an_old_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is from after the read, so the modification time shows that the file is being saved."""
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


# Many files.


def test_each_file_is_parsed_once_however_many_import_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the time grows with the square of their number, also for those that are only read again."""
    parsed: list[bytes] = []
    parse = ast.parse
    monkeypatch.setattr("nerve.reload.codebase.ast.parse", lambda *a, **k: parsed.append(a[0]) or parse(*a, **k))
    files = {f"s{n}.py": f"import importlib, s{(n - 1) % 700}\nX = {n}, 'once'" for n in range(700)}
    for _ in range(2):
        codebase = codebase_of(files)
        versions = [codebase.version(main_of(source)) for source in files.values()]
    assert {len(version.helpers) for version in versions} == {700}
    assert len(parsed) <= 2 * len(files)


def test_senses_that_may_import_the_same_helpers_share_them() -> None:
    """A codebase with a dynamic import in every file stays as small as its files."""
    codebase = codebase_of({"a.py": "import importlib", "b.py": "import a", "c.py": "import c, b"})
    versions = [codebase.version(main_of(source)) for source in ("import importlib # 1", "import runpy # 2")]
    assert versions[0].helpers is versions[1].helpers
    assert versions[0].digest != versions[1].digest


@pytest.mark.parametrize(("folders", "files"), [(1, 11), (6, 1)])
def test_a_folder_of_senses_has_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: int, files: int
) -> None:
    """A link to a whole system is named, and nothing of it is read."""
    monkeypatch.setattr("nerve.reload.codebase.MAX_FILES", 10)
    monkeypatch.setattr("nerve.reload.codebase.MAX_FOLDERS", 5)
    (tmp_path / "senses").mkdir()
    (tmp_path / "senses" / "a.py").touch()
    for number in range(folders):
        (tmp_path / "usr" / f"d{number}").mkdir(parents=True)
        for file in range(files):
            (tmp_path / "usr" / f"d{number}" / f"f{file}.py").touch()
    assert Codebase.read(tmp_path / "senses").problem is None
    (tmp_path / "senses" / "lib").symlink_to("../usr")
    codebase = Codebase.read(tmp_path / "senses")
    step = f"remove the link senses/lib -> {tmp_path}/usr, or move what is not a sense elsewhere"
    assert codebase.problem == f"senses: has more than 10 Python files or 5 folders below it: {step}"
    assert codebase.files == {}


def test_a_file_whose_name_is_not_utf_8_is_not_part_of_the_codebase(tmp_path: Path) -> None:
    """Python can't import it, and its name could not be sent to a worker."""
    for name in (b"m\xe9t\xe9o.py", b"d\xe9/a.py", b"b.py"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.touch()
    codebase = Codebase.read(tmp_path)
    assert set(codebase.files) == {"b"}
    version = codebase.version(main_of("import importlib"))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(version), type=Version) == version
