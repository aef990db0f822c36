"""Queries from Python: what is exported, and what the filters and the iterator do."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.entries import NOON, completed, event, started

import nerve
from nerve import Log, StoreError, iter_logs, query_logs
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Return a log of two senses, one of which has failed."""
    path = tmp_path / "logs.db"
    with closing(LogWriter.open(path)) as writer:
        writer.append([started("cpu/1"), completed("cpu/1"), started("disk/1"), completed("disk/1", "error")], {})
        writer.append([event(ref_id="disk/1"), event(ref_id="disk"), event(ref_id="diskette/1", ts=NOON + 1)], {})
    return path


def ids(entries: list[Log]) -> list[int]:
    """Return the ids of entries."""
    return [entry.id for entry in entries]


def test_a_sense_has_its_runs_and_what_bears_its_name(db: Path) -> None:
    """Another sense whose name begins alike is not meant."""
    assert ids(query_logs(db, sense="disk")) == [3, 4, 5, 6]
    assert ids(query_logs(db, sense="disk", type="reading", limit=1)) == [6]


def test_errors_are_what_a_person_on_call_wants(db: Path) -> None:
    """These are those of `nerve logs --errors`."""
    assert ids(query_logs(db, errors=True)) == [4]
    assert ids(query_logs(db, errors=True, sense="cpu")) == []


def test_an_iterator_finds_what_a_query_finds(db: Path) -> None:
    """It can continue after an entry."""
    for filters in ({}, {"sense": "disk"}, {"errors": True}, {"since": datetime.fromtimestamp(NOON / 1000 + 1, UTC)}):
        for archived in (False, True):
            assert list(iter_logs(db, archived=archived, **filters)) == query_logs(db, archived=archived, **filters)
    assert ids(list(iter_logs(db, after_id=5))) == [6, 7]


def test_an_iterator_closes_the_log_when_it_ends(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds for one that is abandoned, too."""
    closed: list[LogReader] = []
    close = LogReader.close
    monkeypatch.setattr(LogReader, "close", lambda reader: closed.append(reader) or close(reader))
    list(iter_logs(db))
    entries = iter_logs(db)
    next(entries)
    del entries
    assert len(closed) == 2


def test_failures_can_be_caught_by_their_exported_name(tmp_path: Path) -> None:
    """A filter that is not valid fails before the log is opened; a path that is not a log gives a reader's advice."""
    with pytest.raises(TypeError):
        iter_logs(tmp_path / "none.db", since="yesterday")  # type: ignore[arg-type]
    for query in (query_logs, lambda path: list(iter_logs(path))):
        with pytest.raises(StoreError, match="there is no log at"):
            query(tmp_path / "none.db")
        (tmp_path / "nerve.yaml").write_text("senses: {}\n" * 200)
        with pytest.raises(StoreError, match="is not a SQLite database: check the path, or restore a backup"):
            query(tmp_path / "nerve.yaml")


def test_every_public_name_can_be_imported() -> None:
    """They are imported when they are first used."""
    assert all(getattr(nerve, name) for name in nerve.__all__)
