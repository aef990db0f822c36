"""`nerve check`: validate nerve.yaml and the senses without running them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import click

from nerve.cli.console import Styled, say
from nerve.cli.options import counted, workspace_of
from nerve.config.config import Config, SenseConfig, load_config_with_notes
from nerve.config.yaml_reader import load_yaml
from nerve.errors import ConfigError, NerveError, first_lines
from nerve.escaping import escape
from nerve.reload.codebase import Codebase, read_main, read_source, source_paths
from nerve.reload.hidden_helpers import module_that_hides
from nerve.reload.syntax_check import Problem, problem_of
from nerve.units import format_duration
from nerve.workspace import Workspace, is_utf8


@click.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Validate nerve.yaml and the syntax of the senses, without running them.

    It shows all problems at once or, if there are none, what will run and when.

    \b
    Example:
      nerve check && nerve start
    """
    workspace = workspace_of(ctx, needs_data=False)
    codebase = Codebase.read(workspace.senses_dir)
    if codebase.problem:
        _fail([codebase.problem])
    files = {Path(file.path).resolve() for file in codebase.files.values()}
    try:
        config, notes = load_config_with_notes(workspace.config_path)
    except ConfigError as error:
        _fail([*error.problems, *sense_problems(workspace.home, files, _configured_in_part(workspace, files))])
    senses = {Path(sense.path) for sense in config.senses.values()}
    used = senses | _helpers(codebase, config)
    problems = list(sense_problems(workspace.home, used, senses))
    if problems:
        _fail(problems)
    _show(workspace, config)
    unused = list(_unused(workspace, files - used))
    for note in (*notes, *_hidden(workspace, codebase, config), *_unreadable(workspace), *first_lines(unused)):
        say(f"nerve: note: {note}", err=True)


def _helpers(codebase: Codebase, config: Config) -> set[Path]:
    """Return the files in the senses' folder that the senses import."""
    names = {name for sense in config.senses.values() for name in codebase.used_by(read_main(sense))}
    return {Path(codebase.files[name].path).resolve() for name in names}


def _unused(workspace: Workspace, files: set[Path]) -> Iterator[str]:
    """Yield a note on each file that no sense uses: it may be broken, or forgotten."""
    broken = {problem.partition(":")[0]: problem for problem in sense_problems(workspace.home, files, set())}
    for path in sorted(files):
        shown = _shown(path, workspace.home)
        if shown in broken:
            yield f"{broken[shown]} (no sense uses this file)"
        elif path.name != "__init__.py":
            step = f"if it is a sense, add `{path.stem.replace('_', '-')}:` under `senses`"
            yield f"{shown} is used by no sense of nerve.yaml: {step}"


def _hidden(workspace: Workspace, codebase: Codebase, config: Config) -> Iterator[str]:
    """Yield a note on each helper that can't be imported, because another module of its name comes first."""
    mains = {Path(sense.path) for sense in config.senses.values()}
    imported = {name for sense in config.senses.values() for name in codebase.used_by(read_main(sense))}
    for top in sorted({name.partition(".")[0] for name in codebase.files}):
        names = [name for name in codebase.files if name.partition(".")[0] == top]
        is_sense = all(Path(codebase.files[name].path).resolve() in mains for name in names)
        other = module_that_hides(top, workspace.senses_dir) if imported & set(names) or not is_sense else None
        if other:
            shown = _shown(Path(codebase.files[names[0]].path), workspace.home)
            yield f"{shown} can't be imported: `import {top}` finds {escape(other)} first; rename the file"


def _unreadable(workspace: Workspace) -> Iterator[str]:
    for path in source_paths(workspace.senses_dir):
        if not is_utf8(path):
            yield f"{_shown(path, workspace.home)} can't be imported: its name is not valid UTF-8; rename the file"


def sense_problems(home: Path, files: Iterable[Path], senses: set[Path]) -> Iterator[str]:
    """Yield the problems of Python files as `file:line: message`, without running the files.

    `senses` are those of the `files` that must have a `compute`; the others are their helpers.
    """
    for path in sorted(files):
        problem = _problem(path, is_sense=path in senses)
        if problem:
            yield f"{_shown(path, home)}:{problem.line}: {problem.text}"


def _shown(path: Path, home: Path) -> str:
    return escape(os.path.relpath(path, home))


def _problem(path: Path, *, is_sense: bool) -> Problem | None:
    file = read_source(path, path.name)
    return Problem(1, file.error) if file.error else problem_of(file.source, file.path, is_sense=is_sense)


def _configured_in_part(workspace: Workspace, files: set[Path]) -> set[Path]:
    """Return those of the files that an invalid nerve.yaml names as senses, as far as it can be parsed."""
    try:
        senses = load_yaml(workspace.config_path).entries().get("senses")
    except ConfigError:
        return set()  # not valid YAML
    names = {f"{name.replace('-', '_')}.py" for name in (senses.entries() if senses else ())}
    return {path for path in files if path.name in names}


def _fail(problems: list[str]) -> NoReturn:
    for problem in first_lines(problems):
        place, colon, text = problem.partition(": ")
        say(Styled(place, bold=True), colon + text, err=True)
    raise NerveError(f"{counted(len(problems), 'problem')}: fix the lines above, then run `nerve check` again")


def _show(workspace: Workspace, config: Config) -> None:
    mark = "\u2713 " if sys.stdout.isatty() and sys.stdout.encoding.lower() == "utf-8" else ""
    counts = (
        counted(len(config.senses), "sense"),
        counted(len(config.reflexes), "reflex", "reflexes"),
        counted(config.workers, "worker"),
    )
    say(Styled(mark, fg="green", bold=True), f"{workspace.home}: no problems; {', '.join(counts)}")
    paths = {name: os.path.relpath(sense.path, workspace.home) for name, sense in config.senses.items()}
    name_width = max(map(len, paths), default=0)
    path_width = max(map(len, paths.values()), default=0)
    for name, sense in config.senses.items():
        say("  ", Styled(f"{name:{name_width}}", bold=True), f"  {paths[name]:{path_width}}  {_when(sense, config)}")


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
