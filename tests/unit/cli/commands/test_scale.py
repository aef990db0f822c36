"""`nerve scale`: what it asks for, what it says, and how it exits."""

from __future__ import annotations

from typing import Any

import pytest

from nerve.control.protocol import Refused, Scaled, ScaleWorkers


@pytest.mark.parametrize(
    ("workers", "before", "line"),
    [
        (8, 2, "nerve: 8 workers (was 2)\n"),
        (1, 64, "nerve: 1 worker (was 64)\n"),
        (3, 3, "nerve: 3 workers (as before)\n"),
    ],
)
def test_it_tells_how_many_there_are_and_were(command: Any, engine: Any, workers: int, before: int, line: str) -> None:
    """One line, which is the same for people and for pipes."""
    engine.replies = [Scaled(before)]
    assert command("scale", workers) == (line, "", 0)
    assert engine.requests == [ScaleWorkers(workers)]


@pytest.mark.parametrize("workers", ["0", "65", "-1", "many", "2.5", ""])
def test_a_number_that_can_not_be_is_a_mistake_of_usage(command: Any, engine: Any, workers: str) -> None:
    """The engine is not even asked."""
    said = command("scale", "--", workers)
    assert (said.out, said.code, engine.requests) == ("", 2, [])
    assert "Invalid value" in said.err


def test_without_an_engine_it_exits_with_3(command: Any, workspace: Any) -> None:
    """One line, which says what to do."""
    assert command("scale", 4) == (
        "",
        f"nerve: no engine is running in {workspace.home}: start it with `nerve start`\n",
        3,
    )


def test_a_socket_left_over_from_a_crash_is_no_engine(command: Any, workspace: Any) -> None:
    """Nobody listens there."""
    workspace.run_dir.mkdir(parents=True)
    workspace.control_socket.touch()
    assert command("scale", 4).code == 3


def test_what_the_engine_refuses_is_told(command: Any, engine: Any) -> None:
    """In its words."""
    engine.replies = [Refused("not now")]
    assert command("scale", 4) == ("", "nerve: not now\n", 1)
