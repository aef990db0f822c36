"""Wherever the archiver dies, every row ends up exactly once in the archive or in the table."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.entries import completed, event, sql, started

from nerve.clock import Stamp
from nerve.config.logs_section import LogsConfig
from nerve.events.model import Log, LogEvent
from nerve.maintenance import archiver as archiving
from nerve.maintenance.archiver import Archiver, DirectBackend
from nerve.store.archive import export as archive_module
from nerve.store.archive.directory import MANIFEST, ArchiveDirectory, read_manifest
from nerve.store.archive.export import Archive
from nerve.store.archive.manifest import FileName
from nerve.store.filters import Filter
from nerve.store.jsonl import from_line, to_line, to_lines
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter
from nerve.store.utc_days import DAY_MS
from nerve.workspace import Workspace

NOW = 10 * DAY_MS
LOGS = LogsConfig(retention=DAY_MS / 1000)
ZSTD = LogsConfig(retention=DAY_MS / 1000, compress="zstd")

When = Literal["before", "in the middle", "after"]

FILE_STEPS = ("open", "fsync", "rename", "unlink", "mkdir")
LOG_STEPS = ("record_file", "purge_chunk", "note_archive_run", "incremental_vacuum")


class Killed(BaseException):
    """The process is gone: nothing that only handles exceptions runs any more."""


def raise_killed() -> None:
    """Die as far as that can be done without a process of one's own."""
    raise Killed


def kill_self() -> None:
    """Die."""
    os.kill(os.getpid(), signal.SIGKILL)


class Bomb:
    """Counts the steps of an archiver, and kills it before, in the middle of, or after one of them."""

    def __init__(self, patch: pytest.MonkeyPatch, kill: Callable[[], None]) -> None:
        self.steps = 0
        self._kill = kill
        self._at: int | None = None
        self._when: When = "before"
        for name in FILE_STEPS:
            middle = self._tear if name == "fsync" else None
            patch.setattr(os, name, self._guarded(getattr(os, name), middle))
        for name in LOG_STEPS:
            patch.setattr(LogWriter, name, self._guarded(getattr(LogWriter, name), self._cut_into))
        # These are in the middle of something themselves: of a file, and of a transaction.
        patch.setattr(archive_module, "ROWS_AT_ONCE", 1)
        patch.setattr(archive_module, "to_lines", self._guarded(to_lines))
        patch.setattr(LogWriter, "_raise_watermark", self._guarded(LogWriter._raise_watermark))

    def set(self, at: int | None, when: When = "before") -> None:
        """Go off at the step with this number, from 1 on; never, for None."""
        self.steps, self._at, self._when = 0, at, when

    def _guarded(self, step: Callable[..., Any], middle: Callable[..., None] | None = None) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            if self.steps != self._at:
                return step(*args, **kwargs)
            if self._when == "in the middle" and middle:
                middle(*args)
            if self._when != "before":
                with suppress(OSError):
                    step(*args, **kwargs)
            return self._kill()

        return stepping

    def _tear(self, descriptor: int) -> None:
        """Leave a file without its last bytes, as a failure of the power may."""
        with suppress(OSError):  # a folder has none
            size = os.fstat(descriptor).st_size
            os.ftruncate(descriptor, max(0, size - 9))
            self._kill()

    def _cut_into(self, writer: LogWriter, *_args: object) -> None:
        """Have SQLite itself interrupted while it does the step."""

        def kill() -> int:
            self._kill()
            return 1

        writer._connection.set_progress_handler(kill, 150)


class Today:
    """A clock that stands still."""

    def now(self) -> float:
        """Monotonic seconds."""
        return 0.0

    def stamp(self) -> Stamp:
        """The moment."""
        return Stamp(NOW, 0)


