"""When a child that has died is started again."""

from __future__ import annotations

from collections.abc import Sequence

RECENT_SECONDS = 10.0
FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 0.5
PATIENT_DELAY_SECONDS = 60.0
"""The longest delay for what nobody waits for: one that always dies at its work is no use twice a second."""

FAILED_STARTS_LIMIT = 5


def restart_delay(
    deaths: Sequence[float], failed_starts: int, now: float, longest: float = LONGEST_DELAY_SECONDS
) -> float | None:
    """Decide how many seconds to wait before a child is started again; None to give up.

    `deaths` are the moments of its ends. The first in RECENT_SECONDS restarts at once, each further one waits twice
    as long, up to `longest`; with a longer one, more of the past is recent. `failed_starts` counts the last starts
    that ended before it could serve: after FAILED_STARTS_LIMIT of them another one would not help.
    """
    if failed_starts >= FAILED_STARTS_LIMIT:
        return None
    recent_seconds = RECENT_SECONDS * longest / LONGEST_DELAY_SECONDS
    recent = sum(1 for death in deaths if now - death <= recent_seconds)
    if recent <= 1:
        return 0.0
    return float(min(longest, FIRST_DELAY_SECONDS * 2 ** min(recent - 2, 20)))
