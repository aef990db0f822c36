"""The report: one table for people (text, or Markdown for the README), and all samples as JSON; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from bench.machine import Machine
from bench.results import Curve, Found, Goal, Row

HEADER = ("what", "nerve", "measured against", "ratio", "goal", "met")
CURVES_HEADER = ("cost as the work grows", "sizes", "cost", "grows with size to the power of")
_MANY = 10_000


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A benchmark run: the machine, the date (ISO 8601, UTC), the options, and each measurement's result or failure."""

    date: str
    machine: Machine
    quick: bool
    seed: int
    measurements: dict[str, Found]
    failures: dict[str, str]

    @property
    def rows(self) -> list[Row]:
        """The rows of all measurements, in their order."""
        return [row for found in self.measurements.values() for row in found.rows]

    @property
    def curves(self) -> list[Curve]:
        """The curves of all measurements, in their order."""
        return [curve for found in self.measurements.values() for curve in found.curves]


def to_json(report: Report) -> bytes:
    """Return a report as indented JSON, with medians, ratios and verdicts besides the samples."""
    data = msgspec.to_builtins(report)
    for name, found in report.measurements.items():
        data["measurements"][name]["rows"] = [_row_data(row) for row in found.rows]
    return msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n"


def from_json(data: bytes) -> Report:
    """Return the report that `to_json` made this JSON of. Raises msgspec.DecodeError for anything else."""
    return msgspec.json.decode(data, type=Report)


def to_text(report: Report) -> str:
    """Return a report as aligned plain text."""
    parts = [_heading(report), "", *_aligned([HEADER, *map(cells, report.rows)])]
    if report.curves:
        parts += ["", *_aligned([CURVES_HEADER, *map(curve_cells, report.curves)])]
    notes = [f"  {row.what}: {row.note}" for row in report.rows if row.note]
    parts += ["", "how:", *notes] if notes else []
    parts += [f"{name} FAILED: {reason}" for name, reason in report.failures.items()]
    return "\n".join(parts) + "\n"


def to_markdown(report: Report) -> str:
    """Return a report as Markdown."""
    parts = [_heading(report), "", *_markdown([HEADER, *map(cells, report.rows)])]
    if report.curves:
        parts += ["", *_markdown([CURVES_HEADER, *map(curve_cells, report.curves)])]
    parts += ["", *(f"{name} failed: {reason}" for name, reason in report.failures.items())]
    return "\n".join(parts).rstrip() + "\n"


def cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row."""
    other = "" if row.other is None else f"{row.other.of}: {figure(row.other.median, row.other.unit)}"
    ratio = "" if row.ratio is None else number(row.ratio)
    met = {True: "yes", False: "NO", None: ""}[row.met]
    return row.what, figure(row.nerve.median, row.nerve.unit), other, ratio, goal_text(row.goal, row.nerve.unit), met


def curve_cells(curve: Curve) -> tuple[str, ...]:
    """Return the cells of a curve."""
    sizes = ", ".join(f"{size:,}" for size in curve.sizes)
    costs = ", ".join(number(cost) for cost in curve.costs)
    exponents = ", ".join(f"{exponent:+.2f}" for exponent in curve.exponents)
    return curve.what, f"{sizes} {curve.size_of}", f"{costs} {curve.unit}", exponents


def goal_text(goal: Goal | None, unit: str) -> str:
    """Return the text of a goal."""
    if goal is None:
        return ""
    match goal.kind:
        case "ratio at least":
            return f">= {goal.bound:g} times"
        case "ratio at most":
            return f"<= {goal.bound:g} times"
        case "more by at most":
            return f"<= {figure(goal.bound, unit)} more"
        case "at most":
            return f"<= {figure(goal.bound, unit)}"


def figure(value: float, unit: str) -> str:
    """Return a figure with its unit."""
    return f"{number(value)} {unit}"


def number(value: float) -> str:
    """Return a number with three significant digits, and with all digits before the point."""
    if abs(value) >= _MANY:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _heading(report: Report) -> str:
    machine, kind = report.machine, "quick run" if report.quick else "full run"
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    place = f"{machine.cpus} CPUs ({machine.processor}), {machine.memory_gb:g} GB, {machine.system}"
    return f"{report.date}, {kind}, seed {report.seed}; {place}, {machine.file_system}; {versions}"


def _row_data(row: Row) -> dict[str, object]:
    data: dict[str, object] = msgspec.to_builtins(row)
    other = None if row.other is None else row.other.median
    return {**data, "nerve_median": row.nerve.median, "other_median": other, "ratio": row.ratio, "met": row.met}


def _aligned(table: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _markdown(table: Sequence[Sequence[str]]) -> Iterable[str]:
    head, *lines = table
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for line in lines:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in line)} |"
