"""The code of the senses: a version is a sense's file and all modules of the senses' folder that it imports."""

from __future__ import annotations

import ast
import hashlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec

from nerve.config.config import SenseConfig
from nerve.events.payload import printable
from nerve.reload.source_cache import cached_by_digest
from nerve.workspace import is_utf8

MAX_SOURCE_BYTES = 4 * 1024**2
DIGEST_DIGITS = 32

MAX_FILES, MAX_FOLDERS = 5000, 500
"""Limits on the Python files and the folders below the senses' folder: a link may lead to a whole system."""

_DYNAMIC = frozenset({"importlib", "__import__", "runpy", "pkgutil"})
"""A file that uses one of these may import any module."""


PREFIX = "senses."
"""A helper `lib.units` can also be imported as `senses.lib.units`, and relatively."""


class Module(msgspec.Struct, frozen=True):
    """One source file; `name` is its name when imported, and `digest` also covers the modules that it imports.

    Digests are the first 32 hex digits of a SHA-256.
    """

    name: str
    path: str
    source: bytes
    digest: str

    @property
    def is_package(self) -> bool:
        """Whether it is the `__init__.py` of a folder."""
        return self.path.endswith("/__init__.py")


class Version(msgspec.Struct, frozen=True):
    """What a run of a sense executes: the sense's file, and the modules that it may import from the senses' folder.

    `digest` is that of the file, or if it imports modules, that of the list of all files. A version with an equal
    digest but another `generation` is loaded again all the same. `error` is set if the file could not be read.
    """

    main: Module
    helpers: tuple[Module, ...] = ()
    generation: int = 0
    error: str | None = None

    @property
    def digest(self) -> str:
        """The digest that the log has for this version."""
        return self.main.digest

    @property
    def files(self) -> Iterator[Module]:
        """The sense's file, then the modules that it may import."""
        yield self.main
        yield from self.helpers

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each file alone, by its path."""
        return {module.path: _sha256(module.source)[:DIGEST_DIGITS] for module in self.files}


class SourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it is on disk: last written at `modified`, in unix ns; `error` is set if it can't be read."""

    name: str
    path: str
    source: bytes
    error: str | None = None
    modified: int = 0


def read_source(path: Path, name: str) -> SourceFile:
    """Return a source file; one that can't be read, or is too large, has an error instead of a source."""
    try:
        source, status = _read(path)
    except OSError as error:
        return SourceFile(name=name, path=str(path), source=b"", error=f"can't be read: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return SourceFile(name=name, path=str(path), source=b"", error="can't be read: it is not a regular file")
    if len(source) > MAX_SOURCE_BYTES:
        return SourceFile(
            name=name, path=str(path), source=b"", error=f"is larger than {MAX_SOURCE_BYTES // 1024**2} MB"
        )
    return SourceFile(name=name, path=str(path), source=source, modified=status.st_mtime_ns)


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    """Return the content of a file, one byte more than the limit at most, and its status after that was read.

    In this order, a file that was emptied before the read has a modification time that shows it.
    """
    descriptor = os.open(
        path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    )  # opening a named pipe without a writer must not block
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_SOURCE_BYTES + 1) or b"", os.fstat(descriptor)
    finally:
        os.close(descriptor)


class TooManyFilesError(ValueError):
    """The senses' folder has more files or folders below it than any folder of senses has."""

    def __init__(self, folder: Path, inside: Path) -> None:
        links = [path for path in (inside, *inside.parents) if path.is_relative_to(folder) and path.is_symlink()]
        step = "move what is not a sense elsewhere"
        if links:
            link, target = (printable(os.path.relpath(links[-1], folder.parent)), printable(str(links[-1].resolve())))
            step = f"remove the link {link} -> {target}, or {step}"
        limits = f"more than {MAX_FILES} Python files or {MAX_FOLDERS} folders"
        super().__init__(f"{folder.name}: has {limits} below it: {step}")


def source_paths(folder: Path) -> Iterator[Path]:
    """Return the Python files of the senses' folder and its subfolders, without hidden ones.

    Raises TooManyFilesError beyond the limits.
    """
    files = 0
    for folders, inner in enumerate(source_folders(folder), 1):
        paths = sorted(path for path in inner.glob("*.py") if not path.name.startswith("."))
        files += len(paths)
        if files > MAX_FILES or folders > MAX_FOLDERS:
            raise TooManyFilesError(folder, inner)
        yield from paths


def source_folders(folder: Path) -> Iterator[Path]:
    """Return the senses' folder and its subfolders; links are followed, but no folder is visited twice."""
    seen: set[Path] = set()
    for path, names, _files in os.walk(folder, followlinks=True):
        seen.add(Path(path).resolve())
        visible = (name for name in sorted(names) if not name.startswith(".") and name != "__pycache__")
        names[:] = [name for name in visible if Path(path, name).resolve() not in seen]
        yield Path(path)


