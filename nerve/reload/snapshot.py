"""The files as they are on disk, and how long to wait for one that is just being saved."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from nerve.config.config import Config, load_config
from nerve.errors import ConfigError
from nerve.reload.codebase import Codebase, SourceFile, read_main, read_source
from nerve.reload.revision import Revision
from nerve.workspace import CONFIG_NAME, Workspace

SETTLING_SECONDS, PATIENCE_SECONDS = 0.05, 2.0
EMPTY_SECONDS, EMPTIED_SECONDS, EMPTY_PATIENCE_SECONDS = 0.3, 3.0, 10.0
"""How old a file must be to count, and how long one that is saved again and again is waited for; and an empty one.

One that was not empty before may stay so for a while: a busy disk holds up whoever is about to write it.
"""

FUTURE_SECONDS = 1.0
"""A file may be a little younger than now, as clocks tick; one from further ahead was given its time by hand."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files as they are: a configuration or its problems, each sense's file, and the modules beside them."""

    config: Config | None
    problems: tuple[str, ...]
    mains: Mapping[str, SourceFile]
    codebase: Codebase
    config_file: SourceFile

    def unsettled_seconds(self, now: float, waited: float, revision: Revision) -> float:
        """Give how much longer to wait, because a file looks as if it were just being saved; 0 if none does.

        Many programs empty a file and then write it in pieces: what was read in between is not what is meant. `now`
        is in unix seconds, `waited` how long that has been waited for already: in the end, files count as they are.
        """
        files = (self.config_file, *self.mains.values(), *self.codebase.files.values())
        full = {module.path for version in revision.versions.values() for module in version.files if module.source}
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


def read_snapshot(workspace: Workspace, revision: Revision) -> Snapshot:
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
    senses = (config or revision.config).senses
    mains = {name: read_main(sense) for name, sense in senses.items()}
    return Snapshot(config, problems, mains, Codebase.read(workspace.senses_dir), config_file)
