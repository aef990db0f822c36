"""`nerve reload`: its request, output and exit codes."""

from __future__ import annotations

from typing import Any

from support.commands import Command

from nerve.control.protocol import Refused, Reloaded, ReloadFiles


def test_changes_and_reloaded_senses_are_printed(command: Command, engine: Any) -> None:
    """There is a line for each change in nerve.yaml, and one for all senses."""
    engine.replies = [Reloaded(("workers 2 -> 4", "sense cpu: added"), ("cpu", "disk"), ())]
    assert command("reload") == (
        "nerve: workers 2 -> 4\nnerve: sense cpu: added\nnerve: reloaded 2 senses: cpu, disk\n",
        "",
        0,
    )
    assert engine.requests == [ReloadFiles()]


def test_broken_files_are_listed_and_fail_the_command(command: Command, engine: Any) -> None:
    """Each problem is a line on stderr; valid files are reloaded all the same."""
    engine.replies = [Reloaded((), ("cpu",), ("nerve.yaml:3: no", "senses/disk.py:1: invalid syntax"))]
    result = command("reload")
    assert result.out == "nerve: reloaded 1 sense: cpu\n"
    assert result.err.splitlines() == [
        "nerve: broken files were not reloaded; their last working version stays active:",
        "  nerve.yaml:3: no",
        "  senses/disk.py:1: invalid syntax",
    ]
    assert result.code == 1


def test_a_workspace_without_senses_reloads_none(command: Command, engine: Any) -> None:
    """There are no names after the count."""
    engine.replies = [Reloaded((), (), ())]
    assert command("reload") == ("nerve: reloaded 0 senses\n", "", 0)


def test_a_refusal_of_the_engine_is_printed(command: Command, engine: Any) -> None:
    """The engine's message is the error message."""
    engine.replies = [Refused("the watcher is not running; see `nerve status`")]
    assert command("reload") == ("", "nerve: the watcher is not running; see `nerve status`\n", 1)


def test_without_an_engine_the_exit_code_is_3(command: Command, workspace: Any) -> None:
    """The message is one line that says what to do."""
    assert command("reload") == (
        "",
        f"nerve: no engine is running in {workspace.home}: start it with `nerve start`\n",
        3,
    )


def test_an_engine_that_stops_before_it_answers_is_not_running(command: Command, engine: Any) -> None:
    """The command ends at once instead of waiting for its timeout."""
    result = command("reload")
    assert "stopped before it answered" in result.err
    assert result.code == 3
