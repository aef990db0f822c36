"""Crashes of the archiver: every row ends up exactly once, in the archive or in the table."""

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
from support.clock import FakeClock
from support.entries import completed, event, sql, started

from nerve.config.logs_section import LogsConfig
from nerve.events.model import Log, LogEvent
from nerve.maintenance import archiver as archiver_module
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
    """The process is killed: a BaseException, so that no handler for exceptions runs."""


def raise_killed() -> None:
    """Simulate a kill in this process."""
    raise Killed


def kill_self() -> None:
    """Kill this process."""
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
        """Kill at the step with this number, from 1 on; never, for None."""
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
        """Cut the last bytes off a file, as a power failure may."""
        with suppress(OSError):  # a folder has none
            size = os.fstat(descriptor).st_size
            os.ftruncate(descriptor, max(0, size - 9))
            self._kill()

    def _cut_into(self, writer: LogWriter, *_args: object) -> None:
        """Kill while SQLite does the step."""

        def kill() -> int:
            self._kill()
            return 1

        writer._connection.set_progress_handler(kill, 150)


class Home:
    """A log and its archive, with all entries that were written."""

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
        """Do one run of the archiver."""
        with closing(LogWriter.open(self.db)) as writer:
            done = Archiver(self.workspace, DirectBackend(writer, lambda _progress: None), FakeClock(wall_ms=NOW)).run(
                logs, vacuum=False
            )
        assert (done.error, done.notes) == (None, ())

    def archive_until_first_file(self) -> None:
        """Stop the archiver when the manifest has its first file, and the log has no entry for it."""
        backend: Any = SimpleNamespace(progressed=lambda _progress: None)
        next(Archive(self.folder, self.db, backend, print).run_once(NOW, LOGS))

    def archived(self) -> Iterator[bytes]:
        """Yield the lines of every file in the manifest, and check that they match it."""
        directory = ArchiveDirectory(self.folder)
        for entry in read_manifest(self.folder):
            content = (self.folder / entry.file).read_bytes()
            name = FileName.parse(entry.file)
            assert name is not None
            lines = list(directory.lines(name))
            ids = [from_line(line).id for line in lines]
            assert (entry.bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
            assert (entry.rows, entry.first_id, entry.last_id) == (len(lines), ids[0], ids[-1])
            yield from lines

    def assert_nothing_is_lost(self) -> None:
        """Assert that each entry is in the archive or in the table, or in both, and in neither twice."""
        archived = Counter(self.archived())
        assert not archived or max(archived.values()) == 1
        table = {row[0] for row in sql(self.db, "SELECT id FROM logs")}
        assert all(entry.id in table or to_line(entry) in archived for entry in self.written)
        files = [entry.file for entry in read_manifest(self.folder)]
        assert self.recorded() in (files, files[:-1])

    def recorded(self) -> list[str]:
        """Return the files that the log has an entry for, in order."""
        name = "json_extract(payload, '$.file')"
        return [row[0] for row in sql(self.db, f"SELECT {name} FROM logs WHERE type = 'archive' ORDER BY id")]

    def assert_all_is_done(self) -> None:
        """Assert that due entries are only in the archive, all others only in the table, and no other files exist."""
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
    """Return an event for each time (unix ms), with a payload of about `size` bytes."""
    return [event(f"t{n}", ref_id=None, payload=[n, ts, "x" * size], ts=ts) for n, ts in enumerate(moments)]


@pytest.fixture
def prepared(tmp_path: Path) -> Home:
    """A log with every case.

    A day that is archived, except for a run that was open and is complete now; late rows of that day; another day that
    is due, with a run that is still open; and rows of today.
    """
    log = Home(tmp_path / "prepared")
    log.db.parent.mkdir(parents=True)
    log.write([*rows([1, DAY_MS - 1, NOW], 3000), started("cpu/1", ts=7), event(ref_id="cpu/1", ts=8)])
    log.archive()
    day = 3 * DAY_MS
    log.write([completed("cpu/1", ts=day), started("cpu/2", ts=day), *rows([5, day, 4, day + 7, NOW - 3], 3000)])
    log.write([event(ref_id="cpu/2", ts=day + 9), *rows([day], 3000)])
    return log


@pytest.fixture
def reset(prepared: Home, tmp_path: Path) -> Callable[[], None]:
    """A function that restores the prepared log."""
    home, pristine = prepared.db.parent, tmp_path / "pristine"
    shutil.copytree(home, pristine)

    def restore() -> None:
        shutil.rmtree(home)
        shutil.copytree(pristine, home)

    return restore


def is_killed(work: Callable[[], None], at: int, when: When) -> bool:
    """Do the work in a child with a bomb; return True if it was killed. Otherwise the work must have succeeded."""
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
def test_kill_at_any_step_loses_and_duplicates_nothing(
    prepared: Home, reset: Callable[[], None], when: When, logs: LogsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After SIGKILL at each step of a run, the next run completes the work, and one more has nothing to do."""
    monkeypatch.setattr(archive_module, "PURGE_ROWS", 2)
    monkeypatch.setattr(archiver_module, "VACUUM_PAGES", 1)
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


def test_manifest_truncated_at_any_byte_is_repaired(prepared: Home, reset: Callable[[], None]) -> None:
    """If the power fails while a line is written, the file is found, and the line is written again."""
    manifest = prepared.folder / MANIFEST
    before = manifest.read_bytes()
    prepared.archive_until_first_file()
    line = manifest.read_bytes()[len(before) :]
    assert b"1970-01-01.1.jsonl" in line
    for cut in (0, 1, len(line) // 2, len(line) - 1):
        reset()
        prepared.archive_until_first_file()
        manifest.write_bytes(before + line[:cut])
        prepared.assert_nothing_is_lost()
        prepared.archive()
        prepared.assert_all_is_done()


def test_unrecorded_file_is_recorded_once(prepared: Home) -> None:
    """An archiver died between the manifest and the entry; the next run adds the entry, and later ones do not."""
    prepared.archive_until_first_file()
    files = [entry.file for entry in read_manifest(prepared.folder)]
    assert prepared.recorded() == files[:-1]
    prepared.archive()
    prepared.archive()
    prepared.assert_all_is_done()
    reason = "json_extract(payload, '$.reason')"
    reasons = sql(prepared.db, f"SELECT {reason} FROM logs WHERE type = 'archive' ORDER BY id")
    assert reasons == [("retention",), ("interrupted",), ("retention",)]


def test_watermark_never_decreases(prepared: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds for chunks of any day, also when late rows of an earlier day are deleted last."""
    monkeypatch.setattr(archive_module, "PURGE_ROWS", 1)
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
    """Turns acts into events: `a` starts a run, and then adds entries until `end a`; none is before its start."""

    def __init__(self) -> None:
        self._ids = count(1)
        self._open: dict[str, tuple[str, int]] = {}

    def event(self, moment: int, act: str) -> LogEvent:
        """Return the event of an act; an end without a run is an entry without a run."""
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
def test_any_history_of_rows_and_kills_is_archived_correctly(
    history: list[tuple[list[tuple[int, str]], tuple[int, When] | None, LogsConfig]],
) -> None:
    """Rows come in any order of days and runs, with late ones, and archivers are killed anywhere between."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        bomb, runs = Bomb(patch, raise_killed), Runs()
        patch.setattr(archive_module, "PURGE_ROWS", 2)
        log = Home(Path(folder))
        log.db.parent.mkdir()
        log.write(rows([NOW]))
        for acts, kill, logs in history:
            bomb.set(None)
            log.write([runs.event(*act) for act in acts])
            bomb.set(*(kill or (None,)))
            try:
                log.archive(logs)
            except Killed:
                bomb.set(None)
                log.assert_nothing_is_lost()
        bomb.set(None)
        log.archive()
        log.assert_all_is_done()
