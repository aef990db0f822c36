"""The command line as a whole: every command documents itself, and errors are one line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from support.commands import Command

from nerve.cli import COMMANDS
from nerve.cli import nerve as group
from nerve.errors import WorkspaceError


def command_named(name: str) -> click.Command:
    """Return a command of the group."""
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_and_explains_its_options(name: str) -> None:
    """The example calls the command itself."""
    command = command_named(name)
    example = (command.help or "").partition("Example:\n")[2]
    assert f"nerve {name}" in example
    assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_a_terminal_of_80_columns(nerve: Command, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Examples and lists are not wrapped by click, so that they must be short enough."""
    monkeypatch.setenv("COLUMNS", "80")
    result = nerve(*name.split(), "--help")
    assert (result.err, result.code) == ("", 0)
    assert [line for line in result.out.splitlines() if len(line) > 80] == []


def test_the_overview_lists_every_command_with_its_summary(nerve: Command) -> None:
    """No command is imported for it."""
    lines = [line.split(maxsplit=1) for line in nerve("--help").out.splitlines()]
    assert [words for words in lines if words and words[0] in COMMANDS] == [list(item) for item in COMMANDS.items()]


def test_an_unknown_command_is_a_usage_error(nerve: Command) -> None:
    """The exit code is 2."""
    result = nerve("observe")
    assert "No such command 'observe'" in result.err
    assert result.code == 2


def test_an_error_is_one_line_without_a_traceback(nerve: Command, tmp_path: Path) -> None:
    """With --debug the exception is raised, so that Python shows the traceback."""
    result = nerve("--home", tmp_path, "check")
    assert (result.out, result.code) == ("", 1)
    assert result.err.startswith("nerve: no nerve.yaml in ")
    assert len(result.err.splitlines()) == 1
    with pytest.raises(WorkspaceError):
        nerve("--debug", "--home", tmp_path, "check")
