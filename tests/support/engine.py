"""A real engine in its own folder, started by its command and watched from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import textwrap
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from support.commands import NERVE
from support.waiting import wait_until


class Entry(NamedTuple):
    """One row of the log, read with plain sqlite3."""

    id: int
    source: str
    type: str
    ref_id: str | None
    payload: Any
    ts: int


class Engine:
    """A workspace, and the engine that runs in it once it is started."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or Path(tempfile.mkdtemp(prefix="nv-", dir="/tmp"))
        (self.home / "senses").mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[str] | None = None
        self.prelude = ""
        """Python code that every process and command runs before nerve's: a test can change constants with it."""
        self.config("{}")

    def config(self, text: str) -> None:
        """Write nerve.yaml."""
        (self.home / "nerve.yaml").write_text(textwrap.dedent(text))

    def sense(self, name: str, code: str) -> Path:
        """Write a sense's file."""
        path = self.home / "senses" / f"{name.replace('-', '_')}.py"
        path.write_text(textwrap.dedent(code))
        return path

    def helper(self, name: str, code: str) -> Path:
        """Write a file of the senses' folder that is not a sense, such as `lib/units.py`."""
        path = self.home / "senses" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code))
        return path

    @property
    def db(self) -> Path:
        """The path of the log."""
        return self.home / "data" / "logs.db"

    @property
    def event_socket(self) -> Path:
        """The socket of the event queue."""
        return self.home / "data" / "run" / "events.sock"

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a `nerve` command in this workspace."""
        python, option, code = NERVE
        return [python, option, f"{self.prelude}\n{code}", "--home", str(self.home), *arguments]

    def start(self, *arguments: str, ready: bool = True, env: dict[str, str] | None = None) -> Engine:
        """Start the engine in its own session; with `ready`, return once it has recorded its start."""
        boots = self.count("system", "start")
        with (self.home / "stderr").open("a") as stderr:
            self.process = subprocess.Popen(
                self.command("start", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )
        if ready:
            self.until(lambda: self.count("system", "start") > boots, "the engine has started")
        return self

    def run(self, *arguments: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run a command in this workspace; return its exit code and output."""
        return subprocess.run(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in this workspace without waiting for it; the test has to end it."""
        return subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, condition: Callable[[], Any], what: str, timeout: float = 15.0) -> Any:
        """Wait for a condition; fail at once, with the engine's output, if the engine ends meanwhile."""

        def or_ended() -> Any:
            result = condition()
            if not result and self.process and self.process.poll() is not None:
                raise AssertionError(f"the engine ended with {self.process.returncode} before {what}:\n{self.stderr}")
            return result

        return wait_until(or_ended, what, timeout)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 15.0) -> int:
        """Signal the kernel, wait for its end, and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = 15.0) -> int:
        """Wait for the end of the kernel, and return its exit code."""
        assert self.process is not None
        self.stdout, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode

    @property
    def stderr(self) -> str:
        """The engine's output on stderr so far."""
        return (self.home / "stderr").read_text()

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the engine's session, without zombies."""
        assert self.process is not None
        return [process for process in psutil.process_iter() if _belongs_to(process, self.process.pid)]

    @property
    def pid(self) -> int:
        """The kernel's pid."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Signal the kernel, unless it has ended."""
        assert self.process is not None
        self.process.send_signal(number)

    def signal_all(self, number: signal.Signals) -> None:
        """Signal every process of the engine, as a terminal does."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def child(self, title: str) -> psutil.Process:
        """Wait for a process with this title, and return it."""
        return self.until(
            lambda: next((found for found in self.processes() if _title(found) == f"nerve: {title}"), None),
            f"there is a process `nerve: {title}`",
        )

    def pids(self, title: str) -> set[int]:
        """Return the pids of the processes with this title."""
        return {found.pid for found in self.processes() if _title(found) == f"nerve: {title}"}

    def rows(self, where: str = "1", *values: object) -> list[Entry]:
        """Return entries in the order of their id, read with plain sqlite3; none if there is no table yet."""
        found = self._select(
            f"SELECT id, source, type, ref_id, payload, ts FROM logs WHERE {where} ORDER BY id", values
        )
        return [Entry(row[0], row[1], row[2], row[3], json.loads(row[4]), row[5]) for row in found]

    def how_many(self, where: str = "1", *values: object) -> int:
        """Return the number of entries."""
        return sum(count for (count,) in self._select(f"SELECT count(*) FROM logs WHERE {where}", values))

    def count(self, source: str, type: str) -> int:
        """Return the number of entries of a type."""
        return self.how_many("source = ? AND type = ?", source, type)

    def _select(self, sql: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        if not self.db.exists():
            return []
        with closing(sqlite3.connect(f"file:{self.db}?mode=ro", uri=True, timeout=10)) as connection:
            try:
                return connection.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise

    def runs(self, sense: str) -> list[Entry]:
        """Return the run_complete entries of a sense."""
        return self.rows("type = 'run_complete' AND source = 'reflex' AND ref_id LIKE ?", f"{sense}/%")

    def status(self) -> dict[str, Any]:
        """Return the decoded output of `nerve status --json`."""
        found = self.run("status", "--json")
        assert found.returncode == 0, found.stderr
        decoded: dict[str, Any] = json.loads(found.stdout)
        return decoded

    def errors(self, kind: str | None = None) -> list[Entry]:
        """Return the system/error entries, of one kind if it is given."""
        found = self.rows("source = 'system' AND type = 'error'")
        return [entry for entry in found if kind in (None, entry.payload["kind"])]

    def reloads(self, sense: str | None = None) -> list[Entry]:
        """Return the reloads of a sense, or of nerve.yaml if none is given."""
        if sense is None:
            return self.rows("source = 'system' AND type = 'config_reload'")
        return self.rows("source = 'system' AND type = 'sense_reload' AND ref_id = ?", sense)

    def until_reload(self, sense: str | None, after: int, *, ok: bool) -> dict[str, Any]:
        """Wait for a reload of a sense, or of nerve.yaml, besides the first `after` ones; return its payload."""
        found = self.until(lambda: self.reloads(sense)[after:], f"{sense or 'nerve.yaml'} is reloaded")
        assert found[-1].payload["ok"] is ok, found
        payload: dict[str, Any] = found[-1].payload
        return payload

    def until_run(self, sense: str, status: str, timeout: float = 20.0) -> Entry:
        """Wait for a run of a sense with this status, and return its run_complete."""
        return self.until(
            lambda: next((run for run in self.runs(sense) if run.payload["status"] == status), None),
            f"a run of {sense} ends with {status}",
            timeout,
        )

    def destroy(self) -> None:
        """Kill the processes that are left, and remove the folder."""
        if self.process:
            for process in self.processes():
                process.kill()
            self.process.kill()
            self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()
        shutil.rmtree(self.home, ignore_errors=True)


def _belongs_to(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.NoSuchProcess:
        return ""
