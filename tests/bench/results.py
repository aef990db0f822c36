"""The results of a measurement: rows of the table, each with its goal, and curves of cost over size; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from bench.samples import Samples, growth_exponents

GoalKind = Literal["ratio at least", "ratio at most", "more by at most", "at most"]


class Goal(msgspec.Struct, frozen=True):
    """A bound for a row: for the ratio of nerve to the other, for the difference, or for nerve's own figure."""

    kind: GoalKind
    bound: float

    def met(self, nerve: float, other: float | None) -> bool:
        """Return True if nerve's figure reaches the goal. Raises ValueError if the other's is needed and missing."""
        match self.kind:
            case "ratio at least":
                return ratio(nerve, other) >= self.bound
            case "ratio at most":
                return ratio(nerve, other) <= self.bound
            case "more by at most":
                return nerve - needed(other) <= self.bound
            case "at most":
                return nerve <= self.bound


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table: what was measured, for nerve and, if there is one, for the other; `note` says how."""

    what: str
    nerve: Samples
    other: Samples | None = None
    goal: Goal | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Nerve's median divided by the other's."""
        return None if self.other is None else ratio(self.nerve.median, self.other.median)

    @property
    def met(self) -> bool | None:
        """True if the goal is reached; None if there is none."""
        other = None if self.other is None else self.other.median
        return None if self.goal is None else self.goal.met(self.nerve.median, other)


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a unit of work at three sizes: `costs` are medians in `unit`, and `size_of` names the sizes."""

    what: str
    size_of: str
    unit: str
    sizes: tuple[int, ...]
    costs: tuple[float, ...]

    @property
    def exponents(self) -> tuple[float, ...]:
        """The growth of the cost per unit from each size to the next: 0 is none, 1 is as much as the size."""
        return growth_exponents(self.sizes, self.costs)


class Found(msgspec.Struct, frozen=True):
    """The rows and curves of a measurement."""

    rows: Sequence[Row] = ()
    curves: Sequence[Curve] = ()


def ratio(nerve: float, other: float | None) -> float:
    """Return nerve's figure divided by the other's. Raises ValueError if there is none, or it is 0."""
    if not needed(other):
        raise ValueError("nothing can be compared with 0")
    return nerve / needed(other)


def needed(other: float | None) -> float:
    """Return the other's figure. Raises ValueError if there is none."""
    if other is None:
        raise ValueError("a comparison needs another figure")
    return other
