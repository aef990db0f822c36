"""Loads senses in the versions that the kernel sends, never with a module of another version; inside a worker."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from nerve.errors import SenseLoadError
from nerve.reload.codebase import Module, Version
from nerve.reload.hidden_helpers import module_that_hides
from nerve.runtime.context import SenseContext
from nerve.runtime.tracebacks import describe_exception, format_traceback

Compute = Callable[[SenseContext], Any]


class SenseLoader:
    """Keeps each sense's version and its loaded `compute`; a load that failed is repeated at the next run."""

    def __init__(self, folder: Path) -> None:
        self._helpers = HelperFinder(folder)
        self._versions: dict[str, Version] = {}
        self._computes: dict[str, Compute] = {}

    def install(self) -> None:
        """Make imports of helper modules use the active versions, in this process."""
        sys.meta_path.insert(0, self._helpers)

    def accept(self, sense: str, version: Version | None) -> None:
        """Use this version of a sense from now on; None keeps the current one."""
        if version is not None:
            previous = self._versions.get(sense)
            if previous is not None:
                self._helpers.forget_all_but(previous, version)
                self._helpers.forget_foreign_modules()
            self._versions[sense] = version
            self._computes.pop(sense, None)

    def load(self, sense: str) -> Compute:
        """Return the `compute` of a sense. Raises SenseLoadError, which says what is wrong with its file and where."""
        version = self._versions[sense]
        self._helpers.follow(version)
        compute = self._computes.get(sense)
        if compute is None:
            compute = self._computes[sense] = _load(version)
        return compute


class HelperFinder(MetaPathFinder):
    """Finds the modules of the senses' folder, in the version that runs; the standard library and packages win."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._version: Version | None = None
        self._generation = 0
        self._modules: dict[str, Module] = {}
        self._packages: frozenset[str] = frozenset()
        self._loaded: dict[str, tuple[str, str] | None] = {}
        self._hidden: dict[str, bool] = {}

    def follow(self, version: Version) -> None:
        """Use this version from now on, and forget the loaded modules that differ in it."""
        previous, self._version = self._version, version
        if previous is version:
            return
        if not (version.helpers or self._modules or self._loaded):
            self._generation = max(self._generation, version.generation)
            return  # most senses have no helpers, and take turns
        self._modules = {module.name: module for module in version.helpers}
        self._packages = frozenset(parent for name in self._modules for parent in _parents(name))
        reload_all = version.generation > self._generation
        self._generation = max(self._generation, version.generation)
        for name, loaded in list(self._loaded.items()):
            provided = name in self._modules or name in self._packages
            if reload_all or (provided and loaded != _identity(self._modules.get(name))):
                self._forget(name)

    def forget_all_but(self, previous: Version, version: Version) -> None:
        """Forget the modules that only the previous version of a sense could import: their files may be gone."""
        kept = {module.name for module in version.helpers}
        for module in previous.helpers:
            if module.name not in kept:
                self._forget(module.name)

    def forget_foreign_modules(self) -> None:
        """Unload modules that another finder imported from the senses' folder: their version is unknown."""
        inside = f"{self._folder}{os.sep}"
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path.startswith(inside) and not self._is_known(name):
                del sys.modules[name]

    def _is_known(self, name: str) -> bool:
        return name in self._loaded or name.startswith("senses.")

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Return the spec of a helper module; None leaves the search to the other finders."""
        module = self._modules.get(fullname)
        if (module is None and fullname not in self._packages) or self._is_hidden(fullname.partition(".")[0]):
            return None
        folder = str(self._folder.joinpath(*fullname.split(".")))
        if module is None:  # a folder without `__init__.py`
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [folder]
            self._loaded[fullname] = None
            return spec
        self._loaded[fullname] = _identity(module)
        return spec_from_file_location(
            fullname,
            module.path,
            loader=_HelperLoader(fullname, module),
            submodule_search_locations=[folder] if module.is_package else None,
        )

    def _is_hidden(self, top: str) -> bool:
        """Return True if the standard library or an installed package has a module with this name, which then wins."""
        if top not in self._hidden:
            self._hidden[top] = module_that_hides(top, self._folder) is not None
        return self._hidden[top]

    def _forget(self, name: str) -> None:
        """Forget a module, and everything in it if it is a package: its modules refer to the old package."""
        for inner in [known for known in self._loaded if known == name or known.startswith(f"{name}.")]:
            del self._loaded[inner]
            sys.modules.pop(inner, None)
        parent, _, last = name.rpartition(".")
        vars(sys.modules[parent]).pop(last, None) if parent in sys.modules else None


def _identity(module: Module | None) -> tuple[str, str] | None:
    """Return what a loaded module must have in common with this one; None for a folder without `__init__.py`."""
    return None if module is None else (module.digest, module.path)


class _HelperLoader(SourceFileLoader):
    """Loads one module from memory, and not from bytecode files, whose timestamps can hide a change."""

    def __init__(self, name: str, module: Module) -> None:
        super().__init__(name, module.path)
        self._module = module

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Make the import machinery ignore bytecode files, by an OSError."""
        raise OSError(f"bytecode of {path} is not used")

    def get_data(self, path: str) -> bytes:
        """Return the source of the active version; any other file is read from the disk."""
        if path != self._module.path:
            return super().get_data(path)
        _remember_lines(self._module)
        return self._module.source


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _load(version: Version) -> Compute:
    main = version.main
    code = _compiled(version)
    module = ModuleType(main.name)
    module.__file__ = main.path
    sys.modules[module.__name__] = module  # dataclasses, for one, look up their module there
    _remember_lines(main)
    try:
        exec(code, module.__dict__)  # a worker runs the user's code
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's module may raise anything
        raise SenseLoadError(
            f"{main.path} can't be loaded: {describe_exception(error)}", format_traceback(error)
        ) from None
    compute: Compute | None = getattr(module, "compute", None)
    if not callable(compute):
        raise SenseLoadError(f"{main.path} has no `compute`: add `def compute(ctx):`")
    return compute


def _compiled(version: Version) -> CodeType:
    main = version.main
    if version.error:
        raise SenseLoadError(f"{main.path} {version.error}")
    try:
        return compile(main.source, main.path, "exec", dont_inherit=True)
    except SyntaxError as error:
        place = f"{main.path}:{error.lineno}" if error.lineno else main.path
        raise SenseLoadError(f"{place}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise SenseLoadError(f"{main.path} can't be compiled: {describe_exception(error)}") from None


def _remember_lines(module: Module) -> None:
    """Make tracebacks show the lines that ran, even if the file has changed since."""
    lines = module.source.decode(errors="replace").splitlines(keepends=True)
    linecache.cache[module.path] = (len(module.source), None, lines, module.path)
