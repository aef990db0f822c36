"""`nerve logs -f` misses nothing and doubles nothing, whatever happens to the writer and the archive."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.engine import Engine
from support.waiting import wait_until

from nerve.clock import Stamp
from nerve.events import catalog
from nerve.store.table.writer import LogWriter

DAY_MS = 86_400_000


class Follower:
    """A `nerve logs -f --json` that writes to a file."""

    def __init__(self, engine: Engine, shown: Path) -> None:
        self._shown = shown
        with shown.open("wb") as output:
            command = engine.command("logs", "-f", "--json", "--after", "0")
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE)

    def ids(self) -> list[int]:
        """Give the ids of the whole lines that were shown so far."""
        lines = self._shown.read_bytes().splitlines(keepends=True)
        return [json.loads(line)["id"] for line in lines if line.endswith(b"\n")]

    def has_shown(self, last: int) -> None:
        """Wait until an entry has been shown."""
        wait_until(lambda: self.ids()[-1:] == [last], f"entry {last} is shown")

    def end(self) -> None:
        """Press Ctrl-C: it ends without a word, and with success."""
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGINT)
        assert self.process.stderr is not None
        with self.process.stderr:
            assert (self.process.stderr.read(), self.process.wait(10)) == (b"", 0)


@contextmanager
def following(engine: Engine, shown: Path) -> Iterator[Follower]:
    """Follow the log from its beginning."""
    follower = Follower(engine, shown)
    try:
        yield follower
        follower.end()
    finally:
        follower.process.kill()
        follower.process.wait()


def kill_writer(engine: Engine) -> None:
    """Kill the writer, and wait until the next one has committed what was under way."""
    pid = engine.until(lambda: engine.status()["writer"]["pid"], "there is a writer")
    rows = engine.how_many()
    next(process for process in engine.processes() if process.pid == pid).kill()
    engine.until(lambda: engine.how_many() > rows + 20, "the next writer commits")


def test_nothing_is_missed_while_the_writer_is_killed_in_a_loop(engine: Engine, tmp_path: Path) -> None:
    """Each entry of a busy engine is shown once, in the order of its id."""
    engine.config("workers: 2\nsenses: {tick: {}}\nreflexes: [{sense: tick, interval: 20ms}]\n")
    engine.sense("tick", "def compute(ctx):\n    for n in range(10):\n        ctx.log('reading', {'n': n})\n")
    engine.start()
    with following(engine, tmp_path / "shown") as follower:
        for _ in range(6):
            kill_writer(engine)
        assert engine.stop() == 0
        entries = [entry.id for entry in engine.rows()]
        follower.has_shown(entries[-1])
        assert follower.ids() == entries


def test_what_is_archived_before_it_could_be_shown_is_shown(engine: Engine, tmp_path: Path) -> None:
    """However far behind a reader is: here it is stopped, while entries of a day long ago come and go."""
    engine.config("senses: {}\nlogs: {retention: 1d}\n")
    append(engine, 1)
    with following(engine, tmp_path / "shown") as follower:
        follower.has_shown(1)
        for _ in range(3):
            follower.process.send_signal(signal.SIGSTOP)
            append(engine, 30, days_ago=9)
            append(engine, 2)
            assert engine.run("archive").returncode == 0
            append(engine, 1)
            follower.process.send_signal(signal.SIGCONT)
            follower.has_shown(engine.rows()[-1].id)
        last = engine.rows()[-1].id
        assert follower.ids() == list(range(1, last + 1))
        assert engine.how_many("type = 'reading'") == 1 + 3 * 3, "the archived ones have left the table"


def append(engine: Engine, rows: int, *, days_ago: int = 0) -> None:
    """Commit entries of a moment, while no engine runs."""
    ts = time.time_ns() // 1_000_000 - days_ago * DAY_MS
    engine.db.parent.mkdir(exist_ok=True)
    writer = LogWriter.open(engine.db)
    writer.append([catalog.from_sense(Stamp(ts, 0), "old/0", "reading", {"n": n}) for n in range(rows)], {})
    writer.close()
