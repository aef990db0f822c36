"""What is on disk against what is in force, and the update that leads from one to the other; the decisions are pure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from nerve.config.config import Config
from nerve.events.payload import printable
from nerve.reload.codebase import Codebase, Module, SourceFile, Version
from nerve.reload.revision import Revision
from nerve.reload.snapshot import Snapshot
from nerve.reload.syntax_check import problem_of

MAX_CODE_BYTES = 16 * 1024**2
"""How much source a sense may have, all that it imports from the senses' folder included."""


def plan_update(revision: Revision, disk: Snapshot, *, home: Path, request: int | None = None) -> Update:
    """Decide what changes; where that was requested, everything that is good counts as changed."""
    forced = request is not None
    generation = revision.generation + forced
    broken: dict[str, str] = {}
    fresh: dict[str, Version] = {}
    for name, main in disk.mains.items():
        version = disk.codebase.version(main, generation)
        problem = _problem(main, version, disk.codebase, home)
        current = revision.versions.get(name)
        if problem:
            broken[name] = problem
        if current is None or (not problem and (version != current or name in revision.broken)):
            fresh[name] = version
    config_changed = disk.config is not None and (forced or disk.config != revision.config or revision.config_problems)
    return _packed(
        disk.config if config_changed else None,
        disk.problems if disk.problems and (forced or disk.problems != revision.config_problems) else None,
        fresh,
        {name: line for name, line in broken.items() if forced or revision.broken.get(name) != line},
        request,
    )


def applied(revision: Revision, update: Update) -> Revision:
    """Give what is in force once an update is."""
    config = update.config or revision.config
    versions = {**revision.versions, **unpacked(update)}
    broken = {name: line for name, line in revision.broken.items() if name not in unpacked(update)} | update.broken
    problems = revision.config_problems if update.problems is None else update.problems
    return replace(
        revision,
        config=config,
        generation=max([revision.generation, *(new.generation for new in update.versions)]),
        versions={name: version for name, version in versions.items() if name in config.senses},
        config_problems=() if update.config else problems,
        broken={name: line for name, line in broken.items() if name in config.senses},
    )


def unpacked(update: Update) -> dict[str, Version]:
    """Give the new versions of an update, by sense."""
    modules = update.modules
    return {
        new.sense: Version(modules[new.main], tuple(modules[at] for at in new.helpers), new.generation, new.error)
        for new in update.versions
    }


def _packed(
    config: Config | None,
    problems: tuple[str, ...] | None,
    versions: Mapping[str, Version],
    broken: dict[str, str],
    request: int | None,
) -> Update:
    """Put each module into the update once, however many senses import it."""
    places: dict[Module, int] = {}

    def place(module: Module) -> int:
        return places.setdefault(module, len(places))

    news = tuple(
        NewVersion(sense, place(v.main), tuple(place(helper) for helper in v.helpers), v.generation, v.error)
        for sense, v in versions.items()
    )
    return Update(config, problems, tuple(places), news, broken, request)


def _problem(main: SourceFile, version: Version, codebase: Codebase, home: Path) -> str | None:
    """Give the line that says what is wrong with a sense's files."""
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


class NewVersion(msgspec.Struct, frozen=True, array_like=True):
    """A sense's new version, with its files as positions in the update's list of modules."""

    sense: str
    main: int
    helpers: tuple[int, ...]
    generation: int
    error: str | None


class Update(msgspec.Struct, frozen=True, tag=7):
    """Watcher to kernel: what is to change. `config` and `problems` are None where they are as before.

    `broken` has a line for each sense whose files have become bad, or bad in another way: its version stays.
    `request` numbers the request that asked for the update, None where a change on disk did.
    """

    config: Config | None = None
    problems: tuple[str, ...] | None = None
    modules: tuple[Module, ...] = ()
    versions: tuple[NewVersion, ...] = ()
    broken: dict[str, str] = {}
    request: int | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing is to change."""
        return self.config is None and self.problems is None and not self.versions and not self.broken
