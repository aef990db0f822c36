"""Loads senses in the versions that the kernel sends, never with a module of another version; inside a worker."""

from __future__ import annotations

import importlib
import linecache
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from nerve.errors import SenseLoadError
from nerve.reload.codebase import PREFIX, Module, Version
from nerve.reload.hidden_helpers import module_that_hides
from nerve.runtime.context import SenseContext
from nerve.runtime.tracebacks import describe_exception, format_traceback

Compute = Callable[[SenseContext], Any]


PACKAGE = PREFIX.removesuffix(".")


class SenseLoader:
    """Keeps each sense's version and its loaded `compute`; a load that failed is repeated at the next run.

    In a run the sense's own module is `senses.NAME`, so that what is defined in it can be pickled. That name then means
    the module that the sense `NAME` has as a helper of others: so it is taken away again when another sense runs.
    """

    def __init__(self, folder: Path) -> None:
        self._helpers = HelperFinder(folder)
        self._versions: dict[str, Version] = {}
        self._modules: dict[str, ModuleType] = {}
        self._computes: dict[str, Compute] = {}
        self._folder = folder
        self._shown: ModuleType | None = None

    def install(self) -> None:
        """Make imports of helper modules use the active versions, in this process."""
        sys.meta_path.insert(0, self._helpers)
        package = ModuleType(PACKAGE)
        package.__spec__ = _package_spec(PACKAGE, str(self._folder))
        package.__path__ = [str(self._folder)]
        package.__package__ = PACKAGE
        sys.modules[PACKAGE] = package

    def accept(self, sense: str, version: Version | None) -> None:
        """Use this version of a sense from now on; None keeps the current one."""
        if version is not None:
            previous = self._versions.get(sense)
            if previous is not None:
                self._helpers.forget_all_but(previous, version)
                self._helpers.forget_foreign_modules(self._shown)
            self._versions[sense] = version
            self._computes.pop(sense, None)

    def is_loaded(self, sense: str) -> bool:
        """Return True if `load` executes nothing, because the active version of the sense is loaded."""
        return sense in self._computes

    def load(self, sense: str) -> Compute:
        """Return the `compute` of a sense. Raises SenseLoadError, which says what is wrong with its file and where."""
        version = self._versions[sense]
        self._helpers.follow(version)
        compute = self._computes.get(sense)
        if compute is None:
            module = self._modules[sense] = _module(version.main)
            self._show(module)
            compute = self._computes[sense] = _load(version, module)
        elif self._modules[sense] is not self._shown:
            self._show(self._modules[sense])
        return compute

    def _show(self, module: ModuleType) -> None:
        """Make this the only sense's module that can be imported: pickle and dataclasses, for example, do so."""
        if self._shown is not None:
            sys.modules.pop(self._shown.__name__, None)
        self._shown = sys.modules[module.__name__] = module


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
            own_name = name.removeprefix(PREFIX)
            provided = own_name in self._modules or own_name in self._packages
            if reload_all or (provided and loaded != _identity(self._modules.get(own_name))):
                self._forget(name)

    def forget_all_but(self, previous: Version, version: Version) -> None:
        """Forget the modules that only the previous version of a sense could import: their files may be gone."""
        kept = {module.name for module in version.helpers}
        for module in previous.helpers:
            if module.name not in kept:
                self._forget(module.name)
                self._forget(PREFIX + module.name)

    def forget_foreign_modules(self, kept: ModuleType | None) -> None:
        """Unload modules that another finder imported from the senses' folder, as their version is unknown.

        The module `kept` is that of a sense.
        """
        inside = f"{self._folder}{os.sep}"
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path.startswith(inside) and name not in self._loaded and module is not kept:
                del sys.modules[name]

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Return the spec of a helper module; None leaves the search to the other finders."""
        name = fullname.removeprefix(PREFIX)
        module = self._modules.get(name)
        if module is None and name not in self._packages:
            return None
        is_hidden, in_package = self._is_hidden(name.partition(".")[0]), name != fullname
        if is_hidden and not in_package:
            return None
        self._loaded[fullname] = _identity(module)
        if in_package and not is_hidden:
            return ModuleSpec(fullname, _OtherName(name))
        folder = str(self._folder.joinpath(*name.split(".")))
        if module is None:
            return _package_spec(fullname, folder)
        spec = spec_from_file_location(
            fullname,
            module.path,
            loader=_HelperLoader(fullname, module),
            submodule_search_locations=[folder] if module.is_package else None,
        )
        if spec is not None:
            spec.__class__ = _HelperSpec
        return spec

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


class _HelperSpec(ModuleSpec):
    """The spec of a helper, whose relative imports are those of a module in the package `senses`."""

    @property
    def parent(self) -> str:
        """The package that one dot means."""
        parent = super().parent or ""
        return parent if f"{parent}.".startswith(PREFIX) else f"{PREFIX}{parent}".removesuffix(".")


class _OtherName(Loader):
    """Loads `senses.lib.units` as what `lib.units` is, so that there is one module and one state, however imported."""

    def __init__(self, name: str) -> None:
        self._name = name

    def exec_module(self, module: ModuleType) -> None:
        """Replace the new module."""
        sys.modules[module.__name__] = importlib.import_module(self._name)


def _package_spec(name: str, folder: str) -> ModuleSpec:
    """Return the spec of a folder without `__init__.py`."""
    spec = _HelperSpec(name, None, is_package=True)
    spec.submodule_search_locations = [folder]
    return spec


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


def _module(main: Module) -> ModuleType:
    module = ModuleType(main.name)
    module.__file__ = main.path
    module.__spec__ = ModuleSpec(main.name, None, origin=main.path)
    module.__package__ = module.__spec__.parent
    return module


def _load(version: Version, module: ModuleType) -> Compute:
    main = version.main
    code = _compiled(version)
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
