"""`nerve trace`: the causal tree in a pipe, on a terminal and as JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click
import pytest
from support.commands import NERVE, Command, Write
from support.entries import sql
from support.runs import begun, ended, failed, run_id, said

CPU, ALERT, MAIL, DISK = (run_id(sense, n) for n, sense in enumerate(["cpu", "alert", "mail", "disk"]))


@pytest.fixture
def story(write: Write) -> None:
    """Log a manual run, two runs that its signal started, and an open run that one of these started."""
    write(begun(CPU, kind="manual"), said(CPU, {"n": 1}), ended(CPU, ms=1418.0))
    write(begun(ALERT, cause=CPU, coalesced=2, n=1), failed(ALERT, "no \x1b[31m"), ended(ALERT, "timeout", n=1))
    write(begun(MAIL, cause=ALERT, n=2), begun(DISK, cause=CPU, n=3), ended(DISK, "cancelled", signal=False, n=3))


PLAIN = f"""\
2026-11-23T11:00:00.000+01:00 {CPU} ok 1.418s, by hand, waited 3ms, signalled
├── 2026-11-23T11:00:01.000+01:00 {ALERT} (asked) timeout 5.5ms, signal alert-reflex, 2 more triggers coalesced, \
waited 3ms, signalled
│   ├── error (compute): no \\x1b[31m
│   └── 2026-11-23T11:00:02.000+01:00 {MAIL} open for 9m58s, signal mail-reflex, waited 3ms
└── 2026-11-23T11:00:03.000+01:00 {DISK} cancelled 5.5ms, signal disk-reflex, waited 3ms
"""


@pytest.mark.usefixtures("story")
def test_a_pipe_gets_the_complete_tree(invoke: Command) -> None:
    """Each run is a line with its trigger, status and duration, and its errors are below it."""
    assert invoke("trace", ALERT) == (PLAIN, "", 0)


@pytest.mark.usefixtures("story")
def test_a_terminal_gets_shortened_ids_offsets_and_colours(at_terminal: Command) -> None:
    """Only the top run has its full time; the others have the time since the top run."""
    shown = at_terminal("trace", ALERT[:-4]).out
    lines = click.unstyle(shown).splitlines()
    assert lines[0] == "2026-11-23 11:00:00.000 cpu/…000000 ok 1.418s, by hand, waited 3ms, signalled"
    assert lines[1].startswith(
        "├── +1s alert/…000001 (asked) timeout 5.5ms, signal alert-reflex, 2 more triggers coalesced"
    )
    assert "\x1b[1;31mtimeout" in shown
    assert "\x1b[31m[31m" not in shown


@pytest.mark.usefixtures("story")
def test_colours_can_be_declined(at_terminal: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR the tree is the same, without colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    shown = at_terminal("trace", ALERT).out
    assert "\x1b[3" not in shown
    assert "├── +1s alert/…000001" in click.unstyle(shown)


@pytest.mark.usefixtures("story")
def test_verbose_adds_the_runs_own_entries_and_tracebacks(invoke: Command) -> None:
    """They are below their run."""
    result = invoke("trace", "-v", MAIL).out
    assert "├── sense/reading n=1\n" in result
    assert "│   ├── error (compute): no \\x1b[31m\n│   │   Traceback:\n│   │     boom\n" in result


@pytest.mark.usefixtures("story")
def test_the_digest_of_the_code_is_shown_with_verbose_and_in_json(invoke: Command) -> None:
    """It leads to `nerve code`."""
    assert ", code d\n" in invoke("trace", "-v", MAIL).out
    assert ", code d" not in invoke("trace", MAIL).out
    assert json.loads(invoke("trace", "--json", MAIL).out)["tree"]["digest"] == "d"


@pytest.mark.usefixtures("story")
def test_json_is_one_object_of_nested_runs(invoke: Command) -> None:
    """Its keys are the names that the log uses."""
    trace = json.loads(invoke("trace", "--json", MAIL).out)
    assert (trace["asked"], trace["root"], trace["above"]) == (MAIL, CPU, 0)
    tree = trace["tree"]
    assert (tree["run"], tree["trigger"], tree["status"], tree["duration_ms"]) == (CPU, "manual", "ok", 1418.0)
    alert, disk = tree["caused"]
    assert alert["errors"][0]["payload"]["message"] == "no \x1b[31m"
    assert (alert["cause"], disk["status"]) == (CPU, "cancelled")
    assert [(run["run"], run["asked"], run["status"]) for run in alert["caused"]] == [(MAIL, True, "open")]


@pytest.mark.usefixtures("story")
def test_runs_beyond_the_limits_are_counted(invoke: Command) -> None:
    """The tree says how many levels above and runs below are not shown, and how to show them."""
    assert "└── ... and 1 more run: increase --limit or --depth\n" in invoke("trace", CPU, "--depth", 1).out
    lines = invoke("trace", MAIL, "--depth", 1).out.splitlines()
    assert lines[0] == f"... 1 level above; the chain started with {CPU}"
    assert "at least" not in invoke("trace", CPU, "--limit", 2).out


def test_an_ambiguous_id_lists_the_candidates(invoke: Command, write: Write) -> None:
    """The error is one line and names at most five runs."""
    write(*(begun(run_id("cpu", n)) for n in range(9)))
    result = invoke("trace", "cpu")
    names = ", ".join(run_id("cpu", n) for n in (8, 7, 6, 5, 4))
    assert result.err == f"nerve: ambiguous run id 'cpu': {names}, ...; give more digits\n"
    assert (result.out, result.code) == ("", 1)


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize(
    ("typed", "complaint", "code"),
    [
        ("zzz", "nerve: no run matches 'zzz': list the runs with `nerve logs --type run_start`", 1),
        (run_id("cpu", 77), f"nerve: no run matches '{run_id('cpu', 77)}'", 1),
        ("a b", "Error: Invalid value for RUN: 'a b'", 2),
    ],
)
def test_an_unknown_run_id_is_an_error_in_one_line(invoke: Command, typed: str, complaint: str, code: int) -> None:
    """The line says what to do."""
    result = invoke("trace", typed)
    assert result.err.splitlines()[-1].startswith(complaint)
    assert (result.out, result.code) == ("", code)


def test_a_cause_that_is_not_in_the_log_can_be_traced(invoke: Command, write: Write) -> None:
    """Only the entries of its effects name it."""
    gone = run_id("gone", 9)
    write(begun(CPU, cause=gone))
    first, second = invoke("trace", gone).out.splitlines()
    assert first == f"{gone} (asked) not in the log"
    assert second.endswith(f"{CPU} open for 10m, signal cpu-reflex, waited 3ms")


@pytest.mark.usefixtures("story")
def test_a_damaged_entry_is_shown_and_marked(invoke: Command, home: Path) -> None:
    """It does not end the command."""
    insert = "INSERT INTO logs (source, type, ref_id, payload, ts) VALUES ('sense', 'odd', ?, '{oops', 1)"
    sql(home / "data" / "logs.db", insert, [CPU])
    assert "├── sense/odd (damaged) {oops\n" in invoke("trace", "-v", CPU).out
    assert json.loads(invoke("trace", "-v", "--json", CPU).out)["tree"]["entries"][1]["damaged"] is True


def test_a_deep_tree_is_not_cut_off(at_terminal: Command, write: Write) -> None:
    """The console is as wide as the deepest run needs."""
    runs = [run_id("ping", n) for n in range(60)]
    write(*(begun(run, cause=runs[n - 1] if n else None, n=n) for n, run in enumerate(runs)))
    lines = click.unstyle(at_terminal("trace", runs[-1], "--depth", 99).out).splitlines()
    assert len(lines) == 60
    assert lines[-1].endswith("ping/…00003b (asked) open for 9m1s, signal ping-reflex, waited 3ms")


def test_a_narrow_terminal_shows_which_run_was_asked_for(
    at_terminal: Command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark is in front of the part that is cut off, and does not depend on colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    write(begun(CPU), begun(DISK, cause=CPU, coalesced=12345, n=3))
    top, asked = click.unstyle(at_terminal("trace", DISK).out).splitlines()
    assert "(asked)" not in top
    assert "+3s disk/…000003 (asked) open" in asked


def test_a_character_that_the_encoding_lacks_is_escaped(home: Path, write: Write) -> None:
    """The command does not fail."""
    write(begun(CPU), failed(CPU, "to →"))
    result = subprocess.run(
        [*NERVE, "--home", str(home), "trace", CPU],
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.endswith("error (compute): to \\u2192\n")


@pytest.mark.parametrize("arguments", [["trace", CPU], ["trace", "--json", CPU], ["stats"], ["stats", "--json"]])
def test_output_to_a_full_disk_is_an_error_in_one_line(home: Path, write: Write, arguments: list[str]) -> None:
    """There is no traceback."""
    if not Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    write(begun(CPU), ended(CPU))
    with Path("/dev/full").open("wb") as full:
        command = [*NERVE, "--home", str(home), *arguments]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert result.stderr == b"nerve: can't write the output: No space left on device\n"
    assert result.returncode == 1
