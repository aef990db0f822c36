"""How long a sense must not start: until its throttle ends, and while it is in back-off."""

from __future__ import annotations

import math

BACKOFF_FIRST = 1.0
"""Seconds of back-off after the second death in a row; each further death doubles it."""

BACKOFF_MAX = 60.0
"""Upper limit of a back-off, in seconds."""


def throttle_end(started: float, throttle: float) -> float:
    """Return the end of a throttle in seconds, such that `end - started >= throttle` holds in spite of rounding.

    As rounding keeps order, `now - started >= throttle` then holds for every later `now` too.
    """
    end = started + throttle
    while end - started < throttle:
        end = math.nextafter(end, math.inf)
    return end


def backoff(deaths: int) -> float:
    """Return the seconds to wait after `deaths` deaths in a row: 0 for the first, then 1, 2, 4 ... up to 60."""
    if deaths < 2:
        return 0.0
    # The limit is reached long before this exponent; the power of a huge number would overflow.
    return min(BACKOFF_MAX, BACKOFF_FIRST * 2.0 ** min(deaths - 2, 32))
