"""`nerve status`: for people and for machines, once and again and again."""

from __future__ import annotations

import importlib
import io
import json
import os
from typing import Any

import msgspec
import pytest
from rich.console import Console

from nerve.control.protocol import StatusReply
from nerve.control.status import (
    ArchiverStatus,
    EngineStatus,
    KernelStatus,
    SenseStatus,
    WatcherStatus,
    WorkerStatus,
    WriterStatus,
)

command_module = importlib.import_module("nerve.cli.commands.status")
RUN = "disk/" + "a" * 32


def status_of(uptime_ms: int = 61_000, problems: tuple[str, ...] = ()) -> EngineStatus:
    """Make the status of an engine that has run for a while."""
    return EngineStatus(
        KernelStatus(7, "boot", uptime_ms, "1.2"),
        [WorkerStatus(os.getpid(), "busy", RUN, "disk", None, 9), WorkerStatus(2**22 + 1, "idle", None, None, None, 0)],
        WriterStatus(8, 100, 2.0, 3.0, 4, 5, 6),
        ArchiverStatus(9, None, None, None),
        WatcherStatus(10),
        [SenseStatus("disk", "backoff", RUN, "error", 0, None, 3)],
        list(problems),
    )


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let no time pass between two looks; the third nap is ended by Ctrl-C."""
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(command_module.time, "sleep", sleep)
    return naps


def test_machines_get_one_object_with_the_memory_of_the_workers(command: Any, engine: Any) -> None:
    """That of a worker which has just ended is null."""
    engine.replies = [StatusReply(status_of())]
    said = command("status", "--json")
    shown = json.loads(said.out)
    assert shown["workers"][0].pop("rss_bytes") > 0
    expected = json.loads(msgspec.json.encode(status_of()))
    del expected["workers"][0]["rss_bytes"]
    assert (shown, said.err, said.code) == (expected, "", 0)


def test_people_see_everything_that_runs_and_what_is_wrong(command: Any, engine: Any) -> None:
    """In a pipe it is plain text."""
    engine.replies = [StatusReply(status_of(problems=("senses/[red]disk.py:1: invalid syntax",)))]
    said = command("status")
    assert "\x1b" not in said.out
    lines = said.out.splitlines()
    assert lines[0] == "nerve 1.2 up 1m1s, kernel 7, boot boot"
    assert lines[1] == "problem senses/[red]disk.py:1: invalid syntax"
    for words in ("100 committed, 2.0/s, lag 3.0 ms, queue 4, 6 unacknowledged", "archiver", "watcher", RUN, "backoff"):
        assert any(words in line for line in lines), words


def test_watching_shows_it_again_every_second(command: Any, engine: Any, naps: list[float]) -> None:
    """In a pipe one below the other, until Ctrl-C, which is no failure."""
    engine.replies = [StatusReply(status_of(uptime_ms=1000 * n)) for n in (1, 2, 3)]
    said = command("status", "--watch")
    heads = [line for line in said.out.splitlines() if line.startswith("nerve 1.2")]
    assert [head.split()[3] for head in heads] == ["1s,", "2s,", "3s,"]
    assert (said.err, said.code, naps) == ("", 0, [1.0] * 3)


def test_watching_as_json_is_a_line_a_second(command: Any, engine: Any, naps: list[float]) -> None:
    """However long: each is one object."""
    problems = ("x" * 500,)
    engine.replies = [StatusReply(status_of(uptime_ms=1000 * n, problems=problems)) for n in (1, 2, 3)]
    said = command("status", "--watch", "--json")
    assert [json.loads(line)["kernel"]["uptime_ms"] for line in said.out.splitlines()] == [1000, 2000, 3000]
    assert said.code == 0


def test_watching_at_a_terminal_draws_over_what_was_there(
    command: Any, engine: Any, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor goes back up, and is visible again at the end."""
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120, height=50, legacy_windows=False)
    monkeypatch.setattr(command_module, "Console", lambda **_options: terminal)
    engine.replies = [StatusReply(status_of(uptime_ms=1000 * n)) for n in (1, 2, 3)]
    assert command("status", "--watch").code == 0
    drawn = screen.getvalue()
    assert [f"up {n}s" in drawn for n in (1, 2, 3)] == [True] * 3
    assert "\x1b[1A" in drawn
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("up 3s")


def test_watching_ends_with_the_engine(command: Any, engine: Any, naps: list[float]) -> None:
    """With the exit code of every command that finds none."""
    engine.replies = [StatusReply(status_of())]
    said = command("status", "--watch")
    assert said.out.count("nerve 1.2") == 1
    assert len(said.err.splitlines()) == 1
    assert said.code == 3


@pytest.mark.parametrize("options", [[], ["--json"], ["--watch"]])
def test_without_an_engine_it_exits_with_3(command: Any, workspace: Any, options: list[str]) -> None:
    """One line, which says what to do."""
    said = command("status", *options)
    assert said == ("", f"nerve: nerve is not running in {workspace.home}: start it with `nerve start`\n", 3)
