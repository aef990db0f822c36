"""A command line, an engine that answers as a test has it, and a workspace with a log of its own."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from support.commands import Command, Said, Write
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
    """Answers each request in a thread; the connection ends where there is no answer left."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.replies: list[Reply] = []
        self.over = threading.Event()

    def handle(self, request: Request, answer: Answer) -> None:
        """Give the next reply."""
        self.requests.append(request)
        if self.replies:
            answer(self.replies.pop(0))
        else:
            self.over.set()

    @contextmanager
    def listening(self, workspace: Workspace) -> Iterator[None]:
        """Answer at the control socket of a workspace."""
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
    """A workspace in which nothing runs."""
    (tmp_path / "nerve.yaml").touch()
    return Workspace(tmp_path.resolve())


@pytest.fixture
def engine(workspace: Workspace) -> Iterator[Engine]:
    """An engine in that workspace."""
    engine = Engine()
    with engine.listening(workspace):
        yield engine


@pytest.fixture
def nerve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `nerve` with arguments, its output being no terminal."""
    monkeypatch.delenv("NERVE_HOME", raising=False)

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["nerve", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        return Said(out, err, int(exit_.value.code or 0))

    return run


@pytest.fixture
def command(workspace: Workspace, nerve: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `nerve` with arguments in that workspace."""
    monkeypatch.setenv("NERVE_HOME", str(workspace.home))
    return nerve


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace in which nothing was ever started, on a machine in Berlin, ten minutes after START."""
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
    """Commit events by a writer that starts for it and stops after it; the first one makes the log."""

    def write(*recorded: LogEvent) -> None:
        writer = LogWriter.open(home / "data" / "logs.db")
        writer.append(list(recorded), {})
        writer.close()

    return write


@pytest.fixture
def logged_home(home: Path, write: Write) -> Path:
    """The same workspace, whose log is there, and empty."""
    write()
    return home


@pytest.fixture
def ask(home: Path, nerve: Command) -> Command:
    """Run a command in `home`, its output being no terminal."""
    return partial(nerve, "--home", home)


@pytest.fixture
def at_terminal(ask: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in `home`, its output being a terminal of 130 columns."""

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        return ask(*arguments)

    return run


@pytest.fixture
def logs(ask: Command) -> Command:
    """Run `nerve logs` with arguments, its output being no terminal."""
    return partial(ask, "logs")
