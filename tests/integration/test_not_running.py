"""Commands where no engine runs, and a status that is watched until there is none."""

from __future__ import annotations

import json
import signal

import pytest
from support.engine import Engine
from support.waiting import wait_until

COMMANDS = (
    ["status"], ["status", "--json"], ["status", "--watch"], ["trigger", "tick"], ["trigger", "tick", "--wait"],
    ["scale", "2"], ["reload"], ["stop"],
)  # fmt: skip


def check_refusals(engine: Engine) -> None:
    """Every command that needs an engine ends with 3, and one line that says what to do."""
    for command in COMMANDS:
        found = engine.run(*command)
        assert found.returncode == 3, (command, found)
        assert found.stdout == ""
        assert found.stderr == f"nerve: no engine is running in {engine.home}: start it with `nerve start`\n"


def test_nothing_runs_here(engine: Engine) -> None:
    """A workspace whose engine was never started."""
    engine.config("senses: {}\n")
    check_refusals(engine)
    assert not (engine.home / "data").exists()


def test_a_socket_is_left_over_from_a_crash(engine: Engine) -> None:
    """A kernel that was killed leaves its socket behind, at which nobody listens."""
    engine.config("senses: {}\n")
    engine.start()
    engine.signal(signal.SIGKILL)
    engine.wait()
    wait_until(lambda: not engine.processes(), "everybody is gone")
    assert (engine.home / "data" / "run" / "control.sock").exists()
    check_refusals(engine)


@pytest.mark.parametrize("json_wanted", [False, True])
def test_a_watched_status_is_printed_again_and_again_until_the_engine_goes(engine: Engine, json_wanted: bool) -> None:
    """In a pipe each look is another block of text, or a line of JSON; the end of the engine ends it with 3."""
    engine.config("senses: {}\n")
    engine.start()
    watching = engine.spawn("status", "--watch", *(["--json"] if json_wanted else []))
    assert watching.stdout is not None
    mark = "kernel"
    looks = 0
    while looks < 3:
        line = watching.stdout.readline()
        assert line, "the watch has ended by itself"
        looks += mark in line
        if json_wanted:
            assert json.loads(line)["kernel"]["pid"] == engine.pid
    assert engine.stop() == 0
    rest, said = watching.communicate(timeout=15)
    assert watching.returncode == 3
    assert len(said.splitlines()) == 1
    assert said.startswith("nerve: ")
    assert "\x1b" not in rest


def test_a_watched_status_ends_quietly_with_ctrl_c(engine: Engine) -> None:
    """SIGINT is how a person ends it: exit code 0, and nothing on stderr."""
    engine.config("senses: {}\n")
    engine.start()
    watching = engine.spawn("status", "--watch")
    assert watching.stdout is not None
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=15)
    assert (watching.returncode, said) == (0, "")
