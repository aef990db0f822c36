"""An update: planned by the watcher from the files on disk, and packed into one message to the kernel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from nerve.config.config import Config
from nerve.events.payload import printable
from nerve.reload.codebase import Codebase, Module, SourceFile, Version
from nerve.reload.revision import Delta, Revision
from nerve.reload.snapshot import Snapshot
from nerve.reload.syntax_check import Problem, problem_of

MAX_CODE_BYTES = 16 * 1024**2
"""Limit on the source of one sense and all that it imports from the senses' folder, since a version is one message."""


def plan_update(revision: Revision, snapshot: Snapshot, *, home: Path, force: bool = False) -> Delta:
    """Return what has to change so that the valid files of the snapshot become active.

    With `force`, every valid file counts as changed, and problems that are already known are reported again.
    """
    generation = revision.generation + force
    versions: dict[str, Version] = {}
    broken: dict[str, str] = {}
    checks = _Checks(snapshot.codebase, home)
    mains = {} if snapshot.codebase.problem else snapshot.mains
    for name, main in mains.items():
        version = snapshot.codebase.version(main, generation)
        problem = checks.problem(main, version)
        current = revision.versions.get(name)
        if problem and (force or revision.broken.get(name) != problem):
            broken[name] = problem
        if current is None or (not problem and (name in revision.broken or checks.differ(version, current))):
            versions[name] = version
    new_config = force or snapshot.config != revision.config or revision.config_problems
    new_problems = snapshot.problems and (force or snapshot.problems != revision.config_problems)
    return Delta(snapshot.config if new_config else None, snapshot.problems if new_problems else None, versions, broken)


class _Checks:
    """Checks the versions of one codebase; senses that import the same helpers share them, and their results."""

    def __init__(self, codebase: Codebase, home: Path) -> None:
        self._codebase = codebase
        self._home = home
        self._helpers: dict[int, tuple[str | None, int]] = {}
        self._equal: dict[tuple[int, int], bool] = {}

    def problem(self, main: SourceFile, version: Version) -> str | None:
        """Return the line that describes the first problem of a sense's files, or None if there is none."""
        key = id(version.helpers)  # which the codebase keeps, so that the id stays theirs
        if key not in self._helpers:
            files = (self._codebase.files[module.name] for module in version.helpers)
            problem = next((line for file in files if (line := self._problem_of(file, is_sense=False))), None)
            self._helpers[key] = problem, sum(len(module.source) for module in version.helpers)
        of_helpers, size = self._helpers[key]
        if problem := self._problem_of(main, is_sense=True) or of_helpers:
            return problem
        if size + len(main.source) > MAX_CODE_BYTES:
            return f"{main.name}: has more than {MAX_CODE_BYTES // 1024**2} MB of source"
        return None

    def differ(self, new: Version, old: Version) -> bool:
        """Return True if two versions are not equal."""
        key = id(new.helpers), id(old.helpers)
        if key not in self._equal:
            self._equal[key] = new.helpers == old.helpers
        mine, theirs = (msgspec.structs.replace(version, helpers=()) for version in (new, old))
        return mine != theirs or not self._equal[key]

    def _problem_of(self, file: SourceFile, *, is_sense: bool) -> str | None:
        problem = Problem(1, file.error) if file.error else problem_of(file.source, file.path, is_sense=is_sense)
        return (
            f"{printable(os.path.relpath(file.path, self._home))}:{problem.line}: {problem.text}" if problem else None
        )


class PackedVersion(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A sense's new version; `main` is a position in the update's `modules`, and `helpers` one in its `helpers`."""

    sense: str
    main: int
    helpers: int
    generation: int
    error: str | None


class Update(msgspec.Struct, frozen=True, kw_only=True, tag=7):
    """Watcher to kernel: a delta, in which each module, and each list of helpers, is sent once for all senses.

    `request` is the number of the Rescan that the update answers; None if a change on disk was its reason.
    """

    config: Config | None = None
    config_problems: tuple[str, ...] | None = None
    modules: tuple[Module, ...] = ()
    helpers: tuple[tuple[int, ...], ...] = ()
    versions: tuple[PackedVersion, ...] = ()
    broken: Mapping[str, str] = {}
    request: int | None = None

    @classmethod
    def pack(cls, delta: Delta, request: int | None = None) -> Update:
        """Return the message that carries a delta."""
        positions: dict[Module, int] = {}
        lists: dict[int, tuple[int, ...]] = {}

        def position(module: Module) -> int:
            return positions.setdefault(module, len(positions))

        for version in delta.versions.values():
            if id(version.helpers) not in lists:
                lists[id(version.helpers)] = tuple(map(position, version.helpers))
        numbers = {key: number for number, key in enumerate(lists)}

        versions = tuple(
            PackedVersion(
                sense=sense,
                main=position(version.main),
                helpers=numbers[id(version.helpers)],
                generation=version.generation,
                error=version.error,
            )
            for sense, version in delta.versions.items()
        )
        return cls(
            config=delta.config,
            config_problems=delta.config_problems,
            modules=tuple(positions),
            helpers=tuple(lists.values()),
            versions=versions,
            broken=delta.broken,
            request=request,
        )

    def unpack(self) -> Delta:
        """Return the delta that the message carries."""
        lists = [tuple(self.modules[at] for at in positions) for positions in self.helpers]
        versions = {
            packed.sense: Version(self.modules[packed.main], lists[packed.helpers], packed.generation, packed.error)
            for packed in self.versions
        }
        return Delta(self.config, self.config_problems, versions, self.broken)
