"""RunName: a run as a person names it, by its id or a part of that; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TYPED = re.compile(r"(?:(?P<sense>[a-z0-9_-]+)/)?(?P<ellipsis>…|\.\.\.)?(?P<digits>[a-z0-9_-]*)")


@dataclass(frozen=True, slots=True)
class RunName:
    """A part of a run id: the sense's name, if given, and the first digits (after an ellipsis, the last ones)."""

    sense: str | None
    digits: str
    is_ending: bool

    @classmethod
    def parse(cls, text: str) -> RunName:
        """Parse `cpu/01a2`, `cpu/…3f`, `01a2` or `…3f`. Raises ValueError, with one line, for any other text."""
        parts = _TYPED.fullmatch(text.strip().lower())
        if parts is None or not (parts["sense"] or parts["digits"]):
            raise ValueError(
                f"{text!r} is not a valid part of a run id: write it as `nerve logs` shows it, or its first digits"
            )
        return cls(parts["sense"], parts["digits"], bool(parts["ellipsis"] and parts["digits"]))

    def fits(self, run_id: str) -> bool:
        """Return True if the name can mean this run."""
        sense, _, digits = run_id.rpartition("/")
        if self.sense is not None and self.sense != sense:
            return False
        if self.is_ending:
            return digits.endswith(self.digits)
        return digits.startswith(self.digits) or (
            self.sense is None and (run_id.startswith(self.digits) or digits.endswith(self.digits))
        )

    def __str__(self) -> str:
        return f"{self.sense}/" * bool(self.sense) + "…" * self.is_ending + self.digits
