"""The plots of a report, as PNG: nerve beside its peers, and cost as the work grows."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from bench.report import Report, figure, number
from bench.results import Curve, Row

mpl.use("Agg")

NERVE, OTHER = "#2a6f97", "#b8c4cc"
RATES = ("events/s", "computes/s")
DPI = 110


def draw(report: Report, folder: Path) -> list[Path]:
    """Draw the plots of a report into `folder`; return the files."""
    files = []
    compared = [row for row in report.rows if row.other]
    if compared:
        files.append(_saved(_peers(compared, report.date), folder / "peers.png"))
    if report.curves:
        files.append(_saved(_growth(report.curves, report.date), folder / "growth.png"))
    return files


def _saved(drawing: Figure, path: Path) -> Path:
    drawing.savefig(path, dpi=DPI, metadata={"Software": None})
    return path


def _peers(rows: list[Row], date: str) -> Figure:
    """Draw two bars for each comparison, each on its own scale, as units and sizes differ."""
    drawing = Figure(figsize=(10, 0.85 * len(rows) + 0.8), layout="constrained")
    axes = drawing.subplots(len(rows), 1, squeeze=False)[:, 0]
    for ax, row in zip(axes, rows, strict=True):
        _bars(ax, row)
    drawing.suptitle(f"nerve beside its peers, medians, {date}", fontsize=11)
    return drawing


def _bars(ax: Axes, row: Row) -> None:
    assert row.other is not None, "only comparisons have bars"
    values = [row.other.median, row.nerve.median]
    ax.barh([row.other.of, row.nerve.of], values, color=[OTHER, NERVE], height=0.75)
    ax.margins(x=0.16)
    for place, value in enumerate(values):
        ax.text(value, place, f" {figure(value, row.nerve.unit)}", va="center", fontsize=8)
    better = "more is better" if row.nerve.unit in RATES else "less is better"
    ax.set_title(f"{row.what} ({better})", fontsize=9, loc="left")
    ax.tick_params(labelsize=8, bottom=False, labelbottom=False)
    ax.spines[["top", "right", "bottom"]].set_visible(False)


def _growth(curves: list[Curve], date: str) -> Figure:
    """Draw the cost per unit over the size, both logarithmic: a flat line means that the work grows in proportion."""
    columns = 3
    lines = -(-len(curves) // columns)
    drawing = Figure(figsize=(10, 2.6 * lines + 0.6), layout="constrained")
    axes = list(drawing.subplots(lines, columns, squeeze=False).flat)
    for ax, curve in zip(axes, curves, strict=False):
        _line(ax, curve)
    for ax in axes[len(curves) :]:
        ax.set_visible(False)
    drawing.suptitle(f"cost of a unit as the work grows, {date}", fontsize=11)
    return drawing


def _line(ax: Axes, curve: Curve) -> None:
    ax.loglog(curve.sizes, curve.costs, marker="o", color=NERVE)
    for size, cost in zip(curve.sizes, curve.costs, strict=True):
        ax.annotate(number(cost), (size, cost), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=8)
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(min(curve.costs) / 4, max(curve.costs) * 4)
    ax.margins(x=0.15)
    ax.set_title(curve.what, fontsize=9, loc="left")
    ax.set_xlabel(curve.size_of, fontsize=8)
    ax.set_ylabel(curve.unit, fontsize=8)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
