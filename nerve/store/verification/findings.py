"""What a verification finds: damage, each with its place, in bounded number; pure."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

SHOWN = 100
"""So much damage of a kind is told one by one; the rest is counted."""

Kind = Literal["database", "schema", "entry", "gap", "double", "run", "file", "manifest", "watermark"]


class Damage(msgspec.Struct, frozen=True):
    """One thing that is not as it must be: where (a file and its line, an entry, a run ...), and what."""

    kind: Kind
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class VerificationReport(msgspec.Struct, frozen=True):
    """What has been verified, and the damage in it; `left_out` counts, by kind, what is not told one by one.

    `entries` is the greatest id that was given when the verification began: so many entries there must be. `table` and
    `archive` count those that were found there, which may be in both; `files` and `runs` what was looked at. `notes`
    says what is no damage, but worth knowing.
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
    """Collects damage as it is found."""

    def __init__(self) -> None:
        self.damage: list[Damage] = []
        self.notes: list[str] = []
        self._counts: Counter[Kind] = Counter()

    def add(self, kind: Kind, where: str, what: str) -> None:
        """Note damage; of what there is too much, only how much."""
        self._counts[kind] += 1
        if self._counts[kind] <= SHOWN:
            self.damage.append(Damage(kind, where, what))

    def left_out(self) -> dict[str, int]:
        """Count what is not in `damage`, by kind."""
        return {kind: count - SHOWN for kind, count in self._counts.items() if count > SHOWN}
