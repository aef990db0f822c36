"""The code that ran, kept by its digest: whole, once, checkable, and removed when no run has it."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pytest

from nerve.errors import NerveError
from nerve.reload.code_store import CodeStore, KeptFile, iter_text
from nerve.reload.codebase import Codebase, SourceFile, Version

ONE = b"def compute(ctx): return 1\n"
HELPERS = {"lib.units": b"x = 1", "lib": b""}


def version_of(source: bytes, name: str = "senses.disk", **helpers: bytes) -> Version:
    """Return the version of a sense; `__` in the names of helpers is a dot."""
    files = {name.replace("__", "."): source for name, source in helpers.items()}
    codebase = Codebase(SourceFile(name=name, path=f"/w/{name}.py", source=text) for name, text in files.items())
    return codebase.version(SourceFile(name=name, path=f"/w/{name}.py", source=source))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the store, which is not there yet."""
    return tmp_path / "code"


@pytest.fixture
def store(folder: Path) -> CodeStore:
    """Return an empty store."""
    return CodeStore(folder)


def text(store: CodeStore, version: Version) -> bytes:
    """Return what is printed of a version."""
    return b"".join(iter_text(store.files(version.digest)))


def test_a_version_of_one_file_is_kept_as_that_file(store: CodeStore, folder: Path) -> None:
    """Its name is the beginning of its SHA-256, and only its owner can read it."""
    version = version_of(ONE)
    store.keep(version)
    store.keep(version)
    [path] = folder.iterdir()
    assert path.name == version.digest == hashlib.sha256(ONE).hexdigest()[:32]
    assert path.stat().st_mode & 0o777 == 0o600
    assert text(store, version) == ONE


def test_a_version_with_helpers_has_all_its_files(store: CodeStore, folder: Path) -> None:
    """A helper is kept once for all senses, and each file can be checked by its name."""
    first = version_of(b"import lib.units\n# 1", lib__units=b"x = 1", lib=b"")
    second = version_of(b"import lib.units\n# 2\n", "senses.load", lib__units=b"x = 1", lib=b"")
    for version in (first, second):
        store.keep(version)
    digests = {hashlib.sha256(path.read_bytes()).hexdigest()[:32] for path in folder.iterdir()}
    assert digests == {path.name for path in folder.iterdir()}
    assert len(digests) == 2 + 2 + 2
    assert [(file.name, file.source) for file in store.files(first.digest)] == [
        ("senses.disk", b"import lib.units\n# 1"),
        ("lib", b""),
        ("lib.units", b"x = 1"),
    ]
    headings = [line for line in text(store, first).decode().splitlines() if line.startswith("# ") and len(line) > 4]
    assert [heading.split()[1] for heading in headings] == ["senses.disk", "lib", "lib.units"]


def test_a_version_is_found_by_the_beginning_of_its_digest(store: CodeStore) -> None:
    """What is not kept is an error."""
    version = version_of(ONE)
    store.keep(version)
    assert store.find(version.digest[:6]) == [version.digest]
    assert store.find("zz") == []
    with pytest.raises(NerveError, match="no code is kept for 'ffff'"):
        store.files("ffff")


def test_a_missing_helper_is_said_in_its_place(store: CodeStore, folder: Path) -> None:
    """Somebody may have removed it; the rest is printed."""
    version = version_of(b"import a\n", a=b"x")
    store.keep(version)
    (folder / hashlib.sha256(b"x").hexdigest()[:32]).unlink()
    assert text(store, version).endswith(b"# no longer kept\n")
    assert store.files(version.digest)[1] == KeptFile("a", hashlib.sha256(b"x").hexdigest()[:32], None)


def test_a_store_that_can_not_be_written_warns_once(
    store: CodeStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on."""
    folder.write_text("in the way")
    with caplog.at_level(logging.WARNING):
        for source in (b"1", b"2"):
            store.keep(version_of(source))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_an_unreadable_file_is_not_kept(store: CodeStore, folder: Path) -> None:
    """There is no source."""
    store.keep(
        Codebase([]).version(SourceFile(name="senses.a", path="/w/a.py", source=b"", error="can't be read: gone"))
    )
    assert not folder.exists()


def test_a_link_at_the_place_of_a_file_is_not_followed(store: CodeStore, folder: Path, tmp_path: Path) -> None:
    """Nothing outside the folder is written."""
    folder.mkdir()
    digest = version_of(ONE).digest
    target = tmp_path / "target"
    (folder / f".{digest}.{os.getpid()}").symlink_to(target)
    store.keep(version_of(ONE))
    assert not target.exists()


def test_code_that_no_run_has_is_pruned_and_what_stays_keeps_its_helpers(store: CodeStore, folder: Path) -> None:
    """A helper goes with the last version that has it."""
    versions = [version_of(b"import a # %d" % n, a=b"x", b=b"y") for n in range(2)] + [version_of(ONE)]
    for version in versions:
        store.keep(version)
    for path in folder.iterdir():
        os.utime(path, (1000, 1000))
    old = store.unused_since(2000)
    assert len(old) == 2 * 2 + 1 + 1
    assert store.prune(old, {versions[0].digest}) == 3
    assert {file.source for file in store.files(versions[0].digest)} == {b"import a # 0", b"x"}
    assert versions[0].digest not in store.unused_since(2000)
    assert store.find(versions[2].digest) == []


def test_code_that_a_worker_starts_to_use_again_is_not_old(store: CodeStore, folder: Path) -> None:
    """Every boot keeps its code again, which renews it."""
    version = version_of(ONE)
    store.keep(version)
    os.utime(folder / version.digest, (1000, 1000))
    store.keep(version)
    assert store.unused_since(2000) == set()
