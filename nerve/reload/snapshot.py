"""A snapshot: nerve.yaml and the senses' files as they are on disk, and how long to wait for one being saved."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from nerve.config.config import Config, load_config
from nerve.errors import ConfigError
from nerve.reload.codebase import Codebase, SourceFile, read_main, read_source
from nerve.reload.revision import Revision
from nerve.workspace import CONFIG_NAME, Workspace


class SettlingRule(NamedTuple):
    """When a file of one kind counts as completely written, in seconds.

    It does once it has not been modified for `min_age`, or once the whole snapshot has been waited for for `patience`.
    """

    min_age: float
    patience: float


WITH_CONTENT = SettlingRule(min_age=0.05, patience=2.0)
"""Programs write a file in pieces, milliseconds apart; one that is saved without a pause is taken after `patience`."""

NEW_AND_EMPTY = SettlingRule(min_age=0.3, patience=10.0)
"""An empty file is mostly about to be written, but may be meant to stay empty, such as an `__init__.py`."""

EMPTIED = SettlingRule(min_age=3.0, patience=10.0)
"""A file that had content is hardly ever meant to be empty, and a busy disk can delay the write by seconds."""

MAX_WAIT_SECONDS = 4.0
"""Clocks differ by less than the second that this leaves beyond the longest `min_age`.

A longer wait follows only from a modification time in the future, set by hand; such a file is not waited for.
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files at one moment: a configuration or its problems, each sense's file, and the modules beside them."""

    config: Config | None
    problems: tuple[str, ...]
    mains: Mapping[str, SourceFile]
    codebase: Codebase
    config_file: SourceFile

    def unsettled_seconds(self, now: float, waited: float, revision: Revision) -> float:
        """Return how much longer to wait because a file may be only partly written; 0 if none is.

        `now` is in unix seconds; `waited` is how long this has been waited for already.
        """
        had_content = {
            module.path for version in revision.versions.values() for module in version.files if module.source
        }
        had_content.add(self.config_file.path)
        longest = 0.0
        for file in (self.config_file, *self.mains.values(), *self.codebase.files.values()):
            rule = _rule_for(file, had_content)
            min_age = rule.min_age if waited < rule.patience else 0.0
            remaining = file.modified / 1e9 + min_age - now
            if remaining <= MAX_WAIT_SECONDS:
                longest = max(longest, remaining)
        return longest


def _rule_for(file: SourceFile, had_content: Collection[str]) -> SettlingRule:
    if file.source:
        return WITH_CONTENT
    return EMPTIED if file.path in had_content else NEW_AND_EMPTY


def read_snapshot(workspace: Workspace, revision: Revision) -> Snapshot:
    """Read nerve.yaml and the senses' files; while nerve.yaml has problems, the senses are those of the revision."""
    problems: tuple[str, ...] = ()
    config = None
    try:
        config = load_config(workspace.config_path)
    except ConfigError as error:
        problems = error.problems
    config_file = read_source(workspace.config_path, CONFIG_NAME)
    if not config_file.source and not problems:
        # Loading an empty file gives the defaults, but an engine with senses must not lose them to a failed save.
        config = None
        problems = (f"{CONFIG_NAME}:1: is empty; for a workspace without senses write `senses: {{}}`",)
    codebase = Codebase.read(workspace.senses_dir)
    if codebase.problem:
        config, problems = None, (*problems, codebase.problem)
    senses = (config or revision.config).senses
    mains = {name: read_main(sense) for name, sense in senses.items()}
    return Snapshot(config, problems, mains, codebase, config_file)
