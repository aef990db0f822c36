"""`nerve stats`: how the senses do, as a table, as lines and as JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click
import pytest
from support.commands import NERVE, Command, Write
from support.runs import START, begun, ended, failed, run_id

from nerve.cli.commands.stats import sparkline
from nerve.cli.commands.stats import stats as stats_command


@pytest.fixture
def story(write: Write) -> None:
    """A run a second: of cpu twenty, of which two failed, and of disk one."""
    for n in range(20):
        run = run_id("cpu", n)
        write(begun(run, n=n))
        write(*([failed(run, f"boom {n}", n=n)] if n in (3, 5) else []))
        write(ended(run, "error" if n in (3, 5) else "ok", ms=n + 1.0, n=n))
    write(ended(run_id("disk", 300), ms=1418.0, n=300))


@pytest.mark.usefixtures("story")
def test_a_pipe_gets_a_line_a_sense(ask: Command) -> None:
    """Its name, and all else as key=value."""
    printed = ask("stats")
    assert printed.out == (
        "cpu runs=20 failures=2 error=2 ok=18 p50_ms=10.0 p95_ms=19.0 max_ms=20.0"
        ' last_error_ts=2026-11-23T11:00:05.400+01:00 last_error="boom 5"\n'
        "disk runs=1 failures=0 ok=1 p50_ms=1418.0 p95_ms=1418.0 max_ms=1418.0\n"
    )
    assert (printed.err, printed.code) == ("", 0)


@pytest.mark.usefixtures("story")
def test_a_terminal_gets_a_table_and_the_last_errors(at_terminal: Command) -> None:
    """With blocks for the runs over the time, and red ones for the failures."""
    shown = at_terminal("stats").out
    lines = [line.rstrip() for line in click.unstyle(shown).splitlines()]
    assert lines[0] == "2026-11-23 11:00:00.500 to 2026-11-23 11:05:00.500, a column is 12.501s"
    assert lines[1].split() == ["sense", "runs", "p50", "p95", "max", "runs", "over", "time", "failures"]
    assert lines[2].split() == ["cpu", "20", "10ms", "19ms", "20ms", "█▅", "█", "2", "error"]
    assert lines[3].split() == ["disk", "1", "1.418s", "1.418s", "1.418s", "█"]
    assert lines[4] == "2026-11-23 11:00:05.400 cpu/…000005 compute: boom 5"
    assert "\x1b[31m█" in shown


@pytest.mark.usefixtures("story")
def test_json_is_one_object(ask: Command) -> None:
    """With the time, and the senses in the order of their names."""
    found = json.loads(ask("stats", "--json", "--since", "2026-11-23T10:00Z", "--until", "2026-11-23T10:00:09Z").out)
    assert (found["since"], found["until"], found["step_ms"]) == (START, START + 9000, 376)
    [cpu] = found["senses"]
    assert (cpu["name"], cpu["runs"], cpu["failures"], cpu["statuses"]) == ("cpu", 9, 2, {"error": 2, "ok": 7})
    assert (cpu["p50_ms"], cpu["p95_ms"], cpu["max_ms"]) == (5.0, 9.0, 9.0)
    assert cpu["last_error"]["message"] == "boom 5"
    assert sum(cpu["runs_over_time"]) == 9
    assert sum(cpu["failures_over_time"]) == 2


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        ("", {"cpu": 20, "disk": 1}),
        ("--sense disk", {"disk": 1}),
        ("--since 6m", {"disk": 1}),
        ("--until 2026-11-23T11:00:05", {"cpu": 5}),
        ("--until 2026-11-23T10:00:05 --utc", {"cpu": 5}),
        ("--since yesterday --until yesterday", {}),
        ("--sense nothing", {}),
        ("--archived", {"cpu": 20, "disk": 1}),
    ],
)
def test_options_narrow_what_is_counted(ask: Command, arguments: str, runs: dict[str, int]) -> None:
    """A time, a sense, and the archive or not."""
    found = json.loads(ask("stats", "--json", *arguments.split()).out)
    assert {sense["name"]: sense["runs"] for sense in found["senses"]} == runs


@pytest.mark.usefixtures("logged_home")
def test_nothing_to_count_is_said_to_a_person(at_terminal: Command) -> None:
    """And it is no failure."""
    assert at_terminal("stats") == ("", "no run has ended in that time: see what there is with `nerve logs`\n", 0)


@pytest.mark.usefixtures("logged_home")
def test_nothing_to_count_leaves_a_pipe_empty(ask: Command) -> None:
    """A script sees no output and success."""
    assert ask("stats") == ("", "", 0)


def test_a_bad_time_is_one_line(ask: Command) -> None:
    """And exit code 2."""
    printed = ask("stats", "--since", "tomorrow")
    assert "Invalid value for '--since': 'tomorrow' is not a moment" in printed.err.splitlines()[-1]
    assert printed.code == 2


def test_a_name_that_could_steer_a_terminal_is_escaped(at_terminal: Command, write: Write) -> None:
    """Whoever wrote it into the log."""
    run = "\x1b[31mcpu/1"
    write(ended(run), failed(run, "no \x1b[2J"))
    shown = at_terminal("stats").out
    assert "\x1b[2J" not in shown
    assert "\\x1b[31mcpu" in shown


def test_an_encoding_that_lacks_a_character_is_no_failure(home: Path, write: Write) -> None:
    """It is written as an escape."""
    run = run_id("cpu", 1)
    write(failed(run, "to →"), ended(run, "error"))
    printed = subprocess.run(
        [*NERVE, "--home", str(home), "stats"],
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.endswith('last_error="to \\u2192"\n')


@pytest.mark.parametrize(
    ("counts", "drawn"), [((0, 0), "  "), ((1,), "█"), ((0, 1, 4, 8, 800), " ▁▁▁█"), ((2, 3, 4), "▄▆█")]
)
def test_a_sparkline_shows_proportions(counts: tuple[int, ...], drawn: str) -> None:
    """The greatest is a full block, and what is more than none is never empty."""
    assert sparkline(counts) == drawn


def test_every_option_is_explained() -> None:
    """Each option has its help, and the command examples."""
    assert [o.name for o in stats_command.params if isinstance(o, click.Option) and not o.help] == []
    assert "Example:" in (stats_command.help or "")
