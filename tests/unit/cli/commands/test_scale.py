"""`nerve scale`: its request, output and exit codes."""

from __future__ import annotations

from typing import Any

import pytest
from support.commands import Command

from nerve.control.protocol import Refused, Scaled, ScaleWorkers


@pytest.mark.parametrize(
    ("workers", "before", "line"),
    [
        (8, 2, "nerve: 8 workers (was 2)\n"),
        (1, 64, "nerve: 1 worker (was 64)\n"),
        (3, 3, "nerve: 3 workers (unchanged)\n"),
    ],
)
def test_the_new_and_the_former_number_are_printed(
    command: Command, engine: Any, workers: int, before: int, line: str
) -> None:
    """The output is one line."""
    engine.replies = [Scaled(before)]
    assert command("scale", workers) == (line, "", 0)
    assert engine.requests == [ScaleWorkers(workers)]


@pytest.mark.parametrize("workers", ["0", "65", "-1", "many", "2.5", ""])
def test_an_invalid_number_is_a_usage_error(command: Command, engine: Any, workers: str) -> None:
    """The engine gets no request."""
    result = command("scale", "--", workers)
    assert (result.out, result.code, engine.requests) == ("", 2, [])
    assert "Invalid value" in result.err


def test_without_an_engine_the_exit_code_is_3(command: Command, workspace: Any) -> None:
    """The message is one line that says what to do."""
    assert command("scale", 4) == (
        "",
        f"nerve: no engine is running in {workspace.home}: start it with `nerve start`\n",
        3,
    )


def test_a_stale_socket_counts_as_no_engine(command: Command, workspace: Any) -> None:
    """A crashed engine leaves its socket behind."""
    workspace.run_dir.mkdir(parents=True)
    workspace.control_socket.touch()
    assert command("scale", 4).code == 3


def test_a_refusal_of_the_engine_is_printed(command: Command, engine: Any) -> None:
    """The engine's message is the error message."""
    engine.replies = [Refused("not now")]
    assert command("scale", 4) == ("", "nerve: not now\n", 1)
