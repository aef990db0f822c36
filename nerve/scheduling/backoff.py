"""How long a sense must be left alone: until its throttle ends, and while it is backed off."""

from __future__ import annotations

import math

BACKOFF_FIRST = 1.0
"""Seconds of back-off after the second death in a row; it doubles with each further one."""

BACKOFF_MAX = 60.0
"""Seconds that a back-off never exceeds."""


def throttle_end(started: float, throttle: float) -> float:
    """Give the end of a throttle: `end - started >= throttle` holds even when that difference is rounded.

    All are in seconds. As rounding keeps order, `now - started >= throttle` then holds for every later `now` too.
    """
    end = started + throttle
    while end - started < throttle:
        end = math.nextafter(end, math.inf)
    return end


def backoff(deaths: int) -> float:
    """Give the seconds to wait after `deaths` deaths in a row: 0 for the first, then 1, 2, 4 ... up to 60."""
    if deaths < 2:
        return 0.0
    # The cap holds long before the exponent gets there; a power of a huge number would overflow.
    return min(BACKOFF_MAX, BACKOFF_FIRST * 2.0 ** min(deaths - 2, 32))
