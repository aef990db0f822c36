"""`nerve stats`: statistics of the senses as a table, as lines and as JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click
import pytest
from support.commands import NERVE, Command, Write
from support.runs import START, begun, ended, failed, run_id

from nerve.cli.commands.stats import sparkline


@pytest.fixture
def story(write: Write) -> None:
    """Log twenty runs of cpu, one per second, of which two failed, and one run of disk."""
    for n in range(20):
        run = run_id("cpu", n)
        write(begun(run, n=n))
        write(*([failed(run, f"boom {n}", n=n)] if n in (3, 5) else []))
        write(ended(run, "error" if n in (3, 5) else "ok", ms=n + 1.0, n=n))
    write(ended(run_id("disk", 300), ms=1418.0, n=300))


@pytest.mark.usefixtures("story")
def test_a_pipe_gets_one_line_per_sense(invoke: Command) -> None:
    """The line is the name, and everything else as key=value."""
    result = invoke("stats")
    assert result.out == (
        "cpu runs=20 failures=2 error=2 ok=18 p50_ms=10.0 p95_ms=19.0 max_ms=20.0"
        ' last_error_ts=2026-11-23T11:00:05.400+01:00 last_error="boom 5"\n'
        "disk runs=1 failures=0 ok=1 p50_ms=1418.0 p95_ms=1418.0 max_ms=1418.0\n"
    )
    assert (result.err, result.code) == ("", 0)


@pytest.mark.usefixtures("story")
def test_a_terminal_gets_a_table_and_the_last_errors(at_terminal: Command) -> None:
    """Blocks show the runs over time, and red blocks the failures."""
    shown = at_terminal("stats").out
    lines = [line.rstrip() for line in click.unstyle(shown).splitlines()]
    assert lines[0] == "2026-11-23 11:00:00.500 to 2026-11-23 11:05:00.500, 12.501s per block"
    assert lines[1].split() == ["sense", "runs", "p50", "p95", "max", "runs", "over", "time", "failures"]
    assert lines[2].split() == ["cpu", "20", "10ms", "19ms", "20ms", "█▅", "█", "2", "error"]
    assert lines[3].split() == ["disk", "1", "1.418s", "1.418s", "1.418s", "█"]
    assert lines[4] == "2026-11-23 11:00:05.400 cpu/…000005 compute: boom 5"
    assert "\x1b[31m█" in shown


@pytest.mark.usefixtures("story")
def test_a_narrow_terminal_gets_only_the_number_of_failures(
    at_terminal: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of the failures would not fit beside those of the runs."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = click.unstyle(at_terminal("stats").out).splitlines()
    assert lines[2].split() == ["cpu", "20", "10ms", "19ms", "20ms", "█▅", "2", "error"]


@pytest.mark.usefixtures("story")
def test_json_holds_the_period_and_the_statistics(invoke: Command) -> None:
    """The period is the one of --since and --until, in unix ms."""
    statistics = json.loads(
        invoke("stats", "--json", "--since", "2026-11-23T10:00Z", "--until", "2026-11-23T10:00:09Z").out
    )
    assert (statistics["since"], statistics["until"], statistics["step_ms"]) == (START, START + 9000, 376)
    [cpu] = statistics["senses"]
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
def test_options_select_the_runs_that_count(invoke: Command, arguments: str, runs: dict[str, int]) -> None:
    """The options are a period, a sense, and the archive."""
    statistics = json.loads(invoke("stats", "--json", *arguments.split()).out)
    assert {sense["name"]: sense["runs"] for sense in statistics["senses"]} == runs


@pytest.mark.usefixtures("logged_home")
def test_a_terminal_gets_a_hint_if_no_run_ended(at_terminal: Command) -> None:
    """The hint is on stderr, and the exit code is 0."""
    assert at_terminal("stats") == ("", "no run ended in this period: list all entries with `nerve logs`\n", 0)


@pytest.mark.usefixtures("logged_home")
def test_a_pipe_gets_nothing_if_no_run_ended(invoke: Command) -> None:
    """The exit code is 0."""
    assert invoke("stats") == ("", "", 0)


def test_an_invalid_time_is_a_usage_error(invoke: Command) -> None:
    """The message is one line, and the exit code is 2."""
    result = invoke("stats", "--since", "tomorrow")
    assert "Invalid value for '--since': 'tomorrow' is not a valid time" in result.err.splitlines()[-1]
    assert result.code == 2


def test_control_characters_are_escaped(at_terminal: Command, write: Write) -> None:
    """Names and messages come from the log, to which others may have written."""
    run = "\x1b[31mcpu/1"
    write(ended(run), failed(run, "no \x1b[2J"))
    shown = at_terminal("stats").out
    assert "\x1b[2J" not in shown
    assert "\\x1b[31mcpu" in shown


def test_a_character_that_the_encoding_lacks_is_escaped(home: Path, write: Write) -> None:
    """The command does not fail."""
    run = run_id("cpu", 1)
    write(failed(run, "to →"), ended(run, "error"))
    result = subprocess.run(
        [*NERVE, "--home", str(home), "stats"],
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.endswith('last_error="to \\u2192"\n')


@pytest.mark.parametrize(
    ("counts", "drawn"), [((0, 0), "  "), ((1,), "█"), ((0, 1, 4, 8, 800), " ▁▁▁█"), ((2, 3, 4), "▄▆█")]
)
def test_a_sparkline_is_scaled_to_its_greatest_count(counts: tuple[int, ...], drawn: str) -> None:
    """The greatest count is a full block, and only a count of 0 is empty."""
    assert sparkline(counts) == drawn
