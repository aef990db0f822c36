"""`nerve trigger`: its request, output and exit codes."""

from __future__ import annotations

from typing import Any

import pytest
from support.commands import Command

from nerve.control.client import ControlClient
from nerve.control.protocol import Accepted, Finished, Refused, TriggerSense


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


def test_ctrl_c_while_waiting_says_that_the_run_goes_on(
    command: Command, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has been aborted."""
    engine.replies = [Accepted()]
    expect = ControlClient.expect

    def interrupted(client: ControlClient, kind: type, timeout: float) -> Any:
        if kind is Finished:
            raise KeyboardInterrupt
        return expect(client, kind, timeout)

    monkeypatch.setattr(ControlClient, "expect", interrupted)
    result = command("trigger", "disk", "--wait")
    step = "see `nerve status`, or follow it with `nerve logs --sense disk -f`"
    assert result == ("", f"nerve: no longer waiting; the run of disk goes on: {step}\n", 1)


def test_ctrl_c_during_a_stop_says_that_it_goes_on(
    command: Command, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has been told, and does not need the command."""
    engine.replies = [Accepted()]

    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(ControlClient, "wait_for_end", interrupted)
    text = "nerve: no longer waiting; the engine goes on stopping: see `nerve status`\n"
    assert command("stop") == ("", text, 1)


@pytest.mark.parametrize(
    "arguments",
    [["trigger", "disk", "--wait", "--timeout", "5"], ["stop", "--timeout", "5"], ["archive", "--retention", "1"]],
)
def test_a_bare_number_is_no_duration_on_the_command_line(command: Command, engine: Any, arguments: list[str]) -> None:
    """`--retention 1` would have archived everything that is older than a second."""
    result = command(*arguments)
    number = arguments[-1]
    assert f"'{number}' has no unit: write {number}s, {number}m, {number}h or {number}d" in result.err
    assert (result.code, engine.requests) == (2, [])
