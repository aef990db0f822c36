"""`nerve trace`: how a causal tree looks, in a pipe, on a terminal and as JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click
import pytest
from support.commands import NERVE, Command, Write
from support.entries import sql
from support.runs import begun, ended, failed, run_id, said

from nerve.cli.commands.trace import trace as trace_command

CPU, ALERT, MAIL, DISK = (run_id(sense, n) for n, sense in enumerate(["cpu", "alert", "mail", "disk"]))


@pytest.fixture
def story(write: Write) -> None:
    """A run by hand signals; two runs come of it, and of one of them a third, which is still open."""
    write(begun(CPU, kind="manual"), said(CPU, {"n": 1}), ended(CPU, ms=1418.0))
    write(begun(ALERT, cause=CPU, coalesced=2, n=1), failed(ALERT, "no \x1b[31m"), ended(ALERT, "timeout", n=1))
    write(begun(MAIL, cause=ALERT, n=2), begun(DISK, cause=CPU, n=3), ended(DISK, "cancelled", signal=False, n=3))


PLAIN = f"""\
2026-11-23T11:00:00.000+01:00 {CPU} ok 1.418s, by hand, 3ms late, signalled
├── 2026-11-23T11:00:01.000+01:00 {ALERT} (asked) timeout 5.5ms, signal alert-reflex, 2 more triggers coalesced, \
3ms late, signalled
│   ├── error (compute): no \\x1b[31m
│   └── 2026-11-23T11:00:02.000+01:00 {MAIL} open for 9m58s, signal mail-reflex, 3ms late
└── 2026-11-23T11:00:03.000+01:00 {DISK} cancelled 5.5ms, signal disk-reflex, 3ms late
"""


@pytest.mark.usefixtures("story")
def test_a_pipe_gets_the_tree_with_everything_whole(ask: Command) -> None:
    """What started each run, what came of it, how long it took, and what went wrong; a line a run."""
    assert ask("trace", ALERT) == (PLAIN, "", 0)


@pytest.mark.usefixtures("story")
def test_a_terminal_gets_shortened_ids_offsets_and_colours(at_terminal: Command) -> None:
    """The moment is that of the top; below it is what has passed since then."""
    shown = at_terminal("trace", ALERT[:-4]).out
    lines = click.unstyle(shown).splitlines()
    assert lines[0] == "2026-11-23 11:00:00.000 cpu/…000000 ok 1.418s, by hand, 3ms late, signalled"
    assert lines[1].startswith(
        "├── +1s alert/…000001 (asked) timeout 5.5ms, signal alert-reflex, 2 more triggers coalesced"
    )
    assert "\x1b[1;31mtimeout" in shown
    assert "\x1b[31m[31m" not in shown


@pytest.mark.usefixtures("story")
def test_colours_can_be_declined(at_terminal: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves no colour, and the tree as it is."""
    monkeypatch.setenv("NO_COLOR", "1")
    shown = at_terminal("trace", ALERT).out
    assert "\x1b[3" not in shown
    assert "├── +1s alert/…000001" in click.unstyle(shown)


@pytest.mark.usefixtures("story")
def test_verbose_adds_what_the_runs_logged_and_tracebacks(ask: Command) -> None:
    """Each below its run."""
    said = ask("trace", "-v", MAIL).out
    assert "├── sense/reading n=1\n" in said
    assert "│   ├── error (compute): no \\x1b[31m\n│   │   Traceback:\n│   │     boom\n" in said


@pytest.mark.usefixtures("story")
def test_json_is_one_object_in_which_runs_hold_runs(ask: Command) -> None:
    """Every fact is there, under the names that the log has."""
    found = json.loads(ask("trace", "--json", MAIL).out)
    assert (found["asked"], found["root"], found["above"]) == (MAIL, CPU, 0)
    tree = found["tree"]
    assert (tree["run"], tree["trigger"], tree["status"], tree["duration_ms"]) == (CPU, "manual", "ok", 1418.0)
    alert, disk = tree["caused"]
    assert alert["errors"][0]["payload"]["message"] == "no \x1b[31m"
    assert (alert["cause"], disk["status"]) == (CPU, "cancelled")
    assert [(run["run"], run["asked"], run["status"]) for run in alert["caused"]] == [(MAIL, True, "open")]


@pytest.mark.usefixtures("story")
def test_what_is_left_out_is_counted(ask: Command) -> None:
    """Above, beside and below, with what to do about it."""
    assert "└── ... and 1 more run: --limit or --depth shows them\n" in ask("trace", CPU, "--depth", 1).out
    lines = ask("trace", MAIL, "--depth", 1).out.splitlines()
    assert lines[0] == f"... 1 level above, and it all began with {CPU}"
    assert "at least" not in ask("trace", CPU, "--limit", 2).out


def test_an_ambiguous_id_lists_the_candidates(ask: Command, write: Write) -> None:
    """In one line, and never more than a few."""
    write(*(begun(run_id("cpu", n)) for n in range(9)))
    printed = ask("trace", "cpu")
    names = ", ".join(run_id("cpu", n) for n in (8, 7, 6, 5, 4))
    assert printed.err == f"nerve: 'cpu' can be any of {names}, ...: write more of the one that you mean\n"
    assert (printed.out, printed.code) == ("", 1)


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize(
    ("typed", "complaint", "code"),
    [
        ("zzz", "nerve: no run has an id like 'zzz': see which there are with `nerve logs --type run_start`", 1),
        (run_id("cpu", 77), f"nerve: no run has an id like '{run_id('cpu', 77)}'", 1),
        ("a b", "Error: Invalid value for RUN: 'a b' is no part of a run id", 2),
    ],
)
def test_an_id_that_is_none_is_one_line(ask: Command, typed: str, complaint: str, code: int) -> None:
    """It says what can be done; without a traceback."""
    printed = ask("trace", typed)
    assert printed.err.splitlines()[-1].startswith(complaint)
    assert (printed.out, printed.code) == ("", code)


def test_a_cause_that_is_known_by_its_name_alone_can_be_traced(ask: Command, write: Write) -> None:
    """Such as one that an entry names, and that was never in this log."""
    gone = run_id("gone", 9)
    write(begun(CPU, cause=gone))
    first, second = ask("trace", gone).out.splitlines()
    assert first == f"{gone} (asked) not in the log"
    assert second.endswith(f"{CPU} open for 10m, signal cpu-reflex, 3ms late")


@pytest.mark.usefixtures("story")
def test_a_damaged_entry_is_shown_as_such(ask: Command, home: Path) -> None:
    """It ends nothing."""
    insert = "INSERT INTO logs (source, type, ref_id, payload, ts) VALUES ('sense', 'odd', ?, '{oops', 1)"
    sql(home / "data" / "logs.db", insert, [CPU])
    assert "├── sense/odd (damaged) {oops\n" in ask("trace", "-v", CPU).out
    assert json.loads(ask("trace", "-v", "--json", CPU).out)["tree"]["entries"][1]["damaged"] is True


def test_a_deep_tree_is_legible(at_terminal: Command, write: Write) -> None:
    """However far to the right a run stands, it is not cut away."""
    runs = [run_id("ping", n) for n in range(60)]
    write(*(begun(run, cause=runs[n - 1] if n else None, n=n) for n, run in enumerate(runs)))
    lines = click.unstyle(at_terminal("trace", runs[-1], "--depth", 99).out).splitlines()
    assert len(lines) == 60
    assert lines[-1].endswith("ping/…00003b (asked) open for 9m1s, signal ping-reflex, 3ms late")


def test_a_narrow_terminal_shows_which_run_was_asked_for(
    at_terminal: Command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where colours are declined: the mark comes before what is cut off."""
    monkeypatch.setenv("NO_COLOR", "1")
    write(begun(CPU), begun(DISK, cause=CPU, coalesced=12345, n=3))
    top, asked = click.unstyle(at_terminal("trace", DISK).out).splitlines()
    assert "(asked)" not in top
    assert "+3s disk/…000003 (asked) open" in asked


def test_an_encoding_that_lacks_a_character_is_no_failure(home: Path, write: Write) -> None:
    """It is written as an escape."""
    write(begun(CPU), failed(CPU, "to →"))
    said = subprocess.run(
        [*NERVE, "--home", str(home), "trace", CPU],
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.endswith("error (compute): to \\u2192\n")


@pytest.mark.parametrize("arguments", [["trace", CPU], ["trace", "--json", CPU], ["stats"], ["stats", "--json"]])
def test_a_full_disk_is_one_line(home: Path, write: Write, arguments: list[str]) -> None:
    """Output that can't be written is a failure, told without a traceback."""
    if not Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    write(begun(CPU), ended(CPU))
    with Path("/dev/full").open("wb") as full:
        command = [*NERVE, "--home", str(home), *arguments]
        printed = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert printed.stderr == b"nerve: can't write the output: No space left on device\n"
    assert printed.returncode == 1


def test_every_option_is_explained() -> None:
    """Each option has its help, and the command examples."""
    assert [o.name for o in trace_command.params if isinstance(o, click.Option) and not o.help] == []
    assert "Example:" in (trace_command.help or "")
