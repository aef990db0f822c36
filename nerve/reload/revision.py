"""What the engine goes by at present."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nerve.config.config import Config
from nerve.reload.codebase import Codebase, Version, read_main
from nerve.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Revision:
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


def initial_revision(config: Config, workspace: Workspace) -> Revision:
    """Take what is on disk at the start, whatever it is worth: what fails to load fails its runs."""
    codebase = Codebase.read(workspace.senses_dir)
    return Revision(config, {name: codebase.version(read_main(sense)) for name, sense in config.senses.items()})
