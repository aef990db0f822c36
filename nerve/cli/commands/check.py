"""`nerve check`: validate nerve.yaml and the senses without running them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import click

from nerve.cli.console import styled
from nerve.cli.options import counted, workspace_of
from nerve.config.config import Config, SenseConfig, load_config
from nerve.config.yaml_reader import load_yaml
from nerve.errors import ConfigError, NerveError
from nerve.reload.codebase import Codebase, read_main, read_source, source_paths
from nerve.reload.syntax_check import Problem, problem_of
from nerve.units import format_duration
from nerve.workspace import Workspace


@click.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Validate nerve.yaml and the syntax of the senses, without running them.

    It shows all problems at once or, if there are none, what will run and when.

    \b
    Example:
      nerve check && nerve start
    """
    workspace = workspace_of(ctx)
    files = _files_in_senses_dir(workspace)
    try:
        config = load_config(workspace.config_path)
    except ConfigError as error:
        _fail([*error.problems, *sense_problems(workspace.home, files, _configured_in_part(workspace, files))])
    senses = {Path(sense.path) for sense in config.senses.values()}
    used = senses | _helpers(workspace, config)
    problems = list(sense_problems(workspace.home, used, senses))
    if problems:
        _fail(problems)
    _show(workspace, config)
    for problem in sense_problems(workspace.home, files - used, set()):
        click.echo(f"nerve: note: {problem} (no sense uses this file)", err=True)


def _helpers(workspace: Workspace, config: Config) -> set[Path]:
    """Return the files in the senses' folder that the senses import."""
    codebase = Codebase.read(workspace.senses_dir)
    versions = (codebase.version(read_main(sense)) for sense in config.senses.values())
    return {Path(module.path) for version in versions for module in version.helpers}


def sense_problems(home: Path, files: Iterable[Path], senses: set[Path]) -> Iterator[str]:
    """Yield the problems of Python files as `file:line: message`, without running the files.

    `senses` are those of the `files` that must have a `compute`; the others are their helpers.
    """
    for path in sorted(files):
        problem = _problem(path, is_sense=path in senses)
        if problem:
            yield f"{click.format_filename(os.path.relpath(path, home))}:{problem.line}: {problem.text}"


def _problem(path: Path, *, is_sense: bool) -> Problem | None:
    file = read_source(path, path.name)
    return Problem(1, file.error) if file.error else problem_of(file.source, file.path, is_sense=is_sense)


def _files_in_senses_dir(workspace: Workspace) -> set[Path]:
    """Return the Python files in the senses' folder, whether or not nerve.yaml names them."""
    return {path.resolve() for path in source_paths(workspace.senses_dir)}


def _configured_in_part(workspace: Workspace, files: set[Path]) -> set[Path]:
    """Return those of the files that an invalid nerve.yaml names as senses, as far as it can be parsed."""
    try:
        senses = load_yaml(workspace.config_path).entries().get("senses")
    except ConfigError:
        return set()  # not valid YAML
    names = {f"{name.replace('-', '_')}.py" for name in (senses.entries() if senses else ())}
    return {path for path in files if path.name in names}


def _fail(problems: list[str]) -> NoReturn:
    for problem in problems:
        place, colon, text = problem.partition(": ")
        click.echo(f"{styled(place, sys.stderr, bold=True)}{colon}{text}", err=True)
    raise NerveError(f"{counted(len(problems), 'problem')}: fix the lines above, then run `nerve check` again")


def _show(workspace: Workspace, config: Config) -> None:
    mark = "\u2713 " if sys.stdout.isatty() and sys.stdout.encoding.lower() == "utf-8" else ""
    counts = (
        counted(len(config.senses), "sense"),
        counted(len(config.reflexes), "reflex", "reflexes"),
        counted(config.workers, "worker"),
    )
    home = click.format_filename(workspace.home)
    click.echo(f"{styled(mark, sys.stdout, fg='green', bold=True)}{home}: no problems; {', '.join(counts)}")
    paths = {name: os.path.relpath(sense.path, workspace.home) for name, sense in config.senses.items()}
    name_width = max(map(len, paths), default=0)
    path_width = max(map(len, paths.values()), default=0)
    for name, sense in config.senses.items():
        label = styled(f"{name:{name_width}}", sys.stdout, bold=True)
        click.echo(f"  {label}  {click.format_filename(paths[name]):{path_width}}  {_when(sense, config)}")


def _when(sense: SenseConfig, config: Config) -> str:
    """Return what starts a sense, and what limits it."""
    reflexes = [reflex for reflex in config.reflexes if reflex.sense == sense.name]
    parts = [
        f"every {format_duration(reflex.interval)}" if reflex.interval else f"on {', '.join(reflex.on)}"
        for reflex in reflexes
    ]
    if not parts:
        parts.append(f"no reflex; runs only on `nerve trigger {sense.name}`")
    if sense.throttle:
        parts.append(f"throttle {format_duration(sense.throttle)}")
    if sense.group:
        parts.append(f"group {sense.group}")
    return "; ".join(parts)
