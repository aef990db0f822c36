"""The code of the senses: a version is a sense's file and all modules of the senses' folder that it imports."""

from __future__ import annotations

import ast
import hashlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from nerve.config.config import SenseConfig

MAX_SOURCE_BYTES = 4 * 1024**2
DIGEST_DIGITS = 32

CACHED_SOURCES = 512
"""The imports of this many sources are cached; the limit is for memory, as every save makes a new source."""

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


def source_paths(folder: Path) -> Iterator[Path]:
    """Return the Python files of the senses' folder and its subfolders, without hidden ones."""
    for inner in source_folders(folder):
        yield from sorted(path for path in inner.glob("*.py") if not path.name.startswith("."))


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
    """The senses' folder at one moment: every module that a sense could import, by its name."""

    def __init__(self, files: Iterable[SourceFile]) -> None:
        self.files = {file.name: file for file in files}
        self._modules: dict[str, Module] = {}

    @classmethod
    def read(cls, folder: Path) -> Codebase:
        """Return the codebase that is in the folder now."""
        names = ((path, module_name(folder, path)) for path in source_paths(folder))
        return cls(read_source(path, name) for path, name in names if name)  # the top `__init__.py` has no name

    def version(self, main: SourceFile, generation: int = 0) -> Version:
        """Return the version of the sense with this file, even if the file is broken."""
        used = closure(main, self.files)
        helpers = tuple(self._helper(name) for name in used)
        return Version(self._module(main, used), helpers, generation, main.error)

    def _helper(self, name: str) -> Module:
        module = self._modules.get(name)
        if module is None:
            file = self.files[name]
            module = self._modules[name] = self._module(file, closure(file, self.files))
        return module

    def _module(self, file: SourceFile, used: Iterable[str]) -> Module:
        own = _sha256(file.source)
        lines = [f"{name} {_sha256(self.files[name].source)}\n" for name in used]
        digest = _sha256("".join([f"{file.name} {own}\n", *lines]).encode()) if lines else own
        return Module(file.name, file.path, file.source, digest[:DIGEST_DIGITS])


def closure(file: SourceFile, helpers: Mapping[str, SourceFile]) -> tuple[str, ...]:
    """Return the names of the helpers that a file imports, directly or not, sorted and without the file itself."""
    found: set[str] = set()
    waiting = [file]
    while waiting:
        current = waiting.pop()
        imported = imports(current.source, current.name, is_package=current.path.endswith("/__init__.py"))
        names = helpers.keys() if imported & _DYNAMIC else imported & helpers.keys()
        new = names - found - {file.name}
        found |= new
        waiting += [helpers[name] for name in new]
    return tuple(sorted(found))


@lru_cache(maxsize=CACHED_SOURCES)
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
