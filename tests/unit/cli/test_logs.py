"""`nerve logs`: what it finds, in what form, how it follows and how it ends."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
from support.commands import NERVE, Command, Said, Write
from support.entries import sql
from support.runs import START

from nerve import events
from nerve.cli import logs as command
from nerve.cli.logs import CHUNK_BYTES, Output
from nerve.clock import Stamp
from nerve.events import LogEvent
from nerve.store import Filter, WholeLog

DISK, CPU = "disk-usage/" + "a" * 32, "cpu/" + "b" * 32
MINUTE = 60_000


def stamp(minute: float) -> Stamp:
    """Give the moment so many minutes after START."""
    return Stamp(START + round(minute * MINUTE), 0)


def numbered(*numbers: int) -> list[LogEvent]:
    """Make an event for each number."""
    return [events.from_sense(stamp(n), DISK, "reading", {"n": n}) for n in numbers]


STORY = [
    events.stop(stamp(1), "c" * 32, reason="test", uptime_ms=5),
    events.from_sense(stamp(2), DISK, "reading", {"used": 0.93}),
    events.run_complete(stamp(3), DISK, "disk-usage", status="ok", duration_ms=1.5, signal=True, worker=7),
    events.error(stamp(4), CPU, events.ErrorDetail("compute", "no \x1b[31m", "ValueError", "Traceback:\n  boom\n")),
    events.run_complete(stamp(5), CPU, "cpu", status="error", duration_ms=2.0, signal=False, worker=7),
    events.from_logging(stamp(6), None, "warning", {"logger": "root"}, 1000),
]


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
def logs(ask: Command) -> Command:
    """Run `nerve logs` with arguments, its output being no terminal."""
    return partial(ask, "logs")


@pytest.fixture
def on_terminal(at_terminal: Command) -> Command:
    """Run `nerve logs` with arguments, its output being a terminal of 130 columns."""
    return partial(at_terminal, "logs")


def ids(said: Said) -> list[int]:
    """Give the ids of lines of JSON."""
    return [json.loads(line)["id"] for line in said.out.splitlines()]


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


class Script:
    """Stands for the waiting of `-f`: each time the next step is taken, and after the last one nobody reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], None]) -> None:
        self._steps = list(steps)
        monkeypatch.setattr(Output, "wait", self._wait)

    def _wait(self, _seconds: float) -> bool:
        if not self._steps:
            return False
        self._steps.pop(0)()
        return True


def interrupt() -> None:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