class House:
    """A log and its archive, and what is known of both."""

    def __init__(self, home: Path) -> None:
        self.workspace = Workspace(home)
        self.db = self.workspace.logs_db
        self.folder = self.workspace.archive_dir
        self.written: list[Log] = []

    def write(self, events: list[LogEvent]) -> None:
        """Append events."""
        with closing(LogWriter.open(self.db)) as writer:
            writer.append(events, {})
        with LogReader(self.db) as reader:
            after = self.written[-1].id if self.written else 0
            entries = reader.query(Filter(after_id=after))
            self.written += [entry for entry in entries if entry.type != "archive"]

    def archive(self, logs: LogsConfig = LOGS) -> None:
        """Let an archiver do all its work."""
        with closing(LogWriter.open(self.db)) as writer:
            done = Archiver(self.workspace, DirectBackend(writer, lambda _progress: None), Today()).run(
                logs, vacuum=False
            )
        assert (done.error, done.notes) == (None, ())

    def archive_until_a_file_is_there(self) -> None:
        """Let an archiver die when the manifest has its first file, and the log doesn't know."""
        backend: Any = SimpleNamespace(progressed=lambda _progress: None)
        next(Archive(self.folder, self.db, backend, print).run_once(NOW, LOGS))

    def archived(self) -> Iterator[bytes]:
        """Give the lines of every file in the manifest, which must be as that says."""
        shelf = ArchiveDirectory(self.folder)
        for entry in read_manifest(self.folder):
            content = (self.folder / entry.file).read_bytes()
            name = FileName.parse(entry.file)
            assert name is not None
            lines = list(shelf.lines(name))
            ids = [from_line(line).id for line in lines]
            assert (entry.bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
            assert (entry.rows, entry.first_id, entry.last_id) == (len(lines), ids[0], ids[-1])
            yield from lines

    def assert_nothing_is_lost(self) -> None:
        """Assert that each entry is in the archive or in the table, or still in both; and in neither twice."""
        archived = Counter(self.archived())
        assert not archived or max(archived.values()) == 1
        table = {row[0] for row in sql(self.db, "SELECT id FROM logs")}
        assert all(entry.id in table or to_line(entry) in archived for entry in self.written)
        files = [entry.file for entry in read_manifest(self.folder)]
        assert self.recorded() in (files, files[:-1])

    def recorded(self) -> list[str]:
        """Name the files of which the log says that they have come into the archive, in that order."""
        name = "json_extract(payload, '$.file')"
        return [row[0] for row in sql(self.db, f"SELECT {name} FROM logs WHERE type = 'archive' ORDER BY id")]

    def assert_all_is_done(self) -> None:
        """Assert that what was due is in the archive alone, what wasn't in the table alone, and nothing lies about."""
        ended = {entry.ref_id for entry in self.written if entry.type == "run_complete"}
        still_open = {entry.ref_id for entry in self.written if entry.type == "run_start"} - ended
        due = [entry for entry in self.written if entry.ts < NOW - DAY_MS and entry.ref_id not in still_open]
        assert sorted(self.archived()) == sorted(map(to_line, due))
        table = [row[0] for row in sql(self.db, "SELECT id FROM logs WHERE type != 'archive' ORDER BY id")]
        assert table == [entry.id for entry in self.written if entry not in due]
        files = [entry.file for entry in read_manifest(self.folder)]
        assert self.recorded() == files
        assert {path.name for path in self.folder.iterdir()} == {MANIFEST, *files} or not due


def rows(moments: list[int], size: int = 0) -> list[LogEvent]:
    """Make an event for each moment (unix ms), with a payload of about `size` bytes."""
    return [event(f"t{n}", ref_id=None, payload=[n, ts, "x" * size], ts=ts) for n, ts in enumerate(moments)]


@pytest.fixture
def prepared(tmp_path: Path) -> House:
    """Give a house that has it all.

    There is a day that is archived already, with a run left open that is complete by now; late rows of that day;
    another day that is due, with a run that is open still; and today's rows.
    """
    house = House(tmp_path / "prepared")
    house.db.parent.mkdir(parents=True)
    house.write([*rows([1, DAY_MS - 1, NOW], 3000), started("cpu/1", ts=7), event(ref_id="cpu/1", ts=8)])
    house.archive()
    day = 3 * DAY_MS
    house.write([completed("cpu/1", ts=day), started("cpu/2", ts=day), *rows([5, day, 4, day + 7, NOW - 3], 3000)])
    house.write([event(ref_id="cpu/2", ts=day + 9), *rows([day], 3000)])
    return house


@pytest.fixture
def reset(prepared: House, tmp_path: Path) -> Callable[[], None]:
    """Give what makes the prepared house as it was."""
    home, pristine = prepared.db.parent, tmp_path / "pristine"
    shutil.copytree(home, pristine)

    def restore() -> None:
        shutil.rmtree(home)
        shutil.copytree(pristine, home)

    return restore


def is_killed(work: Callable[[], None], at: int, when: When) -> bool:
    """Let a child do the work with a bomb in it; tells whether that went off. It must have succeeded, else."""
    child = os.fork()
    if not child:
        try:
            with pytest.MonkeyPatch.context() as patch:
                Bomb(patch, kill_self).set(at, when)
                work()
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the archiver failed: {status}"
    return status != 0


@pytest.mark.parametrize("logs", [LOGS, ZSTD], ids=["plain", "zstd"])
@pytest.mark.parametrize("when", ["before", "in the middle", "after"])
def test_a_kill_at_any_step_loses_and_doubles_nothing(
    prepared: House, reset: Callable[[], None], when: When, logs: LogsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL at each step of a run: the next run completes what was begun, and a second one has nothing to do."""
    monkeypatch.setattr(archiving, "PURGE_ROWS", 2)
    monkeypatch.setattr(archiving, "VACUUM_PAGES", 1)
    for at in count(1):
        reset()
        if not is_killed(lambda: prepared.archive(logs), at, when):
            break
        prepared.assert_nothing_is_lost()
        prepared.archive(logs)
        prepared.assert_all_is_done()
    assert at > 40
    prepared.assert_all_is_done()
    assert sql(prepared.db, "PRAGMA integrity_check") == [("ok",)]
    before = read_manifest(prepared.folder)
    prepared.archive(logs)
    assert read_manifest(prepared.folder) == before


def test_a_manifest_torn_at_any_byte_is_made_good(prepared: House, reset: Callable[[], None]) -> None:
    """The power fails while its line is being written: the file is found, and the line written again."""
    manifest = prepared.folder / MANIFEST
    before = manifest.read_bytes()
    prepared.archive_until_a_file_is_there()
    line = manifest.read_bytes()[len(before) :]
    assert b"1970-01-01.1.jsonl" in line
    for cut in (0, 1, len(line) // 2, len(line) - 1):
        reset()
        prepared.archive_until_a_file_is_there()
        manifest.write_bytes(before + line[:cut])
        prepared.assert_nothing_is_lost()
        prepared.archive()
        prepared.assert_all_is_done()


def test_a_file_that_the_log_was_not_told_of_is_told_of_once(prepared: House) -> None:
    """The archiver dies between the manifest's line and the entry; the next run makes up for it, and none after it."""
    prepared.archive_until_a_file_is_there()
    files = [entry.file for entry in read_manifest(prepared.folder)]
    assert prepared.recorded() == files[:-1]
    prepared.archive()
    prepared.archive()
    prepared.assert_all_is_done()
    reason = "json_extract(payload, '$.reason')"
    told = sql(prepared.db, f"SELECT {reason} FROM logs WHERE type = 'archive' ORDER BY id")
    assert told == [("retention",), ("interrupted",), ("retention",)]


def test_the_watermark_never_moves_back(prepared: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever day a chunk is of, and also when late rows of an earlier day go after those of a later one."""
    monkeypatch.setattr(archiving, "PURGE_ROWS", 1)
    seen: list[tuple[int, int]] = []
    raised = LogWriter._raise_watermark

    def raise_and_note(writer: LogWriter, connection: sqlite3.Connection, ts: int, id: int) -> None:
        raised(writer, connection, ts, id)
        values = dict(connection.execute("SELECT key, value FROM meta WHERE key LIKE 'watermark_%'").fetchall())
        seen.append((int(values["watermark_ts"]), int(values["watermark_id"])))

    monkeypatch.setattr(LogWriter, "_raise_watermark", raise_and_note)
    prepared.archive()
    prepared.write(rows([2]))
    prepared.archive()
    assert len(seen) > 5
    assert seen == sorted(seen)
    assert [mark[1] for mark in seen] == sorted(mark[1] for mark in seen)
    prepared.assert_all_is_done()


MOMENTS = st.one_of(
    st.integers(0, 4 * DAY_MS), st.sampled_from([0, DAY_MS - 1, DAY_MS, NOW - 2 * DAY_MS, NOW - 1, NOW])
)
ACTS = st.lists(st.tuples(MOMENTS, st.sampled_from(["row", "row", "a", "a", "b", "end a", "end b"])), max_size=12)
KILLS = st.one_of(st.none(), st.tuples(st.integers(1, 80), st.sampled_from(["before", "after"])))


class Runs:
    """Makes events of acts: `a` starts a run, and then adds to it until it has been ended; none is before its start."""

    def __init__(self) -> None:
        self._ids = count(1)
        self._open: dict[str, tuple[str, int]] = {}

    def event(self, moment: int, act: str) -> LogEvent:
        """Make the event of an act; one that has no run to be of is that of none."""
        name = act.removeprefix("end ")
        if name in self._open:
            run, start = self._open[name]
            if act == name:
                return event(ref_id=run, ts=max(moment, start))
            del self._open[name]
            return completed(run, ts=max(moment, start))
        if act in ("a", "b"):
            self._open[name] = f"{name}/{next(self._ids)}", moment
            return started(self._open[name][0], ts=moment)
        return event(ref_id=None, ts=moment)


@settings(max_examples=25, deadline=None)
@given(history=st.lists(st.tuples(ACTS, KILLS, st.sampled_from([LOGS, ZSTD])), max_size=4))
def test_any_history_of_rows_and_kills_ends_well(
    history: list[tuple[list[tuple[int, str]], tuple[int, When] | None, LogsConfig]],
) -> None:
    """Rows of any days and runs, in any order, late ones among them, with archivers killed anywhere in between."""
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        bomb, runs = Bomb(patch, raise_killed), Runs()
        patch.setattr(archiving, "PURGE_ROWS", 2)
        house = House(Path(home))
        house.db.parent.mkdir()
        house.write(rows([NOW]))
        for acts, kill, logs in history:
            bomb.set(None)
            house.write([runs.event(*act) for act in acts])
            bomb.set(*(kill or (None,)))
            try:
                house.archive(logs)
            except Killed:
                bomb.set(None)
                house.assert_nothing_is_lost()
        bomb.set(None)
        house.archive()
        house.assert_all_is_done()
