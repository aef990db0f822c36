"""A real engine in a folder of its own, started by its command, watched from outside."""

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
    """A workspace, and the engine that may run in it."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or Path(tempfile.mkdtemp(prefix="nv-", dir="/tmp"))
        (self.home / "senses").mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[str] | None = None
        self.prelude = ""
        """Python that is run before nerve's own, in every process and command: how a test changes what is built in."""
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
        """Write a file of the senses' folder that is no sense, such as `lib/units.py`."""
        path = self.home / "senses" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code))
        return path

    @property
    def db(self) -> Path:
        """The path of logs.db."""
        return self.home / "data" / "logs.db"

    @property
    def event_socket(self) -> Path:
        """Where producers join the event queue."""
        return self.home / "data" / "run" / "events.sock"

    def command(self, *arguments: str) -> list[str]:
        """Give the command line of a `nerve` command on this workspace."""
        python, option, code = NERVE
        return [python, option, f"{self.prelude}\n{code}", "--home", str(self.home), *arguments]

    def start(self, *arguments: str, ready: bool = True, env: dict[str, str] | None = None) -> Engine:
        """Start the engine in a session of its own; with `ready`, return once it has recorded its start."""
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
        """Run a command on this workspace, and give its exit code and what it printed."""
        return subprocess.run(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command on this workspace beside what the test does; it is the test that ends it."""
        return subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, condition: Callable[[], Any], what: str, timeout: float = 15.0) -> Any:
        """Wait for a condition; fails at once, with what it said, when the engine has ended meanwhile."""

        def or_ended() -> Any:
            result = condition()
            if not result and self.process and self.process.poll() is not None:
                raise AssertionError(f"the engine ended with {self.process.returncode} before {what}:\n{self.stderr}")
            return result

        return wait_until(or_ended, what, timeout)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 15.0) -> int:
        """Signal the kernel, wait for its end, and give its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = 15.0) -> int:
        """Wait for the end of the kernel, and give its exit code."""
        assert self.process is not None
        self.stdout, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode

    @property
    def stderr(self) -> str:
        """What the engine has said on stderr."""
        return (self.home / "stderr").read_text()

    def processes(self) -> list[psutil.Process]:
        """Every process of the engine's session that is still there, zombies left out."""
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
        """Signal every process of the engine, as a terminal does with its whole group."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def child(self, title: str) -> psutil.Process:
        """The process with this title, once there is one."""
        return self.until(
            lambda: next((found for found in self.processes() if _title(found) == f"nerve: {title}"), None),
            f"there is a process `nerve: {title}`",
        )

    def pids(self, title: str) -> set[int]:
        """The pids of the processes with this title, as many as there are."""
        return {found.pid for found in self.processes() if _title(found) == f"nerve: {title}"}

    def rows(self, where: str = "1", *values: object) -> list[Entry]:
        """Read entries with plain sqlite3, in order of id; none when there is no table yet."""
        found = self._select(
            f"SELECT id, source, type, ref_id, payload, ts FROM logs WHERE {where} ORDER BY id", values
        )
        return [Entry(row[0], row[1], row[2], row[3], json.loads(row[4]), row[5]) for row in found]

    def how_many(self, where: str = "1", *values: object) -> int:
        """Count entries, without reading them."""
        return sum(count for (count,) in self._select(f"SELECT count(*) FROM logs WHERE {where}", values))

    def count(self, source: str, type: str) -> int:
        """Count the entries of a kind."""
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
        """The run_complete entries of a sense."""
        return self.rows("type = 'run_complete' AND source = 'reflex' AND ref_id LIKE ?", f"{sense}/%")

    def status(self) -> dict[str, Any]:
        """Give `nerve status --json`, decoded."""
        found = self.run("status", "--json")
        assert found.returncode == 0, found.stderr
        decoded: dict[str, Any] = json.loads(found.stdout)
        return decoded

    def errors(self, kind: str | None = None) -> list[Entry]:
        """The system errors, of a kind if one is given."""
        found = self.rows("source = 'system' AND type = 'error'")
        return [entry for entry in found if kind in (None, entry.payload["kind"])]

    def reloads(self, sense: str | None = None) -> list[Entry]:
        """The reloads of a sense; without one, those of nerve.yaml."""
        if sense is None:
            return self.rows("source = 'system' AND type = 'config_reload'")
        return self.rows("source = 'system' AND type = 'sense_reload' AND ref_id = ?", sense)

    def until_reload(self, sense: str | None, after: int, *, ok: bool) -> dict[str, Any]:
        """Wait for a reload of a sense, or of nerve.yaml, beyond the first `after`; give the payload of the last."""
        found = self.until(lambda: self.reloads(sense)[after:], f"{sense or 'nerve.yaml'} is reloaded")
        assert found[-1].payload["ok"] is ok, found
        payload: dict[str, Any] = found[-1].payload
        return payload

    def until_run(self, sense: str, status: str, timeout: float = 20.0) -> Entry:
        """Wait for a run of a sense with this status, and give its run_complete."""
        return self.until(
            lambda: next((run for run in self.runs(sense) if run.payload["status"] == status), None),
            f"a run of {sense} ends with {status}",
            timeout,
        )

    def destroy(self) -> None:
        """Kill whatever is left, and remove the folder."""
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
