"""Places: which runs can be handed out now, to idle workers or behind what busy ones do; pure."""

from __future__ import annotations

from collections.abc import Callable

PREFETCH_RUNS = 31
"""So many runs a worker has before it at most, beside the one that it does."""

QUICK_MS = 0.25
"""Only runs of senses that take no longer than this wait behind each other."""

STALL_SECONDS = 0.005
"""What waits behind a run that takes longer than this all the same is taken back."""

_FADING = 0.5


def expected_ms(before: float | None, duration_ms: float) -> float:
    """Tell what to expect of a sense's next run: as long as its last, or, for a while, as a longer one before."""
    return duration_ms if before is None else max(duration_ms, before * _FADING)


def _never(_sense: str) -> bool:
    return False


class Places:
    """The places that there are at one moment; each is claimed once, by whoever is due first."""

    def __init__(self, free: int, spare: int = 0, behind: int = 0, is_quick: Callable[[str], bool] = _never) -> None:
        """`free` workers, `spare` places behind quick runs, and `behind` each quick run that a free worker gets."""
        self._free = free
        self._spare = spare
        self._behind = behind
        self._is_quick = is_quick

    def claim(self, sense: str) -> bool:
        """Claim a place for a run of this sense; False when there is none for it."""
        quick = self._is_quick(sense)
        if self._free:
            self._free -= 1
            self._spare += self._behind if quick else 0
            return True
        if quick and self._spare:
            self._spare -= 1
            return True
        return False
