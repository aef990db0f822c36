"""What is on disk against what is in force, and the update that leads from one to the other; the decisions are pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nerve.checking import problem_of
from nerve.codebase import Codebase, Module, SourceFile, Version, read_main
from nerve.config import Config, load_config
from nerve.errors import ConfigError
from nerve.messages import NewVersion, Update
from nerve.workspace import Workspace

MAX_CODE_BYTES = 16 * 1024**2
"""How much source a sense may have, all that it imports from the senses' folder included."""


@dataclass(frozen=True, slots=True)
class InForce:
    """What the engine goes by at present, and what is wrong with the files that would otherwise be in force."""

    config: Config
    versions: Mapping[str, Version]
    config_problems: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)

    @property
    def generation(self) -> int:
        """How often everything has been loaded anew."""
        return max((version.generation for version in self.versions.values()), default=0)

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


def read_disk(workspace: Workspace, in_force: InForce) -> Disk:
    """Read nerve.yaml and the senses; the senses are those of the configuration in force while the new one is bad."""
    problems: tuple[str, ...] = ()
    config = None
    try:
        config = load_config(workspace.config_path)
    except ConfigError as error:
        problems = error.problems
    senses = (config or in_force.config).senses
    mains = {name: read_main(sense) for name, sense in senses.items()}
    return Disk(config, problems, mains, Codebase.read(workspace.senses_dir))


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
        place = Path(file.path).relative_to(home) if Path(file.path).is_relative_to(home) else file.path
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
