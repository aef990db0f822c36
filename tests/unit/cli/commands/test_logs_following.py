"""`nerve logs -f`: where it starts, what it shows as it comes, and how it ends."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.commands import Command, Write
from support.listings import STORY, ids, numbered, start

from nerve.cli.commands import logs as command
from nerve.cli.commands.logs import Output
from nerve.events.model import Log
from nerve.store.filters import Filter
from nerve.store.full_log import FullLog


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
    stream = FullLog.stream

    def spy(log: FullLog, wanted: Filter) -> Iterator[Log]:
        asked.append(wanted.after_id)
        return stream(log, wanted)

    monkeypatch.setattr(FullLog, "stream", spy)
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