def module_name(folder: Path, path: Path) -> str:
    """Return the name under which a file of the senses' folder is imported: `lib/units.py` is `lib.units`."""
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_main(sense: SenseConfig) -> SourceFile:
    """Return a sense's own file."""
    return read_source(Path(sense.path), f"{PREFIX}{sense.name.replace('-', '_')}")


class Codebase:
    """The senses' folder at one moment: every module that a sense could import, by its name.

    Files that import the same modules share what follows from that, so the work grows with the number of files, also
    where a dynamic import makes every file depend on all others. `problem` is set if the folder is too large to be one
    of senses; the codebase is then empty.
    """

    def __init__(self, files: Iterable[SourceFile], problem: str | None = None) -> None:
        self.files = {file.name: file for file in files}
        self.problem = problem
        self._imports: dict[SourceFile, frozenset[str]] = {}
        self._closures: dict[frozenset[str], _Closure] = {}
        self._helpers: dict[tuple[str, ...], tuple[Module, ...]] = {}
        self._modules: dict[str, Module] = {}

    @classmethod
    def read(cls, folder: Path) -> Codebase:
        """Return the codebase that is in the folder now."""
        try:
            paths = list(source_paths(folder))
        except TooManyFilesError as error:
            return cls([], str(error))
        names = ((path, module_name(folder, path)) for path in paths if is_utf8(path))  # Python imports no other names
        return cls(read_source(path, name) for path, name in names if name)  # the top `__init__.py` has no name

    def used_by(self, file: SourceFile) -> tuple[str, ...]:
        """Return the sorted names of the helpers that a file imports, directly or not."""
        return self._closure(file).names

    def version(self, main: SourceFile, generation: int = 0) -> Version:
        """Return the version of the sense with this file, even if the file is broken."""
        used = self._closure(main)
        if used.names not in self._helpers:
            self._helpers[used.names] = tuple(self._helper(name) for name in used.names)
        return Version(_module(main, used), self._helpers[used.names], generation, main.error)

    def _helper(self, name: str) -> Module:
        module = self._modules.get(name)
        if module is None:
            file = self.files[name]
            module = self._modules[name] = _module(file, self._closure(file))
        return module

    def _closure(self, file: SourceFile) -> _Closure:
        """Return the helpers that a file imports, directly or not; a helper that imports itself is one of them."""
        direct = self._imported(file)
        if direct not in self._closures:
            names = self._reachable(direct)
            lines = (f"{name} {_sha256(self.files[name].source)}\n" for name in names)
            self._closures[direct] = _Closure(names, "".join(lines).encode())
        return self._closures[direct]

    def _reachable(self, direct: frozenset[str]) -> tuple[str, ...]:
        found = set(direct)
        waiting = list(direct)
        while waiting and len(found) < len(self.files):
            new = self._imported(self.files[waiting.pop()]) - found
            found |= new
            waiting += new
        return tuple(sorted(found))

    def _imported(self, file: SourceFile) -> frozenset[str]:
        """Return the helpers that a file may import itself."""
        names = self._imports.get(file)
        if names is None:
            imported = imports(file.source, file.name, is_package=file.path.endswith("/__init__.py"))
            names = self._all if imported & _DYNAMIC else imported & self._all
            self._imports[file] = names
        return names

    @cached_property
    def _all(self) -> frozenset[str]:
        return frozenset(self.files)


class _Closure(NamedTuple):
    """The sorted names of helpers, and a line with name and digest for each."""

    names: tuple[str, ...]
    lines: bytes


def _module(file: SourceFile, used: _Closure) -> Module:
    own = _sha256(file.source)
    digest = _sha256(f"{file.name} {own}\n".encode() + used.lines) if used.names else own
    return Module(file.name, file.path, file.source, digest[:DIGEST_DIGITS])


@cached_by_digest
def imports(source: bytes, name: str, *, is_package: bool) -> frozenset[str]:
    """Return the names of all modules that a source may import, anywhere in it; none if it is not valid Python.

    A helper has the same name whether it is imported by that name, as a part of the package `senses`, or relatively.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    full_name = name if name.startswith(PREFIX) else f"{PREFIX}{name}"
    package = full_name if is_package else full_name.rpartition(".")[0]
    modules = (module for node in ast.walk(tree) for module in _imported(node, package))
    parts = (part for module in modules for part in _with_parents(module) if _may_be_helper(part))
    return frozenset(part.removeprefix(PREFIX) for part in parts)


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    match node:
        case ast.Import(names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module, names, level):
            base = _absolute(module or "", level or 0, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in names)
        case ast.Name(id):
            yield from _DYNAMIC & {id}


def _absolute(module: str, level: int, package: str) -> str:
    if not level:
        return module
    parents = package.split(".")[: -(level - 1) or None]
    return ".".join([*parents, module] if module else parents)


def _with_parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[: count + 1]) for count in range(len(parts)))


def _may_be_helper(module: str) -> bool:
    """Return False for the standard library, which wins over a helper of the same name; keep the dynamic importers."""
    return module in _DYNAMIC or module.partition(".")[0] not in sys.stdlib_module_names


def _sha256(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()
