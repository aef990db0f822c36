"""`nerve logs -f`: where it starts, that it shows each new entry once, and how it ends."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.commands import Command, Write
from support.listings import STORY, ids, numbered, start

from nerve.cli.commands.logs import Output
from nerve.events.model import Log
from nerve.store.filters import Filter
from nerve.store.full_log import FullLog
from nerve.store.table.reader import LogReader


class Script:
    """Replaces the waiting of `-f`: each wait runs the next step, and after the last step the reader has gone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], None]) -> None:
        self._steps = list(steps)
        monkeypatch.setattr(Output, "wait", self._wait)

    def _wait(self, _seconds: float) -> bool:
        if not self._steps:
            return False
        self._steps.pop(0)()
        return True


def interrupt() -> None:
    """Raise the exception of Ctrl-C."""
    raise KeyboardInterrupt


def test_following_shows_the_last_ten_and_then_each_new_entry_once(
    logs: Command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is a new writer; polls without new entries show nothing."""
    write(*numbered(*range(1, 21)))
    steps = [lambda: write(*numbered(21)), lambda: None, lambda: write(*numbered(22, 23)), write]
    Script(monkeypatch, *steps)
    assert ids(logs("-f", "--json")) == list(range(11, 24))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", [1, 2, 3, 4, 5, 6, 7]),
        ("-n 0", [6, 7]),
        ("-n 2", [4, 5, 6, 7]),
        ("--after 3", [4, 5, 6, 7]),
        ("--after 3 -n 1", [5, 6, 7]),
        ("--after 6", [7]),
    ],
)
def test_following_starts_where_the_options_say(
    logs: Command, write: Write, monkeypatch: pytest.MonkeyPatch, arguments: str, expected: list[int]
) -> None:
    """`--after` resumes after an id, even a future one; `-n` limits the number of old entries."""
    write(*numbered(*range(1, 6)))
    Script(monkeypatch, lambda: write(*numbered(6)), lambda: write(*numbered(7)))
    assert ids(logs("-f", "--json", *arguments.split())) == expected


def test_following_filters_new_entries(logs: Command, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each commit is read once."""
    write(*STORY)
    after_ids: list[int | None] = []
    stream = FullLog.stream

    def spy(log: FullLog, criteria: Filter) -> Iterator[Log]:
        after_ids.append(criteria.after_id)
        return stream(log, criteria)

    monkeypatch.setattr(FullLog, "stream", spy)
    Script(monkeypatch, lambda: write(*numbered(1, 2, 3)), lambda: write(*STORY))
    assert ids(logs("-f", "--json", "--errors", "-n", 1)) == [6, 13, 14, 15]
    assert after_ids == [6, 9]


def test_ctrl_c_ends_following_with_success(logs: Command, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the normal way to end it, so there is no message."""
    write(*numbered(1))
    Script(monkeypatch, interrupt)
    assert logs("-f", "--json")[1:] == ("", 0)


def test_ctrl_c_in_a_listing_is_a_failure(logs: Command, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listing is incomplete."""
    write(*numbered(1))
    monkeypatch.setattr(LogReader, "stream", lambda *_arguments: interrupt())
    assert logs().code == 1


def test_following_ends_when_its_reader_has_gone(home: Path, write: Write) -> None:
    """It does not wait for a new entry, so `nerve logs -f | head -1` returns at once."""
    write(*numbered(1))
    with start(home, "-f") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(10)) == (b"", 0)


def test_following_shows_each_entry_once_across_writers(home: Path, write: Write) -> None:
    """Ten writers commit one after another; SIGINT ends the command with success."""
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


def test_following_waits_for_the_first_log(
    home: Path, logs: Command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine may be started after the command; what comes then is shown."""
    steps = [lambda: None, lambda: write(*numbered(1)), lambda: None, lambda: write(*numbered(2))]
    Script(monkeypatch, *steps)
    result = logs("-f", "--json")
    assert (ids(result._replace(err="")), result.code) == ([1, 2], 0)
    assert result.err == "nerve: no log yet: waiting for the first start of the engine\n"


def test_ctrl_c_ends_the_wait_for_the_first_log(logs: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has failed."""
    Script(monkeypatch, interrupt)
    assert logs("-f").code == 0


def test_a_listing_does_not_wait_for_the_first_log(logs: Command) -> None:
    """It has an end."""
    assert logs().err.startswith("nerve: no log yet: ")


def test_a_file_that_does_not_become_a_log_ends_the_wait(
    home: Path, logs: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error that names the file."""
    monkeypatch.setattr("nerve.cli.followed_file.CREATION_SECONDS", 0.0)
    Script(monkeypatch, lambda: (home / "data" / "logs.db").write_text("no log" * 1000), lambda: None)
    result = logs("-f")
    assert "logs.db is not a SQLite database" in result.err
    assert result.code == 1


def test_following_ends_when_the_log_is_removed(
    home: Path, logs: Command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing new would be found in the file that is still open."""
    write(*numbered(1))
    Script(monkeypatch, *[(home / "data" / "logs.db").unlink, lambda: None])
    result = logs("-f", "--json")
    assert ids(result._replace(err="", code=0)) == [1]
    path = home / "data" / "logs.db"
    assert result.err == f"nerve: {path} has been removed while it was followed: see `nerve status`\n"
    assert result.code == 1


def test_following_ends_when_the_log_is_replaced(
    home: Path, logs: Command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for a restored backup, and for the target of a link."""
    write(*numbered(1))
    path = home / "data" / "logs.db"
    path.rename(home / "real.db")
    path.symlink_to(home / "real.db")
    backup = home / "backup.db"
    backup.write_bytes((home / "real.db").read_bytes())
    Script(monkeypatch, lambda: backup.replace(home / "real.db"), lambda: None)
    result = logs("-f", "--json")
    assert result.err == f"nerve: {path} has been replaced while it was followed: run the command again\n"
