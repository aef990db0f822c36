"""Findings: the damage that a verification finds, each with its location, in limited number; pure."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

SHOWN = 100
"""Limit on the damage of one kind that is listed; the rest is counted."""

Kind = Literal["database", "schema", "entry", "gap", "double", "run", "file", "manifest", "watermark"]


class Damage(msgspec.Struct, frozen=True):
    """One defect: its location (a file and line, an entry, a run ...), and a description."""

    kind: Kind
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class VerificationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a verification; `left_out` counts, by kind, the damage that is not listed.

    `entries` is the greatest id when the verification began, and so the number of entries that must exist. `table` and
    `archive` count the entries found there, which may be in both; `files` and `runs` count those that were checked.
    `notes` are remarks that are not damage.
    """

    ok: bool
    entries: int
    table: int
    archive: int
    files: int
    runs: int
    open_runs: int
    damage: list[Damage]
    left_out: dict[str, int]
    notes: list[str]


class Findings:
    """Collects damage during a verification."""

    def __init__(self) -> None:
        self.damage: list[Damage] = []
        self.notes: list[str] = []
        self._counts: Counter[Kind] = Counter()

    def add(self, kind: Kind, where: str, what: str) -> None:
        """Add damage; beyond the limit of its kind, it is only counted."""
        self._counts[kind] += 1
        if self._counts[kind] <= SHOWN:
            self.damage.append(Damage(kind, where, what))

    def left_out(self) -> dict[str, int]:
        """Return the number of defects that are not in `damage`, by kind."""
        return {kind: count - SHOWN for kind, count in self._counts.items() if count > SHOWN}