def test_following_shows_the_last_ten_and_then_each_new_entry_once(
    logs: Command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is a writer that comes and goes; polls without news show nothing."""
    write(*numbered(*range(1, 21)))
    steps = [lambda: write(*numbered(21)), lambda: None, lambda: write(*numbered(22, 23)), write]
    Script(monkeypatch, *steps)
    assert ids(logs("-f", "--json")) == list(range(11, 24))


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("", [1, 2, 3, 4, 5, 6, 7]),
        ("-n 0", [6, 7]),
        ("-n 2", [4, 5, 6, 7]),
        ("--after 3", [4, 5, 6, 7]),
        ("--after 3 -n 1", [5, 6, 7]),
        ("--after 6", [7]),
    ],
)
def test_following_starts_where_it_is_told(
    logs: Command, write: Write, monkeypatch: pytest.MonkeyPatch, arguments: str, found: list[int]
) -> None:
    """`--after` resumes with all since then, also from an id that is yet to come; `-n` tells how many old ones."""
    write(*numbered(*range(1, 6)))
    Script(monkeypatch, lambda: write(*numbered(6)), lambda: write(*numbered(7)))
    assert ids(logs("-f", "--json", *arguments.split())) == found


def test_following_filters(logs: Command, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """New entries are held against the filters, and each commit is looked at once."""
    write(*STORY)
    asked: list[int | None] = []
    stream = WholeLog.stream

    def spy(log: WholeLog, wanted: Filter) -> Iterator[events.Log]:
        asked.append(wanted.after_id)
        return stream(log, wanted)

    monkeypatch.setattr(WholeLog, "stream", spy)
    Script(monkeypatch, lambda: write(*numbered(1, 2, 3)), lambda: write(*STORY))
    assert ids(logs("-f", "--json", "--errors", "-n", 1)) == [6, 13, 14, 15]
    assert asked == [6, 9]


def test_ctrl_c_ends_following_without_a_word(logs: Command, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is how following ends: no message, and success."""
    write(*numbered(1))
    Script(monkeypatch, interrupt)
    assert logs("-f", "--json")[1:] == ("", 0)


def test_ctrl_c_in_a_listing_is_an_abort(logs: Command, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that was cut short is no success."""
    write(*numbered(1))
    monkeypatch.setattr(command.LogReader, "stream", lambda *_arguments: interrupt())
    assert logs().code == 1


class Narrow(io.RawIOBase):
    """An unbuffered output that takes 7 bytes at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = b""

    def writable(self) -> bool:
        """Be an output."""
        return True

    def write(self, data: memoryview) -> int:
        """Take what fits."""
        self.taken += data[:7]
        return len(data[:7])


class Stream:
    """A text stream over a Narrow, as PYTHONUNBUFFERED makes one."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.buffer = Narrow()

    def isatty(self) -> bool:
        """Be no terminal."""
        return False

    def fileno(self) -> int:
        """Have no file."""
        raise io.UnsupportedOperation


def test_output_goes_out_in_chunks_and_whole() -> None:
    """Lines don't pile up in memory, and nothing is lost where a write takes only a part."""
    stream = Stream()
    line = b"x" * 999 + b"\n"
    piles = []

    def lines() -> Iterator[bytes]:
        for n in range(100):
            piles.append(n * len(line) - len(stream.buffer.taken))
            yield line

    assert Output(stream).write(lines()) == 100
    assert stream.buffer.taken == line * 100
    assert max(piles) < CHUNK_BYTES + len(line)


def start(home: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start the real command; its output is a pipe unless told otherwise."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*NERVE, "--home", str(home), "logs", *arguments], **streams)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_is_closed_early_is_no_failure(home: Path, write: Write, unbuffered: str) -> None:
    """As with `| head -1`: the command ends without a word, and with success."""
    write(*numbered(*range(5000)))
    with start(home, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b" 1 sense/reading " in process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(10)) == (b"", 0)


def test_following_ends_when_its_reader_is_gone(home: Path, write: Write) -> None:
    """Nothing new need come for it, so `nerve logs -f | head -1` gives the prompt back."""
    write(*numbered(1))
    with start(home, "-f") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(10)) == (b"", 0)


def test_following_misses_nothing_and_doubles_nothing_across_writers(home: Path, write: Write) -> None:
    """Ten writers come and go; each entry is shown once, soon after its commit; SIGINT ends it with success."""
    write(*numbered(0))
    delays = []
    with start(home, "-f", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        seen = [json.loads(process.stdout.readline())["id"]]
        for n in range(10):
            write(*numbered(*range(n * 10, n * 10 + 10)))
            committed = time.monotonic()
            seen += [json.loads(process.stdout.readline())["id"]]
            delays.append(time.monotonic() - committed)
            seen += [json.loads(process.stdout.readline())["id"] for _ in range(9)]
        process.send_signal(signal.SIGINT)
        assert (process.stdout.read(), process.stderr.read(), process.wait(10)) == (b"", b"", 0)
    assert seen == list(range(1, 102))
    assert sorted(delays)[len(delays) // 2] < 0.2


def test_a_full_disk_is_one_line(home: Path, write: Write) -> None:
    """Output that can't be written is a failure, told without a traceback."""
    if not Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    write(*numbered(1))
    with Path("/dev/full").open("wb") as full, start(home, stdout=full) as process:
        assert process.stderr is not None
        assert process.stderr.read() == b"nerve: can't write the output: No space left on device\n"
        assert process.wait(10) == 1


def test_a_real_terminal_is_recognised_with_its_width(home: Path, write: Write) -> None:
    """Lines are coloured, and as long as the window allows."""
    write(events.from_sense(stamp(1), DISK, "reading", {"text": "x" * 300}))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 90, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with start(home, stdout=theirs, env=environ) as process:
        shown = os.read(ours, 10_000).decode()
        os.close(theirs)
        assert process.wait(10) == 0
    os.close(ours)
    assert "\x1b[2m" in shown
    assert len(click.unstyle(shown).rstrip()) == 90


def test_every_option_is_explained() -> None:
    """Each option has its help, and the command an example."""
    assert [o.name for o in command.logs.params if isinstance(o, click.Option) and not o.help] == []
    assert "Example:" in (command.logs.help or "")


def test_the_command_loads_nothing_heavy() -> None:
    """It has to feel instant: what it doesn't need stays out."""
    heavy = ["rich", "yaml", "asyncio", "multiprocessing", "multiprocessing_logging", "http", "nerve.kernel"]
    code = f"import sys, nerve.cli.logs; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
