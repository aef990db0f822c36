"""A revision: the configuration and the versions of the senses that the engine runs, and how one leads to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nerve.config.config import Config
from nerve.errors import ConfigError
from nerve.reload.codebase import Codebase, Version, read_main
from nerve.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Delta:
    """What turns one revision into the next.

    `config` is None where it stays, and so is `config_problems`. `versions` has the new version of each changed sense.
    `broken` has one line for each sense whose files now have a problem, or another problem than before: such a sense
    keeps its version.
    """

    config: Config | None = None
    config_problems: tuple[str, ...] | None = None
    versions: Mapping[str, Version] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether the next revision is the same one."""
        return self.config is None and self.config_problems is None and not self.versions and not self.broken


@dataclass(frozen=True, slots=True)
class Revision:
    """The active configuration and versions, and the problems of files on disk that are therefore not active.

    `generation` counts the forced reloads: a version of a later generation is loaded again even if its code is equal.
    """

    config: Config
    versions: Mapping[str, Version]
    config_problems: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    generation: int = 0

    @property
    def problems(self) -> tuple[str, ...]:
        """All problems, one line each; a broken helper is one problem, however many senses import it."""
        return (*self.config_problems, *dict.fromkeys(self.broken.values()))

    def apply(self, delta: Delta) -> Revision:
        """Return the next revision; what the delta says about senses that are not configured (any more) is ignored."""
        config = delta.config or self.config
        versions = {**self.versions, **delta.versions}
        old_problems = {name: line for name, line in self.broken.items() if name not in delta.versions}
        broken = {**old_problems, **delta.broken}
        problems = self.config_problems if delta.config_problems is None else delta.config_problems
        return replace(
            self,
            config=config,
            versions={name: version for name, version in versions.items() if name in config.senses},
            config_problems=() if delta.config else problems,
            broken={name: line for name, line in broken.items() if name in config.senses},
            generation=max([self.generation, *(version.generation for version in delta.versions.values())]),
        )


def initial_revision(config: Config, workspace: Workspace) -> Revision:
    """Return the revision that the engine starts with: the files as they are; the runs of a broken sense fail.

    Raises ConfigError if the senses' folder is too large.
    """
    codebase = Codebase.read(workspace.senses_dir)
    if codebase.problem:
        raise ConfigError(str(workspace.senses_dir), (codebase.problem,))
    return Revision(config, {name: codebase.version(read_main(sense)) for name, sense in config.senses.items()})
