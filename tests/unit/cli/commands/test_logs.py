"""`nerve logs`: what it finds, in what form, and what it says when there is nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import pytest
from support.commands import Command, Said, Write
from support.entries import sql
from support.listings import CPU, DISK, STORY, ids, numbered
from support.runs import START

from nerve.cli.commands import logs as command


@pytest.fixture
def story(write: Write) -> None:
    """The log holds STORY, with the ids 1 to 6."""
    write(*STORY)


@pytest.fixture
def damage(home: Path) -> Callable[[str], None]:
    """Have a stranger write an entry whose payload is this."""

    def damage(payload: str) -> None:
        insert = "INSERT INTO logs (source, type, payload, ts) VALUES ('odd', 'one', ?, ?)"
        sql(home / "data" / "logs.db", insert, [payload, START])

    return damage


@pytest.fixture
def on_terminal(at_terminal: Command) -> Command:
    """Run `nerve logs` with arguments, its output being a terminal of 130 columns."""
    return partial(at_terminal, "logs")


def texts_of(said: Said) -> list[int]:
    """Give the ids of lines of text, which are their second word or, on a terminal, their third."""
    words = [re.sub(r"\x1b\[[0-9]*m", "", line).split() for line in said.out.splitlines()]
    return [int(line[1] if "T" in line[0] else line[2]) for line in words]


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("", [1, 2, 3, 4, 5, 6]),
        ("--source reflex", [3, 5]),
        ("--type reading", [2]),
        (f"--ref {CPU}", [4, 5]),
        ("--sense disk-usage", [2, 3]),
        ("--errors", [4, 5, 6]),
        ("-n 2", [5, 6]),
        ("-n 0", []),
        ("-n 99999999999999999999", [1, 2, 3, 4, 5, 6]),
        ("--after 4", [5, 6]),
        ("--after 99999999999999999999", []),
        ("--after 1 -n 2 --source reflex", [3, 5]),
        ("payload.status=error", [5]),
        ("payload.status=error payload.status=ok", [3, 5]),
        ("source=reflex payload.status!=ok", [5]),
        ("payload.exception~=^Value -n 5", [4]),
        ("--since 6m", [4, 5, 6]),
        ("--since 2026-11-23T11:05", [5, 6]),
        ("--since 2026-11-23T10:05Z --until 2026-11-23T11:05+01:00", [5]),
        ("--since 2026-11-23T10:05 --utc", [5, 6]),
        ("--utc --until 2026-11-23T10:02:00.000", [1, 2]),
        ("--until 2026-11-23", [1, 2, 3, 4, 5, 6]),
        ("--until yesterday", []),
        ("--since today --until now", [1, 2, 3, 4, 5, 6]),
    ],
)
def test_filters_find_what_they_name(logs: Command, arguments: str, found: list[int]) -> None:
    """Each option and MATCH narrows the entries, which come in the order of their ids."""
    said = logs("--json", *arguments.split())
    assert (ids(said), said.err, said.code) == (found, "", 0)


@pytest.mark.usefixtures("story")
def test_a_damaged_payload_is_shown_and_ends_nothing(logs: Command, damage: Callable[[str], None]) -> None:
    """As text it is marked, and its control characters are escaped; stderr says it once, and it is no failure."""
    damage("{oops \x1b[31m")
    damage("[" * 5000)
    said = logs("--after", 5)
    warning, first, second = said.out.splitlines()
    assert " 6 logging/warning - " in warning
    assert first == '2026-11-23T11:00:00.000+01:00 7 odd/one - (damaged) "{oops \\x1b[31m"'
    assert second.endswith(f" 8 odd/one - (damaged) {'[' * 5000}")
    assert said.err == "nerve: the payload of entry 7 is no JSON, and is shown as text\n"
    assert said.code == 0


@pytest.mark.usefixtures("story")
def test_a_damaged_payload_is_a_text_in_json_and_marked(logs: Command, damage: Callable[[str], None]) -> None:
    """Nothing else bears the mark; filters, -n and -f give it too."""
    damage("{oops")
    marked = {"id": 7, "source": "odd", "type": "one", "ref_id": None, "payload": "{oops", "ts": START, "damaged": True}
    for arguments in (["-n", 1], ["source=odd"], ["source=odd", "-n", 5], ["payload.a!=1", "source~=odd"]):
        [line] = logs("--json", *arguments).out.splitlines()
        assert json.loads(line) == marked
    assert [line for line in logs("--json").out.splitlines() if "damaged" in line] == [
        json.dumps(marked, separators=(",", ":"))
    ]


@pytest.mark.usefixtures("story")
def test_what_is_no_text_is_shown_as_escapes(logs: Command, home: Path) -> None:
    """Neither bytes that are no UTF-8 end a listing, nor do they hide from filters."""
    insert = "INSERT INTO logs (source, type, payload, ts) VALUES ('odd', 'one', CAST(? AS TEXT), ?)"
    sql(home / "data" / "logs.db", insert, [b'{"a":"\xff"}', START])
    for arguments in ([], ["payload.a!=1"], ["type~=^o"], ["source=odd", "-n", 1]):
        line = logs("--after", 6, *arguments).out
        assert line == '2026-11-23T11:00:00.000+01:00 7 odd/one - (damaged) "{\\"a\\":\\"\\\\xff\\"}"\n'


@pytest.mark.usefixtures("story")
def test_a_damaged_payload_stands_out_on_a_terminal(on_terminal: Command, damage: Callable[[str], None]) -> None:
    """In the colour of a warning, and cut to the line."""
    damage("{" * 500)
    line = on_terminal("source=odd").out
    assert "\x1b[33m odd/one" in line
    shown = click.unstyle(line).rstrip("\n")
    assert "(damaged) {{{" in shown
    assert (len(shown), shown[-1]) == (130, "…")


@pytest.mark.usefixtures("story")
def test_json_is_a_compact_object_a_line(logs: Command) -> None:
    """The keys are in the columns' order, and the payload is as it was recorded."""
    assert logs("--json", "--after", 1, "-n", 9, "type=reading").out == (
        f'{{"id":2,"source":"sense","type":"reading","ref_id":"{DISK}","payload":{{"used":0.93}},"ts":1795428120000}}\n'
    )


