"""What is on disk against what is in force, and the update that leads from one to the other; the decisions are pure."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nerve.checking import problem_of
from nerve.codebase import Codebase, Module, SourceFile, Version, read_main, read_source
from nerve.config.config import Config, load_config
from nerve.errors import ConfigError
from nerve.events.payload import printable
from nerve.processes.messages import NewVersion, Update
from nerve.workspace import CONFIG_NAME, Workspace

SETTLING_SECONDS, PATIENCE_SECONDS = 0.05, 2.0
EMPTY_SECONDS, EMPTIED_SECONDS, EMPTY_PATIENCE_SECONDS = 0.3, 3.0, 10.0
"""How old a file must be to count, and how long one that is saved again and again is waited for; and an empty one.

One that was not empty before may stay so for a while: a busy disk holds up whoever is about to write it.
"""

FUTURE_SECONDS = 1.0
"""A file may be a little younger than now, as clocks tick; one from further ahead was given its time by hand."""

MAX_CODE_BYTES = 16 * 1024**2
"""How much source a sense may have, all that it imports from the senses' folder included."""


@dataclass(frozen=True, slots=True)
class InForce:
    """What the engine goes by at present, and what is wrong with the files that would otherwise be in force."""

    config: Config
    versions: Mapping[str, Version]
    config_problems: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    generation: int = 0
    """How often everything has been loaded anew."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong, one line each."""
        return (*self.config_problems, *dict.fromkeys(self.broken.values()))


@dataclass(frozen=True, slots=True)
class Disk:
    """The files as they are: a configuration or its problems, each sense's file, and the modules beside them."""

    config: Config | None
    problems: tuple[str, ...]
    mains: Mapping[str, SourceFile]
    codebase: Codebase
    config_file: SourceFile

    def unsettled_seconds(self, now: float, waited: float, in_force: InForce) -> float:
        """Give how much longer to wait, because a file looks as if it were just being saved; 0 if none does.

        Many programs empty a file and then write it in pieces: what was read in between is not what is meant. `now`
        is in unix seconds, `waited` how long that has been waited for already: in the end, files count as they are.
        """
        files = (self.config_file, *self.mains.values(), *self.codebase.files.values())
        full = {module.path for version in in_force.versions.values() for module in version.files if module.source}
        full.add(self.config_file.path)
        left = (file.modified / 1e9 + _settling_seconds(file, waited, full) - now for file in files)
        return max((seconds for seconds in left if 0 < seconds <= EMPTIED_SECONDS + FUTURE_SECONDS), default=0.0)


def _settling_seconds(file: SourceFile, waited: float, full: Collection[str]) -> float:
    """Give how old a file must be to be taken for what it says; an empty one is mostly about to be written."""
    if file.source:
        return SETTLING_SECONDS if waited < PATIENCE_SECONDS else 0.0
    if waited >= EMPTY_PATIENCE_SECONDS:
        return 0.0
    return EMPTIED_SECONDS if file.path in full else EMPTY_SECONDS


def read_disk(workspace: Workspace, in_force: InForce) -> Disk:
    """Read nerve.yaml and the senses; the senses are those of the configuration in force while the new one is bad."""
    problems: tuple[str, ...] = ()
    config = None
    try:
        config = load_config(workspace.config_path)
    except ConfigError as error:
        problems = error.problems
    config_file = read_source(workspace.config_path, CONFIG_NAME)
    if not config_file.source and not problems:
        config, problems = None, (f"{CONFIG_NAME}:1: is empty; `senses: {{}}` is what has no senses",)
    senses = (config or in_force.config).senses
    mains = {name: read_main(sense) for name, sense in senses.items()}
    return Disk(config, problems, mains, Codebase.read(workspace.senses_dir), config_file)


def first_in_force(config: Config, workspace: Workspace) -> InForce:
    """Take what is on disk at the start, whatever it is worth: what fails to load fails its runs."""
    codebase = Codebase.read(workspace.senses_dir)
    return InForce(config, {name: codebase.version(read_main(sense)) for name, sense in config.senses.items()})


def difference(in_force: InForce, disk: Disk, *, home: Path, request: int | None = None) -> Update:
    """Decide what changes; where that was requested, everything that is good counts as changed."""
    forced = request is not None
    generation = in_force.generation + forced
    broken: dict[str, str] = {}
    fresh: dict[str, Version] = {}
    for name, main in disk.mains.items():
        version = disk.codebase.version(main, generation)
        problem = _problem(main, version, disk.codebase, home)
        current = in_force.versions.get(name)
        if problem:
            broken[name] = problem
        if current is None or (not problem and (version != current or name in in_force.broken)):
            fresh[name] = version
    config_changed = disk.config is not None and (forced or disk.config != in_force.config or in_force.config_problems)
    return _packed(
        disk.config if config_changed else None,
        disk.problems if disk.problems and (forced or disk.problems != in_force.config_problems) else None,
        fresh,
        {name: line for name, line in broken.items() if forced or in_force.broken.get(name) != line},
        request,
    )


def applied(in_force: InForce, update: Update) -> InForce:
    """Give what is in force once an update is."""
    config = update.config or in_force.config
    versions = {**in_force.versions, **unpacked(update)}
    broken = {name: line for name, line in in_force.broken.items() if name not in unpacked(update)} | update.broken
    problems = in_force.config_problems if update.problems is None else update.problems
    return replace(
        in_force,
        config=config,
        generation=max([in_force.generation, *(new.generation for new in update.versions)]),
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
