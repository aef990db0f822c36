"""`nerve trigger`: its request, output and exit codes."""

from __future__ import annotations

from typing import Any

import pytest
from support.commands import Command

from nerve.control.protocol import Accepted, Refused, TriggerSense


def test_without_wait_the_command_returns_at_once(command: Command, engine: Any) -> None:
    """The message on stderr says how to follow the run."""
    engine.replies = [Accepted()]
    message = "nerve: triggered disk; follow it with `nerve logs --sense disk -f`\n"
    assert command("trigger", "disk", "--payload", '{"n": 1}') == ("", message, 0)
    assert engine.requests == [TriggerSense("disk", '{"n":1}', wait=False)]


def test_a_run_that_has_not_finished_after_the_timeout_is_reported_as_still_running(
    command: Command, engine: Any
) -> None:
    """The engine did answer, so the command must not claim that it did not."""
    engine.replies = [Accepted()]
    result = command("trigger", "disk", "--wait", "--timeout", "50ms")
    state = "it is still running, or waiting for its turn; see `nerve status`"
    assert result == ("", f"nerve: disk has not finished after 50ms: {state}\n", 1)


def test_a_refusal_of_the_engine_is_printed(command: Command, engine: Any) -> None:
    """The engine's message is the error message."""
    engine.replies = [Refused("there is no such sense")]
    assert command("trigger", "dsk") == ("", "nerve: there is no such sense\n", 1)


@pytest.mark.parametrize("payload", ["{oops", "", '"\\ud800"', "NaN"])
def test_a_payload_that_is_not_valid_json_is_a_usage_error(command: Command, engine: Any, payload: str) -> None:
    """The exit code is 2, and the engine gets no request."""
    result = command("trigger", "disk", "--payload", payload)
    assert "Invalid value for --payload: it is not valid JSON: " in result.err
    assert (result.out, result.code, engine.requests) == ("", 2, [])
