"""`nerve reload`: what it asks for, what it says, and how it exits."""

from __future__ import annotations

from typing import Any

from nerve.control.protocol import Refused, Reloaded, ReloadFiles


def test_it_tells_what_has_changed_and_what_was_loaded(command: Any, engine: Any) -> None:
    """A line for each change of nerve.yaml, and one for all senses."""
    engine.replies = [Reloaded(("workers 2 -> 4", "sense cpu: added"), ("cpu", "disk"), ())]
    assert command("reload") == (
        "nerve: workers 2 -> 4\nnerve: sense cpu: added\nnerve: 2 senses loaded anew: cpu, disk\n",
        "",
        0,
    )
    assert engine.requests == [ReloadFiles()]


def test_what_is_broken_is_told_and_fails(command: Any, engine: Any) -> None:
    """On stderr, every problem in a line; what is good has been loaded all the same."""
    engine.replies = [Reloaded((), ("cpu",), ("nerve.yaml:3: no", "senses/disk.py:1: invalid syntax"))]
    said = command("reload")
    assert said.out == "nerve: 1 sense loaded anew: cpu\n"
    assert said.err.splitlines() == [
        "nerve: what is broken stays as it was:",
        "  nerve.yaml:3: no",
        "  senses/disk.py:1: invalid syntax",
    ]
    assert said.code == 1


def test_with_no_sense_it_says_so(command: Any, engine: Any) -> None:
    """An empty workspace has nothing to load."""
    engine.replies = [Reloaded((), (), ())]
    assert command("reload") == ("nerve: 0 senses loaded anew: none\n", "", 0)


def test_what_the_engine_refuses_is_told(command: Any, engine: Any) -> None:
    """In its words."""
    engine.replies = [Refused("the watcher is not there: see `nerve status`")]
    assert command("reload") == ("", "nerve: the watcher is not there: see `nerve status`\n", 1)


def test_without_an_engine_it_exits_with_3(command: Any, workspace: Any) -> None:
    """One line, which says what to do."""
    assert command("reload") == (
        "",
        f"nerve: nerve is not running in {workspace.home}: start it with `nerve start`\n",
        3,
    )


def test_an_engine_that_ends_meanwhile_is_not_running(command: Any, engine: Any) -> None:
    """Whoever waits for an answer that can't come is told at once."""
    said = command("reload")
    assert "has ended before it answered" in said.err
    assert said.code == 3
