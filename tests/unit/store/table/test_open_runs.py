"""Which runs are open, as a value."""

from __future__ import annotations

from nerve.store.table.open_runs import OpenRuns

START, END = "run_start", "run_complete"


def test_runs_are_open_from_start_to_completion_in_order_of_start() -> None:
    """A run opens with its start and closes with its completion; others are not disturbed."""
    runs = OpenRuns().after([(1, START, "a"), (2, START, "b"), (3, START, "c"), (4, END, "a")])
    assert list(runs) == ["b", "c"]
    assert list(runs.after([(5, END, "b"), (6, START, "a")])) == ["c", "a"]


def test_a_value_does_not_change() -> None:
    """What comes after is another value: a commit that fails can keep the old one."""
    before = OpenRuns().after([(1, START, "a")])
    before.after([(2, END, "a"), (3, START, "b")])
    assert list(before) == ["a"]


def test_everything_below_the_oldest_open_run_is_settled() -> None:
    """With nothing open, everything written is settled."""
    runs = OpenRuns().after([(1, START, "a"), (4, START, "b")])
    assert runs.settled_below(9) == 1
    assert runs.after([(5, END, "a")]).settled_below(9) == 4
    assert OpenRuns().settled_below(9) == 9


def test_what_does_not_open_a_run_is_passed_over() -> None:
    """Other types, rows without a run, an unknown run's completion and a second start change nothing."""
    runs = OpenRuns().after([(1, START, "a"), (2, "other", "x"), (3, START, None), (4, END, "y"), (5, START, "a")])
    assert list(runs) == ["a"]
    assert runs.settled_below(9) == 1
