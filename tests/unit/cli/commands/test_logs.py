"""`nerve logs`: the entries that it finds, their format, and its messages if there are none."""

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
from support.commands import Command, CommandResult, Write
from support.entries import sql
from support.listings import CPU, DISK, STORY, ids, numbered
from support.runs import START


@pytest.fixture
def story(write: Write) -> None:
    """Log STORY, with the ids 1 to 6."""
    write(*STORY)


@pytest.fixture
def damage(home: Path) -> Callable[[str], None]:
    """Return a function that inserts an entry with the given text as its payload, as another program might."""

    def damage(payload: str) -> None:
        insert = "INSERT INTO logs (source, type, payload, ts) VALUES ('odd', 'one', ?, ?)"
        sql(home / "data" / "logs.db", insert, [payload, START])

    return damage


@pytest.fixture
def on_terminal(at_terminal: Command) -> Command:
    """Return a function that runs `nerve logs` with arguments; its output is a terminal of 130 columns."""
    return partial(at_terminal, "logs")


def text_ids(result: CommandResult) -> list[int]:
    """Return the ids in lines of text: the second word or, on a terminal, the third."""
    words = [re.sub(r"\x1b\[[0-9]*m", "", line).split() for line in result.out.splitlines()]
    return [int(line[1] if "T" in line[0] else line[2]) for line in words]


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize(
    ("arguments", "expected"),
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
def test_filters_select_entries(logs: Command, arguments: str, expected: list[int]) -> None:
    """Each option and MATCH narrows the entries, which are in the order of their ids."""
    result = logs("--json", *arguments.split())
    assert (ids(result), result.err, result.code) == (expected, "", 0)


@pytest.mark.usefixtures("story")
def test_a_damaged_payload_is_shown_as_marked_text(logs: Command, damage: Callable[[str], None]) -> None:
    """Its control characters are escaped, stderr warns once, and the exit code is 0."""
    damage("{oops \x1b[31m")
    damage("[" * 5000)
    result = logs("--after", 5)
    warning, first, second = result.out.splitlines()
    assert " 6 logging/warning - " in warning
    assert first == '2026-11-23T11:00:00.000+01:00 7 odd/one - (damaged) "{oops \\x1b[31m"'
    assert second.endswith(f" 8 odd/one - (damaged) {'[' * 5000}")
    assert result.err == "nerve: the payload of entry 7 is not valid JSON; it is shown as text\n"
    assert result.code == 0


@pytest.mark.usefixtures("story")
def test_a_damaged_payload_is_a_marked_string_in_json(logs: Command, damage: Callable[[str], None]) -> None:
    """Only damaged entries have the mark, and they have it with any filter and with -n."""
    damage("{oops")
    marked = {"id": 7, "source": "odd", "type": "one", "ref_id": None, "payload": "{oops", "ts": START, "damaged": True}
    for arguments in (["-n", 1], ["source=odd"], ["source=odd", "-n", 5], ["payload.a!=1", "source~=odd"]):
        [line] = logs("--json", *arguments).out.splitlines()
        assert json.loads(line) == marked
    assert [line for line in logs("--json").out.splitlines() if "damaged" in line] == [
        json.dumps(marked, separators=(",", ":"))
    ]


@pytest.mark.usefixtures("story")
def test_bytes_that_are_not_utf_8_are_shown_as_escapes(logs: Command, home: Path) -> None:
    """Such an entry neither ends the listing nor escapes the filters."""
    insert = "INSERT INTO logs (source, type, payload, ts) VALUES ('odd', 'one', CAST(? AS TEXT), ?)"
    sql(home / "data" / "logs.db", insert, [b'{"a":"\xff"}', START])
    for arguments in ([], ["payload.a!=1"], ["type~=^o"], ["source=odd", "-n", 1]):
        line = logs("--after", 6, *arguments).out
        assert line == '2026-11-23T11:00:00.000+01:00 7 odd/one - (damaged) "{\\"a\\":\\"\\\\xff\\"}"\n'


@pytest.mark.usefixtures("story")
def test_a_damaged_payload_stands_out_on_a_terminal(on_terminal: Command, damage: Callable[[str], None]) -> None:
    """It has the colour of a warning, and is cut to the width."""
    damage("{" * 500)
    line = on_terminal("source=odd").out
    assert "\x1b[33m odd/one" in line
    shown = click.unstyle(line).rstrip("\n")
    assert "(damaged) {{{" in shown
    assert (len(shown), shown[-1]) == (130, "…")


@pytest.mark.usefixtures("story")
def test_json_is_a_compact_object_per_line(logs: Command) -> None:
    """The keys are in the order of the columns, and the payload is as recorded."""
    assert logs("--json", "--after", 1, "-n", 9, "type=reading").out == (
        f'{{"id":2,"source":"sense","type":"reading","ref_id":"{DISK}","payload":{{"used":0.93}},"ts":1795428120000}}\n'
    )


@pytest.mark.usefixtures("story")
def test_text_in_a_pipe_is_complete_and_has_the_utc_offset(logs: Command) -> None:
    """A line can be searched for a full ref_id, and its time is unambiguous."""
    assert logs("-n", 5, "--type", "reading").out == f"2026-11-23T11:02:00.000+01:00 2 sense/reading {DISK} used=0.93\n"
    assert logs("--type", "reading", "--utc").out.startswith("2026-11-23T10:02:00.000+00:00 2 ")


@pytest.mark.usefixtures("story")
def test_text_on_a_terminal_is_aligned_and_coloured(on_terminal: Command) -> None:
    """It has local time, and the traceback below its error; control characters are escaped."""
    result = on_terminal("--sense", "cpu")
    assert click.unstyle(result.out) == (
        "2026-11-23 11:04:00.000      4 system/error        cpu/…bbbbbb          "
        'kind=compute message="no \\x1b[31m" exception=ValueError\n'
        "    Traceback:\n"
        "      boom\n"
        "2026-11-23 11:05:00.000      5 reflex/run_complete cpu/…bbbbbb          "
        "status=error duration_ms=2.0 signal=false worker=7\n"
    )
    assert "\x1b[31m system/error" in result.out
    assert "2026-11-23T10:04:00.000+00:00" in on_terminal("--utc").out


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_declined(on_terminal: Command, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """There are none with NO_COLOR, or on a dumb terminal."""
    monkeypatch.setenv(name, value)
    assert "\x1b" not in on_terminal().out


def test_a_terminal_gets_the_last_hundred_by_default(on_terminal: Command, write: Write) -> None:
    """-n overrides the limit, and --after removes it."""
    write(*numbered(*range(130)))
    assert text_ids(on_terminal()) == list(range(31, 131))
    assert text_ids(on_terminal("-n", 120)) == list(range(11, 131))
    assert text_ids(on_terminal("--after", 5)) == list(range(6, 131))


def test_a_pipe_gets_all_entries(logs: Command, write: Write) -> None:
    """More than a page and more than a chunk are printed in order."""
    write(*numbered(*range(3000)))
    assert text_ids(logs()) == list(range(1, 3001))


def test_a_terminal_gets_a_hint_if_no_entry_is_found(on_terminal: Command, write: Write) -> None:
    """The hint is on stderr and says what to do next; the exit code is 0."""
    write()
    assert on_terminal() == ("", "the log is empty: start the engine with `nerve start`\n", 0)
    write(*numbered(1))
    hint = "no entry matches: remove a filter, or list all entries with `nerve logs`\n"
    assert on_terminal("--until", "2001-01-01") == ("", hint, 0)
    assert on_terminal("-n", 0) == ("", "", 0)


def test_a_pipe_gets_nothing_if_no_entry_is_found(logs: Command, write: Write) -> None:
    """The exit code is 0."""
    write()
    assert logs() == ("", "", 0)
    assert logs("--json", "--errors") == ("", "", 0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--since", "tomorrow"], "Invalid value for '--since': 'tomorrow' is not a valid time: write it as 10m"),
        (
            ["--until", "2026-02-30"],
            "Invalid value for '--until': '2026-02-30' is not a valid time (day is out of range",
        ),
        (["disk-usage"], "write FIELD=VALUE"),
        (["payload.a~=("], "regular expression"),
        (["colour=red"], "'colour'"),
        (["-n", "-1"], "Invalid value for '-n'"),
        (["--after", "x"], "Invalid value for '--after'"),
        (["-f", "--until", "now"], "--until can't be used with -f"),
    ],
)
def test_an_invalid_filter_is_a_usage_error(logs: Command, arguments: list[str], complaint: str) -> None:
    """The exit code is 2, and the error comes before the log is opened: here there is none."""
    result = logs(*arguments)
    *_usage, line = result.err.splitlines()
    assert line.startswith("Error: ")
    assert complaint in line
    assert (result.out, result.code) == ("", 2)


@pytest.mark.parametrize("arguments", [[], ["--archived"]])
def test_without_a_log_the_message_says_how_to_start(home: Path, logs: Command, arguments: list[str]) -> None:
    """The message is one line on stderr, the exit code is 1, and no file is created."""
    result = logs(*arguments)
    assert result.err == (
        f"nerve: no log yet: {home}/data/logs.db does not exist; start the engine with `nerve start`\n"
    )
    assert result.code == 1
    assert list((home / "data").iterdir()) == []


def test_without_a_workspace_the_message_says_how_to_create_one(home: Path, logs: Command) -> None:
    """The message is one line on stderr, and the exit code is 1."""
    (home / "nerve.yaml").unlink()
    result = logs()
    assert re.fullmatch("nerve: no nerve.yaml in .*nerve init .*\n", result.err)
    assert result.code == 1


def test_the_command_imports_nothing_heavy() -> None:
    """The imports of a command decide how fast it starts."""
    heavy = ["rich", "yaml", "asyncio", "multiprocessing", "multiprocessing_logging", "http", "nerve.kernel"]
    code = f"import sys, nerve.cli.commands.logs; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
