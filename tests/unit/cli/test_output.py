"""What commands print when output fails, which is one line, and what they never print: control characters."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest
from support.commands import NERVE, Command, Write
from support.entries import NOON, event

from nerve import cli
from nerve.cli.console import Styled, View, console_for, say
from nerve.escaping import UNSAFE
from nerve.events.model import LogEvent

FULL = Path("/dev/full")
STEERING = "\x1b]0;x\x07\x9b2J\u200b\u202e\u2028\u2066\ufeff\U000e0041\x7f"


def run(home: Path, *arguments: str, stdout: str = "", cwd: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own, in a shell that redirects its standard output or is in another folder."""
    script = f'{cwd} exec "$@" {stdout}'
    command = ["sh", "-c", script, "sh", *NERVE, "--home", str(home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def full_home(logged_home: Path, write: Write) -> Path:
    """Return a workspace with a sense and an entry."""
    (logged_home / "senses").mkdir()
    (logged_home / "senses" / "a.py").write_text("def compute(ctx): ...\n")
    (logged_home / "nerve.yaml").write_text("senses: {a: }\n")
    write(event())
    return logged_home


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "command", ["check", "logs", "logs --json", "stats --json", "verify", "verify --json", "--help"]
)
def test_a_full_disk_at_the_output_is_one_line(full_home: Path, command: str) -> None:
    """Neither a traceback nor a success."""
    result = run(full_home, *command.split(), stdout=">/dev/full")
    assert result.stderr == "nerve: can't write the output: No space left on device\n"
    assert result.returncode == 1


@pytest.mark.parametrize("command", ["check", "logs", "stats --json", "verify", "--help"])
def test_a_closed_output_is_one_line(full_home: Path, command: str) -> None:
    """No file that the command opens becomes its standard output."""
    result = run(full_home, *command.split(), stdout=">&-")
    assert result.stderr == "nerve: can't write the output: Bad file descriptor\n"
    assert result.returncode == 1
    assert run(full_home, *command.split(), stdout=">&- 2>&- <&-").returncode == 1


@pytest.mark.parametrize("command", ["check", "logs", "init new"])
def test_a_deleted_current_folder_needs_a_full_path(full_home: Path, tmp_path: Path, command: str) -> None:
    """With one, a command works; without one, it is one line that says what to do."""
    gone = tmp_path / "gone"
    cwd = f"mkdir {gone}; cd {gone}; rmdir {gone};"
    result = run(Path("relative"), *command.split(), cwd=cwd)
    step = "change to another one, or name the workspace's full path with --home"
    assert result.stderr == f"nerve: can't use the current folder: No such file or directory; {step}\n"
    assert result.returncode == 1
    if "init" not in command:
        assert (run(full_home, *command.split(), cwd=cwd).stderr) == ""


def test_a_closed_pipe_ends_a_command_without_an_error(nerve: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader has what it wants, as `head` after its first lines."""

    def fail(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("nerve.cli.discard_output", lambda: None)
    monkeypatch.setattr("click.Group.invoke", fail)
    assert nerve("status", "--watch") == ("", "", 0)


def test_a_console_leaves_a_closed_pipe_to_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is not rich's."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", closefd=False) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        console = console_for(View(UTC))
        with pytest.raises(BrokenPipeError):
            console.print("x")
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)
    os.close(writing)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(13, "Permission denied", "/x\x1b")])
def test_any_failure_of_the_system_is_one_line(
    nerve: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """With --debug it has a traceback."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("click.Group.invoke", fail)
    text = "interrupted" if isinstance(error, KeyboardInterrupt) else r"/x\x1b: Permission denied"
    assert nerve("check") == ("", f"nerve: {text}\n", 1)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("command", ["logs", "stats", "verify", "trace x", "status", "trigger a", "stop", "archive"])
def test_another_user_is_told_to_whom_the_workspace_belongs(foreign_home: Path, command: str) -> None:
    """It is neither an engine that does not run nor a traceback."""
    become = "import importlib, os, sys; import nerve.cli as c; [importlib.import_module(f'nerve.cli.commands.{n}')"
    become += " for n in c.COMMANDS]; import pwd, encodings.idna; os.setgid(54321); os.setuid(54321); c.main()"
    result = subprocess.run(
        [sys.executable, "-c", become, "--home", str(foreign_home), *command.split()],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.stderr == f"nerve: {foreign_home / 'data'} belongs to root: run the command as that user\n"
    assert (result.stdout, result.returncode) == ("", 1)


@pytest.fixture
def foreign_home() -> Iterator[Path]:
    """Return a workspace that others can look into, but not into its data."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "nerve.yaml").touch()
        (Path(folder) / "data").mkdir(mode=0o700)
        yield Path(folder)


# Escaping.


@pytest.mark.parametrize(
    "char",
    [*"\x1b\x07\x9b\u200b\u202e\u2028\u2066\ufeff\U000e0041\x7f", "\ud800", "\u00ad", "\u200d", "\u2060", "\u115f"],
)
def test_a_line_has_no_character_that_steers_a_terminal_or_hides(capsys: pytest.CaptureFixture[str], char: str) -> None:
    """A character of another part of Unicode stays as it is."""
    say(f"a{char}b", Styled(f"é{char}語"), "\n")
    out = capsys.readouterr().out
    assert char not in out.removesuffix("\n")
    assert re.fullmatch(r"a\\\S+bé\\\S+語\\n\n", out)


@pytest.fixture
def hostile_home(logged_home: Path, write: Write) -> Path:
    """Return a workspace whose log, senses and folders have such characters wherever they can be."""
    run_id = f"{STEERING}/" + "0" * 31
    keys = ("sense", "status", "message", "kind", "reflex", "trigger", STEERING)
    payload = json.dumps(dict.fromkeys(keys, STEERING) | {"duration_ms": 1.0}, ensure_ascii=False)
    for digit in "12":
        write(
            LogEvent("reflex", "run_start", run_id + digit, payload, NOON, 0),
            LogEvent("sense", f"t{STEERING}", run_id + digit, payload, NOON, 0),
            LogEvent("system", "error", run_id + digit, payload, NOON, 0),
            LogEvent("reflex", "run_complete", run_id + digit, payload, NOON, 0),
            LogEvent(f"s{STEERING}", "x", STEERING, payload, NOON, 0),
        )
    (logged_home / "senses").mkdir()
    (logged_home / "senses" / f"a{STEERING}.py").write_text("x = = 1\n")
    return logged_home


@pytest.mark.parametrize(
    "command",
    [
        "logs",
        "trace 000001",
        "trace -v 000001",
        "trace 00000",
        "trace nowhere",
        "stats",
        "stats --json",
        "verify",
        "verify --json",
        "check",
        "archive --dry-run --retention 1s",
        f"logs --since {STEERING}",
        f"{STEERING}",
        f"restore {STEERING}",
        f"logs --sense {STEERING}",
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.usefixtures("hostile_home")
def test_no_command_passes_on_what_steers_a_terminal(
    invoke: Command, at_terminal: Command, monkeypatch: pytest.MonkeyPatch, command: str, terminal: bool
) -> None:
    """Neither from the log, nor from file names, nor from its arguments; on a terminal and in a pipe."""
    monkeypatch.setenv("NO_COLOR", "1")
    result = (at_terminal if terminal else invoke)(*command.split(" "))
    for output in (result.out, result.err):
        assert re.findall(UNSAFE, output.replace("\n", "")) == []
    assert result.out or result.err


def test_no_command_prints_by_itself() -> None:
    """Each line goes through the one function that escapes it."""
    folder = Path(cli.__file__).parent
    allowed = {"console.py", "__init__.py", "formatting.py", "trigger.py", "restore.py", "code.py"}  # JSON, sources ...
    printing = re.compile(r"click\.echo|\bprint\(|stdout\.write")
    found = {path.name for path in folder.rglob("*.py") if printing.search(path.read_text())}
    assert found - allowed <= {"stats.py", "trace.py", "status.py"}  # which print tables of escaped text
