"""What a measurement finds: rows of the table, each with its goal, and curves of cost over size; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from bench.samples import Samples, growth_exponents

GoalKind = Literal["ratio at least", "ratio at most", "more by at most", "at most"]


class Goal(msgspec.Struct, frozen=True):
    """What a row must reach: a ratio of nerve to the other, a difference from it, or nerve's own figure."""

    kind: GoalKind
    bound: float

    def met(self, nerve: float, other: float | None) -> bool:
        """Tell whether a figure, beside the other's, is good enough; ValueError for a lack of the other."""
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
    """One line of the table: what was measured, of nerve and (unless it has none) of the other; `note` says how."""

    what: str
    nerve: Samples
    other: Samples | None = None
    goal: Goal | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Nerve's median over the other's."""
        return None if self.other is None else ratio(self.nerve.median, self.other.median)

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None when there is none."""
        other = None if self.other is None else self.other.median
        return None if self.goal is None else self.goal.met(self.nerve.median, other)


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """What one unit of some work costs, at three sizes of it: `costs` are medians, in `unit`; `size_of` names sizes."""

    what: str
    size_of: str
    unit: str
    sizes: tuple[int, ...]
    costs: tuple[float, ...]

    @property
    def exponents(self) -> tuple[float, ...]:
        """How the cost of a unit grows from each size to the next: 0 is not at all, 1 with the size itself."""
        return growth_exponents(self.sizes, self.costs)


class Found(msgspec.Struct, frozen=True):
    """Everything that one measurement has found."""

    rows: Sequence[Row] = ()
    curves: Sequence[Curve] = ()


def ratio(nerve: float, other: float | None) -> float:
    """Give nerve's figure over the other's; ValueError when there is no other, or it is 0."""
    if not needed(other):
        raise ValueError("nothing can be compared with 0")
    return nerve / needed(other)


def needed(other: float | None) -> float:
    """Give the other's figure; ValueError when there is none."""
    if other is None:
        raise ValueError("a comparison needs another figure")
    return other
