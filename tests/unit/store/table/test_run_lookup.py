"""Finding a run by a part of its id, in the table and in the archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.entries import event
from support.runs import begun, run_id

from nerve.store.provenance.run_name import RunName
from nerve.store.provenance.trace import RunSource
from nerve.store.query import open_log
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter

A, B, C = "cpu/01a20a77fb40781c9d7a588d40aaa111", "cpu/01a20a78fb40781c9d7a588d40bbb111", "cpu-load/01a20b00" + "c" * 24
OTHERS = ["2026-11-23", "01a2" + "f" * 28, "cpu", "kernel", None]


@pytest.fixture(params=["table", "full log"])
def runs(request: pytest.FixtureRequest, db: Path, writer: LogWriter) -> Iterator[RunSource]:
    """The runs of a log with three of them, and with ref_ids that are not run ids."""
    writer.append([begun(run) for run in (A, B, C)] + [event(ref_id=ref) for ref in (A, B, C, *OTHERS)], {})
    with open_log(db, archived=request.param == "full log") as log:
        yield log.runs()


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
def test_run_is_found_by_any_part_of_its_id(runs: RunSource, typed: str, found: set[str]) -> None:
    """That is all of the id, its beginning, its first digits, or the last ones after the ellipsis of a terminal."""
    assert set(runs.find(typed, 10)) == found


@pytest.mark.parametrize("typed", ["", " ", "…", "/", "a b", "x/y/z", "cpu/%"])
def test_invalid_part_of_an_id_raises_value_error(runs: RunSource, typed: str) -> None:
    """The message is one line that says what to write."""
    with pytest.raises(
        ValueError, match="is not a valid part of a run id: write it as `nerve logs` shows it"
    ) as caught:
        runs.find(typed, 10)
    assert "\n" not in str(caught.value)


def test_at_most_the_newest_runs_are_returned(db: Path, writer: LogWriter) -> None:
    """Each costs one step through the index."""
    many = [run_id("cpu", n) for n in range(300)]
    writer.append([begun(run) for run in many], {})
    with LogReader(db) as reader:
        assert reader.find_runs("cpu", 3) == many[:-4:-1]
        assert reader.find_runs(many[7][:20], 3) == [many[7]]


def test_run_name_is_parsed_and_written() -> None:
    """An ellipsis or three dots mean the last digits."""
    assert RunName.parse("CPU/...AB1") == RunName("cpu", "ab1", is_ending=True)
    assert str(RunName.parse("cpu/...ab1")) == "cpu/…ab1"
    assert str(RunName.parse("01a2")) == "01a2"