@pytest.mark.usefixtures("story")
def test_text_in_a_pipe_names_its_offset_and_is_whole(logs: Command) -> None:
    """A line can be grepped for the whole ref, and read without knowing where it was made."""
    assert logs("-n", 5, "--type", "reading").out == f"2026-11-23T11:02:00.000+01:00 2 sense/reading {DISK} used=0.93\n"
    assert logs("--type", "reading", "--utc").out.startswith("2026-11-23T10:02:00.000+00:00 2 ")


@pytest.mark.usefixtures("story")
def test_text_on_a_terminal_is_made_for_a_person(on_terminal: Command) -> None:
    """It has local time, colours, aligned columns, and the traceback below its error; no control character passes."""
    said = on_terminal("--sense", "cpu")
    assert click.unstyle(said.out) == (
        "2026-11-23 11:04:00.000      4 system/error        cpu/…bbbbbb          "
        'kind=compute message="no \\x1b[31m" exception=ValueError\n'
        "    Traceback:\n"
        "      boom\n"
        "2026-11-23 11:05:00.000      5 reflex/run_complete cpu/…bbbbbb          "
        "status=error duration_ms=2.0 signal=false worker=7\n"
    )
    assert "\x1b[31m system/error" in said.out
    assert "2026-11-23T10:04:00.000+00:00" in on_terminal("--utc").out


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_declined(on_terminal: Command, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """NO_COLOR and a dumb terminal get none."""
    monkeypatch.setenv(name, value)
    assert "\x1b" not in on_terminal().out


def test_a_terminal_gets_the_last_hundred(on_terminal: Command, write: Write) -> None:
    """Unless it is told otherwise, or resumes; a pipe gets all."""
    write(*numbered(*range(130)))
    assert texts_of(on_terminal()) == list(range(31, 131))
    assert texts_of(on_terminal("-n", 120)) == list(range(11, 131))
    assert texts_of(on_terminal("--after", 5)) == list(range(6, 131))


def test_a_pipe_gets_all_of_many(logs: Command, write: Write) -> None:
    """More than a page, and more than a chunk, come in order."""
    write(*numbered(*range(3000)))
    assert texts_of(logs()) == list(range(1, 3001))


def test_nothing_found_is_said_to_a_person(on_terminal: Command, write: Write) -> None:
    """On a terminal a line on stderr tells how to go on, and it is no failure."""
    write()
    assert on_terminal() == ("", "nothing is logged yet: start the engine with `nerve start`\n", 0)
    write(*numbered(1))
    hint = "nothing matches: leave a filter out, or see what there is with `nerve logs`\n"
    assert on_terminal("--type", "other") == ("", hint, 0)
    assert on_terminal("-n", 0) == ("", "", 0)


def test_nothing_found_leaves_a_pipe_empty(logs: Command, write: Write) -> None:
    """A script sees no output and success."""
    write()
    assert logs() == ("", "", 0)
    assert logs("--json", "--errors") == ("", "", 0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--since", "tomorrow"], "Invalid value for '--since': 'tomorrow' is not a moment: write it as 10m"),
        (["--until", "2026-02-30"], "Invalid value for '--until': '2026-02-30' is not a moment (day is out of range"),
        (["disk-usage"], "write FIELD=VALUE"),
        (["payload.a~=("], "regular expression"),
        (["colour=red"], "'colour' is no field"),
        (["-n", "-1"], "Invalid value for '-n'"),
        (["--after", "x"], "Invalid value for '--after'"),
        (["-f", "--until", "now"], "--until can't be used with -f"),
    ],
)
def test_a_bad_filter_is_one_line_and_exit_code_2(logs: Command, arguments: list[str], complaint: str) -> None:
    """The usage error comes before anything is looked for: there isn't even a log."""
    said = logs(*arguments)
    *_usage, line = said.err.splitlines()
    assert line.startswith("Error: ")
    assert complaint in line
    assert (said.out, said.code) == ("", 2)


@pytest.mark.parametrize("arguments", [[], ["-f"]])
def test_without_a_log_the_next_step_is_told(home: Path, logs: Command, arguments: list[str]) -> None:
    """One line on stderr and exit code 1, and no file is made."""
    said = logs(*arguments)
    assert said.err == (
        f"nerve: nothing is logged here yet ({home}/data/logs.db is not there): start with `nerve start`\n"
    )
    assert said.code == 1
    assert list((home / "data").iterdir()) == []


def test_without_a_workspace_the_next_step_is_told(home: Path, logs: Command) -> None:
    """One line on stderr and exit code 1."""
    (home / "nerve.yaml").unlink()
    said = logs()
    assert re.fullmatch("nerve: no nerve.yaml in .*nerve init .*\n", said.err)
    assert said.code == 1


def test_every_option_is_explained() -> None:
    """Each option has its help, and the command an example."""
    assert [o.name for o in command.logs.params if isinstance(o, click.Option) and not o.help] == []
    assert "Example:" in (command.logs.help or "")


def test_the_command_loads_nothing_heavy() -> None:
    """It has to feel instant: what it doesn't need stays out."""
    heavy = ["rich", "yaml", "asyncio", "multiprocessing", "multiprocessing_logging", "http", "nerve.kernel"]
    code = f"import sys, nerve.cli.commands.logs; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
