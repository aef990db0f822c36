"""`nerve status`: as tables and as JSON, once and with --watch."""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from typing import Any

import msgspec
import pytest
from rich.console import Console
from support.commands import Command

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
    """Return the status of an engine that has run for `uptime_ms`."""
    return EngineStatus(
        kernel=KernelStatus(7, "boot", uptime_ms, "1.2"),
        workers=[
            WorkerStatus(pid=os.getpid(), state="busy", run=RUN, sense="disk", rss_bytes=None, runs=9),
            WorkerStatus(pid=2**22 + 1, state="idle", run=None, sense=None, rss_bytes=None, runs=0),
        ],
        writer=WriterStatus(
            pid=8, committed=100, events_per_s=2.0, lag_ms=3.0, queue_depth=4, wal_bytes=5, unacknowledged=6
        ),
        archiver=ArchiverStatus(9, None, None, None),
        watcher=WatcherStatus(10),
        senses=[
            SenseStatus(
                name="disk",
                state="backoff",
                last_run=RUN,
                last_status="error",
                last_ts=0,
                next_due_ts=None,
                consecutive_failures=3,
            )
        ],
        problems=list(problems),
    )


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses of --watch instead of sleeping; the third one is ended by Ctrl-C."""
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(command_module.time, "sleep", sleep)
    return naps


def test_json_is_the_status_with_the_memory_of_the_workers_and_notes(
    command: Command, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of a worker that has just exited is null; notes are on the system, and are no problems."""
    engine.replies = [StatusReply(status_of())]
    monkeypatch.setattr("nerve.cli.commands.status.preflight_warnings", lambda *_: ["mind the disk"])
    result = command("status", "--json")
    shown = json.loads(result.out)
    assert shown["workers"][0].pop("rss_bytes") > 0
    expected = json.loads(msgspec.json.encode(status_of()))
    del expected["workers"][0]["rss_bytes"]
    expected["notes"] = ["mind the disk"]
    assert (shown, result.err, result.code) == (expected, "", 0)


def test_text_shows_processes_senses_and_problems(command: Command, engine: Any) -> None:
    """In a pipe it is plain text, in lines that are not wrapped."""
    engine.replies = [StatusReply(status_of(problems=("senses/[red]disk.py:1: invalid syntax",)))]
    result = command("status")
    assert "\x1b" not in result.out
    lines = result.out.splitlines()
    assert lines[0] == "nerve 1.2 up 1m1s, kernel 7, boot boot"
    assert lines[1] == "problem: senses/[red]disk.py:1: invalid syntax"
    for words in (
        "100 committed, 2.0/s, lag 3.0 ms, 4 queued, 6 unacknowledged",
        "archiver",
        "watcher",
        RUN,
        "backoff",
    ):
        assert any(words in line for line in lines), words


def test_watch_in_a_pipe_prints_a_status_every_second(command: Command, engine: Any, naps: list[float]) -> None:
    """Ctrl-C ends it with success."""
    engine.replies = [StatusReply(status_of(uptime_ms=1000 * n)) for n in (1, 2, 3)]
    result = command("status", "--watch")
    heads = [line for line in result.out.splitlines() if line.startswith("nerve 1.2")]
    assert [head.split()[3] for head in heads] == ["1s,", "2s,", "3s,"]
    assert (result.err, result.code, naps) == ("", 0, [1.0] * 3)


def test_watch_as_json_prints_a_line_every_second(command: Command, engine: Any, naps: list[float]) -> None:
    """Each line is one object, however long."""
    problems = ("x" * 500,)
    engine.replies = [StatusReply(status_of(uptime_ms=1000 * n, problems=problems)) for n in (1, 2, 3)]
    result = command("status", "--watch", "--json")
    assert [json.loads(line)["kernel"]["uptime_ms"] for line in result.out.splitlines()] == [1000, 2000, 3000]
    assert result.code == 0


def test_watch_on_a_terminal_redraws_the_status(
    command: Command, engine: Any, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor moves up for each redraw, and is visible again at the end."""
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120, height=50, legacy_windows=False)
    monkeypatch.setattr(command_module, "console_for", lambda _view: terminal)
    engine.replies = [StatusReply(status_of(uptime_ms=1000 * n)) for n in (1, 2, 3)]
    assert command("status", "--watch").code == 0
    drawn = screen.getvalue()
    assert [f"up {n}s" in drawn for n in (1, 2, 3)] == [True] * 3
    assert "\x1b[1A" in drawn
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("up 3s")


def test_watch_on_a_dumb_terminal_prints_a_status_every_second(
    command: Command, engine: Any, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dumb terminal can't redraw, so that it gets one status after another, like a pipe."""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    engine.replies = [StatusReply(status_of(uptime_ms=1000 * n)) for n in (1, 2, 3)]
    result = command("status", "--watch")
    assert result.out.count("nerve 1.2 up") == 3
    assert "\x1b" not in result.out


def test_watch_ends_when_the_engine_stops(command: Command, engine: Any, naps: list[float]) -> None:
    """The exit code is the one of a command without an engine."""
    engine.replies = [StatusReply(status_of())]
    result = command("status", "--watch")
    assert result.out.count("nerve 1.2") == 1
    assert len(result.err.splitlines()) == 1
    assert result.code == 3


@pytest.mark.parametrize("options", [[], ["--json"], ["--watch"]])
def test_without_an_engine_the_exit_code_is_3(command: Command, workspace: Any, options: list[str]) -> None:
    """The message is one line that says what to do."""
    result = command("status", *options)
    assert result == ("", f"nerve: no engine is running in {workspace.home}: start it with `nerve start`\n", 3)
