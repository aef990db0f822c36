"""Rows with their goals, and the report of them."""

from __future__ import annotations

import msgspec
import pytest
from bench.machine import Machine
from bench.report import Report, cells, curve_cells, from_json, number, to_json, to_markdown, to_text
from bench.results import Curve, Found, Goal, Row
from bench.samples import Samples

MACHINE = Machine("some CPU", 2, 8.0, "Linux 6", "ext4", {"Python": "3.11"})
FAST = Row(
    what="ingest",
    nerve=Samples("nerve", "events/s", (80_000.0, 90_000.0, 70_000.0)),
    other=Samples("plain | SQL", "rows/s", (100_000.0,)),
    goal=Goal("ratio at least", 0.6),
    note="both synchronous=FULL",
)
SLOW = Row(what="latency", nerve=Samples("nerve", "ms", (3.5,)), goal=Goal("at most", 3))
CURVE = Curve(what="archive", size_of="rows", unit="us a row", sizes=(10, 100), costs=(2.0, 20.0))


def report_of(*rows: Row) -> Report:
    """Return a report of one measurement."""
    return Report(
        date="2026-11-24",
        machine=MACHINE,
        quick=False,
        seed=7,
        measurements={"some": Found(rows, [CURVE])},
        failures={"other": "OSError: no disk"},
    )


@pytest.mark.parametrize(
    ("goal", "nerve", "other", "met"),
    [
        (Goal("ratio at least", 0.6), 60, 100, True),
        (Goal("ratio at least", 0.6), 59, 100, False),
        (Goal("ratio at most", 1.3), 1.3, 1, True),
        (Goal("ratio at most", 1.3), 1.4, 1, False),
        (Goal("more by at most", 150), 170, 20, True),
        (Goal("more by at most", 150), 171, 20, False),
        (Goal("at most", 3), 3, None, True),
        (Goal("at most", 3), 3.1, None, False),
    ],
)
def test_a_goal_is_met_up_to_its_bound(goal: Goal, nerve: float, other: float | None, met: bool) -> None:
    """Each kind of goal has its own comparison."""
    assert goal.met(nerve, other) is met


def test_a_ratio_without_another_figure_is_an_error() -> None:
    """The goal must not be reached by accident."""
    with pytest.raises(ValueError, match="another figure"):
        Goal("ratio at least", 1).met(1, None)
    with pytest.raises(ValueError, match="compared with 0"):
        Goal("ratio at most", 1).met(1, 0)


def test_a_row_has_medians_their_ratio_and_the_verdict() -> None:
    """The medians of the samples are compared."""
    assert cells(FAST) == (
        "ingest",
        "80,000 events/s",
        "plain | SQL: 100,000 rows/s",
        "0.8",
        ">= 0.6 times",
        "yes",
    )
    assert cells(SLOW) == ("latency", "3.5 ms", "", "", "<= 3 ms", "NO")


def test_a_curve_has_its_growth_from_size_to_size() -> None:
    """A superlinear part has a positive exponent."""
    assert curve_cells(CURVE) == ("archive", "10, 100 rows", "2, 20 us a row", "+1.00")


@pytest.mark.parametrize(
    ("value", "text"), [(0.012345, "0.0123"), (1.0, "1"), (99.94, "99.9"), (123.4, "123"), (12345.6, "12,346")]
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    """More digits would pretend to a precision that was not measured."""
    assert number(value) == text


def test_no_cell_breaks_the_markdown_table() -> None:
    """A vertical bar in a cell is escaped."""
    table = [line for line in to_markdown(report_of(FAST, SLOW)).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table if "power" not in line and "archive" not in line} == {7, 5}
    assert "| plain / SQL: 100,000 rows/s |" in table[2]


def test_the_text_has_the_notes_and_the_failures() -> None:
    """A measurement that failed is listed with the reason."""
    text = to_text(report_of(FAST, SLOW))
    assert text.startswith("2026-11-24, full run, seed 7; 2 CPUs (some CPU), 8 GB, Linux 6, ext4; Python 3.11\n")
    assert "  ingest: both synchronous=FULL\n" in text
    assert text.endswith("other FAILED: OSError: no disk\n")


def test_the_json_has_every_sample_and_can_be_read_again() -> None:
    """It has medians, ratios and verdicts, too."""
    report = report_of(FAST, SLOW)
    data = to_json(report)
    row = msgspec.json.decode(data)["measurements"]["some"]["rows"][0]
    assert row["nerve"]["values"] == [80_000.0, 90_000.0, 70_000.0]
    assert (row["nerve_median"], row["other_median"], row["ratio"], row["met"]) == (80_000, 100_000, 0.8, True)
    assert from_json(data).rows == report.rows
