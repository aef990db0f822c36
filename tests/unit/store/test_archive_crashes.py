"""Wherever the archiver dies, every row ends up exactly once in the archive or in the table."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.entries import event, sql

from nerve.config import LogsConfig
from nerve.events import Log
from nerve.messages import ArchiveProgress
from nerve.store import archive as archive_module
from nerve.store.archive import Archive, PurgeOrder
from nerve.store.days import DAY_MS
from nerve.store.filters import Filter
from nerve.store.lines import from_line, to_line
from nerve.store.querying import LogReader
from nerve.store.shelf import MANIFEST, read_manifest
from nerve.store.writing import LogWriter

NOW = 10 * DAY_MS
LOGS = LogsConfig(retention=DAY_MS / 1000)
STEPS = ("open", "fsync", "rename", "unlink", "mkdir")


class Killed(BaseException):
    """The process is gone: nothing that only handles exceptions runs any more."""


class Bomb:
    """Counts the steps of an archiver, and kills it before or after one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps = 0
        self._at: int | None = None
        self._after = False
        for name in STEPS:
            monkeypatch.setattr(os, name, self.guarded(getattr(os, name)))
        monkeypatch.setattr(archive_module, "to_line", self.guarded(to_line))

    def set(self, at: int | None, *, after: bool = False) -> None:
        """Go off at the step with this number, from 1 on; never, for None."""
        self.steps, self._at, self._after = 0, at, after

    def guarded(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Make a function one of the steps."""

        def stepping(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            if self.steps != self._at:
                return step(*args, **kwargs)
            if self._after:
                with suppress(OSError):
                    step(*args, **kwargs)
            raise Killed

        return stepping


@pytest.fixture
def bomb(monkeypatch: pytest.MonkeyPatch) -> Bomb:
    """Give a bomb that is set to nothing yet."""
    return Bomb(monkeypatch)


class House:
    """A log and its archive, and what is known of both."""

    def __init__(self, home: Path, bomb: Bomb) -> None:
        self.db = home / "logs.db"
        self.folder = home / "archive"
        self.written: list[Log] = []
        self._purge_chunk = bomb.guarded(LogWriter.purge_chunk)

    def write(self, moments: list[int]) -> None:
        """Append an entry for each moment (unix ms)."""
        writer = LogWriter.open(self.db)
        writer.append([event(f"t{n}", payload=[n, ts], ts=ts) for n, ts in enumerate(moments)], {})
        writer.close()
        with LogReader(self.db) as reader:
            after = self.written[-1].id if self.written else 0
            self.written += reader.query(Filter(after_id=after))

    def archive(self) -> None:
        """Let an archiver do all its work."""
        for _ in Archive(self.folder, self.db, self).run_once(NOW, LOGS):
            pass

    def purge(self, order: PurgeOrder) -> Iterator[int]:
        """Delete in chunks, each a step; a writer that is killed has its lock released."""
        writer = LogWriter.open(self.db)
        try:
            while deleted := self._purge_chunk(writer, order.day, order.last_id, 2, order.open_runs):
                yield deleted
        finally:
            writer.close()

    def progressed(self, progress: ArchiveProgress) -> None:
        """Hear of it."""

    def refused(self, reason: str) -> None:
        """Nothing here is ever to be refused."""
        raise AssertionError(reason)

    def archived(self) -> Iterator[bytes]:
        """Give the lines of every file in the manifest, which must be as that says."""
        for entry in read_manifest(self.folder):
            content = (self.folder / entry.file).read_bytes()
            lines = content.splitlines(keepends=True)
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

    def assert_all_is_done(self) -> None:
        """Assert that what was due is in the archive alone, what wasn't in the table alone, and nothing lies about."""
        due = [entry for entry in self.written if entry.ts < NOW - DAY_MS]
        assert sorted(self.archived()) == sorted(map(to_line, due))
        table = [row[0] for row in sql(self.db, "SELECT id FROM logs ORDER BY id")]
        assert table == [entry.id for entry in self.written if entry not in due]
        names = {path.name for path in self.folder.iterdir()}
        assert names == {MANIFEST, *(entry.file for entry in read_manifest(self.folder))} or not due


@pytest.fixture
def prepared(tmp_path: Path, bomb: Bomb) -> House:
    """Give a house with a day archived, late rows of that day, another day that is due, and today's rows."""
    house = House(tmp_path / "prepared", bomb)
    house.db.parent.mkdir()
    house.write([1, DAY_MS - 1, NOW])
    house.archive()
    house.write([5, 3 * DAY_MS, 4, 3 * DAY_MS + 7, 3 * DAY_MS, NOW - 3])
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


def test_a_kill_at_any_step_loses_and_doubles_nothing(prepared: House, bomb: Bomb, reset: Callable[[], None]) -> None:
    """Each step of a run, before it and after it: the next run completes what was begun."""
    bomb.set(None)
    prepared.archive()
    total = bomb.steps
    assert total > 30
    prepared.assert_all_is_done()
    for at in range(1, total + 1):
        for after in (False, True):
            reset()
            bomb.set(at, after=after)
            with pytest.raises(Killed):
                prepared.archive()
            bomb.set(None)
            prepared.assert_nothing_is_lost()
            prepared.archive()
            prepared.assert_all_is_done()


def test_a_manifest_torn_at_any_byte_is_made_good(prepared: House, reset: Callable[[], None]) -> None:
    """The power fails while its line is being written: the file is found, and the line written again."""
    manifest = prepared.folder / MANIFEST
    before = manifest.read_bytes()
    next(Archive(prepared.folder, prepared.db, prepared).run_once(NOW, LOGS))
    line = manifest.read_bytes()[len(before) :]
    assert b"1970-01-01.1.jsonl" in line
    for cut in (0, 1, len(line) // 2, len(line) - 1):
        reset()
        next(Archive(prepared.folder, prepared.db, prepared).run_once(NOW, LOGS))
        manifest.write_bytes(before + line[:cut])
        prepared.assert_nothing_is_lost()
        prepared.archive()
        prepared.assert_all_is_done()


MOMENTS = st.lists(
    st.one_of(st.integers(0, 4 * DAY_MS), st.sampled_from([0, DAY_MS - 1, DAY_MS, NOW - 2 * DAY_MS, NOW - 1, NOW])),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(history=st.lists(st.tuples(MOMENTS, st.one_of(st.none(), st.integers(1, 60)), st.booleans()), max_size=4))
def test_any_history_of_rows_and_kills_ends_well(history: list[tuple[list[int], int | None, bool]]) -> None:
    """Rows of any days, in any order, late ones among them, with archivers killed at any step in between."""
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        bomb = Bomb(patch)
        house = House(Path(home), bomb)
        house.write([NOW])
        for moments, at, after in history:
            bomb.set(None)
            house.write(moments)
            bomb.set(at, after=after)
            try:
                house.archive()
            except Killed:
                bomb.set(None)
                house.assert_nothing_is_lost()
        bomb.set(None)
        house.archive()
        house.assert_all_is_done()
