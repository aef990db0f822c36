"""Fixtures for commands: a command line, an engine with scripted replies, and a workspace with a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from support.commands import Command, CommandResult, Write
from support.runs import START

from nerve import cli
from nerve.clock import Stamp, SystemClock
from nerve.control.protocol import Answer, Reply, Request
from nerve.control.server import ControlServer
from nerve.events.model import LogEvent
from nerve.ipc.event_loop import Loop
from nerve.ipc.sockets import socket_listening_at
from nerve.store.table.writer import LogWriter
from nerve.workspace import Workspace

TURN_SECONDS = 0.01


class Engine:
    """Answers each request in a thread with the next reply; without a reply left, it closes the connection."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.replies: list[Reply] = []
        self.over = threading.Event()

    def handle(self, request: Request, answer: Answer) -> None:
        """Answer with the next reply."""
        self.requests.append(request)
        if self.replies:
            answer(self.replies.pop(0))
        else:
            self.over.set()

    @contextmanager
    def listening(self, workspace: Workspace) -> Iterator[None]:
        """Answer requests at the control socket of a workspace while the block runs."""
        workspace.run_dir.mkdir(parents=True, mode=0o700)
        loop = Loop()
        server = ControlServer(socket_listening_at(workspace.control_socket), loop, self.handle, lambda _line: None)

        def serve() -> None:
            while not self.over.is_set():
                loop.wait(TURN_SECONDS)
            server.close()
            loop.close()
            workspace.control_socket.unlink()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            self.over.set()
            thread.join()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a workspace without an engine."""
    (tmp_path / "nerve.yaml").touch()
    return Workspace(tmp_path.resolve())


@pytest.fixture
def engine(workspace: Workspace) -> Iterator[Engine]:
    """Return an engine that answers in that workspace."""
    engine = Engine()
    with engine.listening(workspace):
        yield engine


@pytest.fixture
def nerve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs `nerve` with arguments; its output is not a terminal."""
    monkeypatch.delenv("NERVE_HOME", raising=False)

    def run(*arguments: object) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["nerve", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        return CommandResult(out, err, int(exit_.value.code or 0))

    return run


@pytest.fixture
def command(workspace: Workspace, nerve: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs `nerve` with arguments in that workspace."""
    monkeypatch.setenv("NERVE_HOME", str(workspace.home))
    return nerve


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a workspace without a log, on a machine in Berlin, ten minutes after START."""
    (tmp_path / "nerve.yaml").touch()
    (tmp_path / "data").mkdir()
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TZ": "Europe/Berlin", "COLUMNS": "130", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    time.tzset()
    monkeypatch.setattr(SystemClock, "stamp", lambda _clock: Stamp(START + 600_000, 0))
    yield tmp_path
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def write(home: Path) -> Write:
    """Return a function that commits events with a writer of its own; the first call creates the log."""

    def write(*recorded: LogEvent) -> None:
        writer = LogWriter.open(home / "data" / "logs.db")
        writer.append(list(recorded), {})
        writer.close()

    return write


@pytest.fixture
def logged_home(home: Path, write: Write) -> Path:
    """Return the same workspace with an empty log."""
    write()
    return home


@pytest.fixture
def invoke(home: Path, nerve: Command) -> Command:
    """Return a function that runs a command in `home`; its output is not a terminal."""
    return partial(nerve, "--home", home)


@pytest.fixture
def at_terminal(invoke: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs a command in `home`; its output is a terminal of 130 columns."""

    def run(*arguments: object) -> CommandResult:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        return invoke(*arguments)

    return run


@pytest.fixture
def logs(invoke: Command) -> Command:
    """Return a function that runs `nerve logs` with arguments; its output is not a terminal."""
    return partial(invoke, "logs")
