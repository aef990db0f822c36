"""When a child that has died is started again."""

from __future__ import annotations

from collections.abc import Sequence

RECENT_SECONDS = 10.0
"""How long a death counts, for the usual longest delay."""

FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 0.5
BACKGROUND_DELAY_SECONDS = 60.0
"""The longest delay for a child that no other process waits for: restarting it twice a second would be of no use."""

FAILED_STARTS_LIMIT = 5


def restart_delay(
    deaths: Sequence[float], failed_starts: int, now: float, longest: float = LONGEST_DELAY_SECONDS
) -> float | None:
    """Return how many seconds to wait before a child is started again, or None to give up.

    `deaths` are the moments of its deaths. After the first recent one it restarts at once, after the next one with
    FIRST_DELAY_SECONDS, and each further one doubles that, up to `longest`. A death is recent for RECENT_SECONDS, and
    with a greater `longest` for proportionally longer. `failed_starts` is the number of starts in a row that ended
    before the child could serve: at FAILED_STARTS_LIMIT, another one would not help.
    """
    if failed_starts >= FAILED_STARTS_LIMIT:
        return None
    recent_seconds = RECENT_SECONDS * longest / LONGEST_DELAY_SECONDS
    recent = sum(1 for death in deaths if now - death <= recent_seconds)
    if recent <= 1:
        return 0.0
    return float(min(longest, FIRST_DELAY_SECONDS * 2 ** min(recent - 2, 20)))
