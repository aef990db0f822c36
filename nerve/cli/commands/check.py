"""`nerve init` makes a workspace to begin with; `nerve check` tells whether one will run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn, TextIO

import click

from nerve.cli.options import workspace_of
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
    """Validate nerve.yaml and the senses' syntax, without running any of them.

    Shows all problems at once, or else what will run and when.

    \b
    Example:
      nerve check && nerve start
    """
    workspace = workspace_of(ctx)
    listed = _listed(workspace)
    try:
        config = load_config(workspace.config_path)
    except ConfigError as error:
        _refuse([*error.problems, *sense_problems(workspace.home, listed, _named_badly(workspace, listed))])
    senses = {Path(sense.path) for sense in config.senses.values()}
    used = senses | _imported(workspace, config)
    problems = list(sense_problems(workspace.home, used, senses))
    if problems:
        _refuse(problems)
    _show(workspace, config)
    for problem in sense_problems(workspace.home, listed - used, set()):
        click.echo(f"nerve: note: {problem}; but no sense uses that file", err=True)


def _imported(workspace: Workspace, config: Config) -> set[Path]:
    """Give the files of the senses' folder that the senses import."""
    codebase = Codebase.read(workspace.senses_dir)
    versions = (codebase.version(read_main(sense)) for sense in config.senses.values())
    return {Path(module.path) for version in versions for module in version.helpers}


def sense_problems(home: Path, files: Iterable[Path], senses: set[Path]) -> Iterator[str]:
    """Tell what is wrong with Python files without running them, each as `file:line: what`.

    `senses` are those of the `files` that must have a `compute`; the others are what they import.
    """
    for path in sorted(files):
        problem = _problem(path, is_sense=path in senses)
        if problem:
            yield f"{click.format_filename(os.path.relpath(path, home))}:{problem.line}: {problem.text}"


def _problem(path: Path, *, is_sense: bool) -> Problem | None:
    file = read_source(path, path.name)
    return Problem(1, file.error) if file.error else problem_of(file.source, file.path, is_sense=is_sense)


def _listed(workspace: Workspace) -> set[Path]:
    """Give the Python files in the senses' folder, whether or not nerve.yaml names them."""
    return {path.resolve() for path in source_paths(workspace.senses_dir)}


def _named_badly(workspace: Workspace, files: set[Path]) -> set[Path]:
    """Give those of the senses' files that a nerve.yaml with problems names, as far as it can be read."""
    try:
        senses = load_yaml(workspace.config_path).entries().get("senses")
    except ConfigError:
        return set()  # it is no YAML, and names nothing
    names = {f"{name.replace('-', '_')}.py" for name in (senses.entries() if senses else ())}
    return {path for path in files if path.name in names}


def _refuse(problems: list[str]) -> NoReturn:
    for problem in problems:
        place, colon, text = problem.partition(": ")
        click.echo(f"{_styled(place, sys.stderr, bold=True)}{colon}{text}", err=True)
    count = _count(len(problems), "problem", "problems")
    raise NerveError(f"{count}: correct the lines above, then run `nerve check` again")


def _show(workspace: Workspace, config: Config) -> None:
    mark = "\u2713 " if sys.stdout.isatty() and sys.stdout.encoding.lower() == "utf-8" else ""
    counts = (
        _count(len(config.senses), "sense", "senses"),
        _count(len(config.reflexes), "reflex", "reflexes"),
        _count(config.workers, "worker", "workers"),
    )
    home = click.format_filename(workspace.home)
    click.echo(f"{_styled(mark, sys.stdout, fg='green', bold=True)}{home}: no problems; {', '.join(counts)}")
    paths = {name: os.path.relpath(sense.path, workspace.home) for name, sense in config.senses.items()}
    name_width = max(map(len, paths), default=0)
    path_width = max(map(len, paths.values()), default=0)
    for name, sense in config.senses.items():
        shown = _styled(f"{name:{name_width}}", sys.stdout, bold=True)
        click.echo(f"  {shown}  {click.format_filename(paths[name]):{path_width}}  {_when(sense, config)}")


def _when(sense: SenseConfig, config: Config) -> str:
    """Say what starts a sense, and what holds it back."""
    reflexes = [reflex for reflex in config.reflexes if reflex.sense == sense.name]
    parts = [
        f"every {format_duration(reflex.interval)}" if reflex.interval else f"on {', '.join(reflex.on)}"
        for reflex in reflexes
    ]
    if not parts:
        parts.append(f"no reflex: only by `nerve trigger {sense.name}`")
    if sense.throttle:
        parts.append(f"throttle {format_duration(sense.throttle)}")
    if sense.group:
        parts.append(f"group {sense.group}")
    return "; ".join(parts)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _styled(text: str, stream: TextIO, *, fg: str | None = None, bold: bool = False) -> str:
    """Style text for a person at a terminal; NO_COLOR and pipes get it plain."""
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, fg=fg, bold=bold)
