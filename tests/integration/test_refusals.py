"""What makes a start refuse: exit code 1, one clear line, no traceback, nothing left behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from support.commands import NERVE
from support.engine import Engine

QUIET = "senses: {}\nreflexes: []\n"


def refused(engine: Engine, *arguments: str) -> str:
    """Start the engine, see it refuse, and give what it said."""
    found = engine.run("start", *arguments)
    assert found.returncode == 1, found.stdout + found.stderr
    assert "Traceback" not in found.stderr
    assert found.stderr.startswith("nerve: ")
    return found.stderr


def test_no_workspace(tmp_path: Path) -> None:
    """Outside a workspace every command says how to make one."""
    env = {name: value for name, value in os.environ.items() if name != "NERVE_HOME"}
    for command in (["start"], ["status"], ["logs"], ["stop"], ["trigger", "x"], ["archive"], ["check"]):
        found = subprocess.run(
            [*NERVE, *command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30, check=False
        )
        assert found.returncode == 1, command
        assert "nerve init" in found.stderr
        assert len(found.stderr.splitlines()) == 1


def test_an_invalid_configuration_reports_every_problem_with_its_line(engine: Engine) -> None:
    """Unknown keys, unknown senses, bad durations and missing files are all named at once."""
    engine.config("""\
        senses:
          eye: {timeout: soon}
          ghost: {}
        reflexes:
          - {sense: eey, interval: 1s}
          - {sense: eye, intervall: 1s}
    """)
    engine.sense("eye", "def compute(ctx): ...\n")
    said = refused(engine)
    for place in ("nerve.yaml:2:", "nerve.yaml:3:", "nerve.yaml:5:", "nerve.yaml:6:"):
        assert place in said
    assert not engine.db.exists()


def test_an_unreadable_configuration(engine: Engine) -> None:
    """A nerve.yaml that is no text is one line."""
    (engine.home / "nerve.yaml").write_bytes(b"\xff\xfe\x00bad")
    assert "nerve.yaml" in refused(engine)


def test_a_second_start_names_the_first(engine: Engine) -> None:
    """Two engines never run in one workspace, and the first never notices the attempt."""
    engine.config(QUIET)
    engine.start()
    assert engine.process is not None
    assert f"pid {engine.process.pid}" in refused(engine)
    assert engine.stop() == 0
    assert [entry.type for entry in engine.rows()] == ["start", "stop"]


def test_a_database_that_is_none(engine: Engine) -> None:
    """A logs.db of another kind is named and left alone."""
    engine.config(QUIET)
    engine.db.parent.mkdir()
    engine.db.write_text("this is no database, but a long enough text to be looked at " * 20)
    before = engine.db.read_bytes()
    assert "logs.db" in refused(engine)
    assert engine.db.read_bytes() == before


def test_a_database_from_a_newer_schema(engine: Engine) -> None:
    """A log that a newer nerve has written is not touched, and what to do is said."""
    engine.config(QUIET)
    engine.start()
    engine.stop()
    with closing(sqlite3.connect(engine.db)) as connection, connection:
        connection.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
    said = refused(engine)
    assert "999" in said
    assert "newer" in said


def test_a_data_folder_that_is_in_the_way(engine: Engine) -> None:
    """Where data/ can't be made or written, the line says where."""
    engine.config(QUIET)
    (engine.home / "data").write_text("a file")
    assert "data" in refused(engine)


@pytest.mark.skipif(os.geteuid() == 0 and sys.platform != "linux", reason="needs to drop root's rights")
def test_a_data_folder_that_is_not_writable(engine: Engine) -> None:
    """Without the right to write, one line says so."""
    engine.config(QUIET)
    (engine.home / "data").mkdir(mode=0o555)
    (engine.home / "data").chmod(0o555)
    engine.home.chmod(0o755)
    command = [*NERVE, "--home", str(engine.home), "start"]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert found.returncode == 1
    assert "writ" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_writer_that_dies_before_it_can_say_why(engine: Engine) -> None:
    """Without a writer nothing starts; how it ended, and what to do, is all that can be said."""
    engine.config(QUIET)
    engine.prelude = "import os, nerve.store.table.writer as w\nw.LogWriter.open = lambda *_: os.kill(os.getpid(), 9)"
    assert "the writer ended too early (killed by SIGKILL)" in refused(engine)


def test_a_home_too_long_for_a_socket(engine: Engine) -> None:
    """The sockets then live in a short place; everything works as ever."""
    home = engine.home / ("long-" * 30)
    deep = Engine(home)
    deep.config("senses: {tick: {}}\nreflexes: [{sense: tick, interval: 100ms}]\n")
    deep.sense("tick", "def compute(ctx): ...\n")
    try:
        deep.start()
        deep.until_run("tick", "ok")
        assert deep.status()["kernel"]["pid"] == deep.process.pid if deep.process else False
        assert deep.run("stop").returncode == 0
        assert deep.wait() == 0
    finally:
        deep.destroy()


def test_what_a_crash_leaves_behind_is_taken_over(engine: Engine) -> None:
    """A stale lock and stale sockets don't keep the next engine from starting."""
    engine.config(QUIET)
    engine.start()
    assert engine.process is not None
    engine.process.send_signal(signal.SIGKILL)
    engine.wait()
    assert (engine.home / "data" / "run" / "control.sock").exists()
    found = engine.run("status")
    assert found.returncode == 3
    assert len(found.stderr.splitlines()) == 1
    engine.start()
    assert engine.stop() == 0


def test_commands_without_an_engine_exit_with_3(engine: Engine) -> None:
    """What needs a running engine says in one line that there is none."""
    engine.config("senses: {}\n")
    for command in (["status"], ["stop"], ["trigger", "tick"]):
        found = engine.run(*command)
        assert found.returncode == 3
        assert len(found.stderr.splitlines()) == 1
        assert "nerve start" in found.stderr
