"""OpenRuns: the open runs as an immutable value."""

from __future__ import annotations

from nerve.store.table.open_runs import OpenRuns

START, END = "run_start", "run_complete"


def test_runs_are_open_from_start_to_completion() -> None:
    """They are in the order of their start."""
    runs = OpenRuns().after([(1, START, "a"), (2, START, "b"), (3, START, "c"), (4, END, "a")])
    assert list(runs) == ["b", "c"]
    assert list(runs.after([(5, END, "b"), (6, START, "a")])) == ["c", "a"]


def test_after_does_not_change_the_value() -> None:
    """A failed commit can keep the old one."""
    before = OpenRuns().after([(1, START, "a")])
    before.after([(2, END, "a"), (3, START, "b")])
    assert list(before) == ["a"]


def test_ids_below_the_oldest_open_run_are_settled() -> None:
    """Without open runs, all ids are settled."""
    runs = OpenRuns().after([(1, START, "a"), (4, START, "b")])
    assert runs.settled_below(9) == 1
    assert runs.after([(5, END, "a")]).settled_below(9) == 4
    assert OpenRuns().settled_below(9) == 9


def test_other_rows_change_nothing() -> None:
    """Other types, rows without a run, the completion of an unknown run and a second start are ignored."""
    runs = OpenRuns().after([(1, START, "a"), (2, "other", "x"), (3, START, None), (4, END, "y"), (5, START, "a")])
    assert list(runs) == ["a"]
    assert runs.settled_below(9) == 1
