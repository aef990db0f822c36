"""An update: planned by the watcher from the files on disk, and packed into one message to the kernel."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from nerve.config.config import Config
from nerve.events.payload import printable
from nerve.reload.codebase import Codebase, Module, SourceFile, Version
from nerve.reload.revision import Delta, Revision
from nerve.reload.snapshot import Snapshot
from nerve.reload.syntax_check import problem_of

MAX_CODE_BYTES = 16 * 1024**2
"""Limit on the source of one sense and all that it imports from the senses' folder, since a version is one message."""


def plan_update(revision: Revision, snapshot: Snapshot, *, home: Path, force: bool = False) -> Delta:
    """Return what has to change so that the valid files of the snapshot become active.

    With `force`, every valid file counts as changed, and problems that are already known are reported again.
    """
    generation = revision.generation + force
    versions: dict[str, Version] = {}
    broken: dict[str, str] = {}
    for name, main in snapshot.mains.items():
        version = snapshot.codebase.version(main, generation)
        problem = _problem(main, version, snapshot.codebase, home)
        current = revision.versions.get(name)
        if problem and (force or revision.broken.get(name) != problem):
            broken[name] = problem
        if current is None or (not problem and (version != current or name in revision.broken)):
            versions[name] = version
    new_config = force or snapshot.config != revision.config or revision.config_problems
    new_problems = snapshot.problems and (force or snapshot.problems != revision.config_problems)
    return Delta(snapshot.config if new_config else None, snapshot.problems if new_problems else None, versions, broken)


def _problem(main: SourceFile, version: Version, codebase: Codebase, home: Path) -> str | None:
    """Return the line that describes the first problem of a sense's files, or None if there is none."""
    helpers = (codebase.files[module.name] for module in version.helpers)
    for file, is_sense in _with_kind(main, helpers):
        place = printable(os.path.relpath(file.path, home))
        if file.error:
            return f"{place}:1: {file.error}"
        problem = problem_of(file.source, file.path, is_sense=is_sense)
        if problem:
            return f"{place}:{problem.line}: {problem.text}"
    size = sum(len(module.source) for module in version.files)
    return None if size <= MAX_CODE_BYTES else f"{main.name}: has more than {MAX_CODE_BYTES // 1024**2} MB of source"


def _with_kind(main: SourceFile, helpers: Iterable[SourceFile]) -> Iterable[tuple[SourceFile, bool]]:
    yield main, True
    yield from ((helper, False) for helper in helpers)


class PackedVersion(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A sense's new version, with its files as positions in the update's list of modules."""

    sense: str
    main: int
    helpers: tuple[int, ...]
    generation: int
    error: str | None


class Update(msgspec.Struct, frozen=True, kw_only=True, tag=7):
    """Watcher to kernel: a delta, in which each module is sent once, however many senses import it.

    `request` is the number of the Rescan that the update answers; None if a change on disk was its reason.
    """

    config: Config | None = None
    config_problems: tuple[str, ...] | None = None
    modules: tuple[Module, ...] = ()
    versions: tuple[PackedVersion, ...] = ()
    broken: Mapping[str, str] = {}
    request: int | None = None

    @classmethod
    def pack(cls, delta: Delta, request: int | None = None) -> Update:
        """Return the message that carries a delta."""
        positions: dict[Module, int] = {}

        def position(module: Module) -> int:
            return positions.setdefault(module, len(positions))

        versions = tuple(
            PackedVersion(
                sense=sense,
                main=position(version.main),
                helpers=tuple(map(position, version.helpers)),
                generation=version.generation,
                error=version.error,
            )
            for sense, version in delta.versions.items()
        )
        return cls(
            config=delta.config,
            config_problems=delta.config_problems,
            modules=tuple(positions),
            versions=versions,
            broken=delta.broken,
            request=request,
        )

    def unpack(self) -> Delta:
        """Return the delta that the message carries."""
        modules = self.modules
        versions = {
            packed.sense: Version(
                modules[packed.main], tuple(modules[at] for at in packed.helpers), packed.generation, packed.error
            )
            for packed in self.versions
        }
        return Delta(self.config, self.config_problems, versions, self.broken)
