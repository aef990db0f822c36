"""Finding a run by a part of its id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.entries import event
from support.runs import begun, run_id

from nerve.store.full_log import FullLog
from nerve.store.provenance.archived_runs import ArchivedRuns
from nerve.store.provenance.logged_runs import LoggedRuns
from nerve.store.provenance.trace import RunSource
from nerve.store.table.reader import LogReader
from nerve.store.table.run_lookup import RunName
from nerve.store.table.writer import LogWriter

A, B, C = "cpu/01a20a77fb40781c9d7a588d40aaa111", "cpu/01a20a78fb40781c9d7a588d40bbb111", "cpu-load/01a20b00" + "c" * 24
OTHERS = ["2026-11-23", "01a2" + "f" * 28, "cpu", "kernel", None]


@pytest.fixture(params=["table", "archive too"])
def runs(request: pytest.FixtureRequest, db: Path, writer: LogWriter) -> Iterator[RunSource]:
    """Give the runs of a log that has three of them, and entries that refer to what is no run."""
    writer.append([begun(run) for run in (A, B, C)] + [event(ref_id=ref) for ref in (A, B, C, *OTHERS)], {})
    if request.param == "table":
        with LogReader(db) as reader:
            yield LoggedRuns(reader)
    else:
        with FullLog(db) as log:
            yield ArchivedRuns(log)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (A, {A}),
        (A.upper(), {A}),
        (f" {A} ", {A}),
        (A[:13], {A}),
        ("cpu/01a20a7", {A, B}),
        ("cpu/", {A, B}),
        ("cpu", {A, B, C}),
        ("cpu-", {C}),
        ("01a20a78", {B}),
        ("01a2", {A, B, C}),
        ("cpu/…aaa111", {A}),
        ("cpu/...aaa111", {A}),
        ("cpu/…111", {A, B}),
        ("…bbb111", {B}),
        ("bbb111", {B}),
        ("cpu-load/…bbb111", set()),
        ("cpu/…", {A, B}),
        ("disk/01a2", set()),
        ("2026-11-23", set()),
        ("kernel", set()),
    ],
)
def test_any_part_that_people_have_finds_its_runs(runs: RunSource, typed: str, found: set[str]) -> None:
    """All of an id, its beginning, its digits, or the last ones after the ellipsis of a terminal."""
    assert set(runs.find(typed, 10)) == found


@pytest.mark.parametrize("typed", ["", " ", "…", "/", "a b", "x/y/z", "cpu/%"])
def test_what_is_no_part_of_an_id_is_refused(runs: RunSource, typed: str) -> None:
    """In one line, with what to write instead."""
    with pytest.raises(ValueError, match="is no part of a run id: write it as `nerve logs` shows it") as told:
        runs.find(typed, 10)
    assert "\n" not in str(told.value)


def test_only_as_many_as_asked_for_are_given_the_newest_first(db: Path, writer: LogWriter) -> None:
    """However many there are, each costs one step through the index."""
    many = [run_id("cpu", n) for n in range(300)]
    writer.append([begun(run) for run in many], {})
    with LogReader(db) as reader:
        assert reader.find_runs("cpu", 3) == many[:-4:-1]
        assert reader.find_runs(many[7][:20], 3) == [many[7]]


def test_a_name_is_read_and_written() -> None:
    """The ellipsis of a terminal, and three dots, mean an ending."""
    assert RunName.parse("CPU/...AB1") == RunName("cpu", "ab1", is_ending=True)
    assert str(RunName.parse("cpu/...ab1")) == "cpu/…ab1"
    assert str(RunName.parse("01a2")) == "01a2"
