"""Identifiers: ordered by time, and unique without coordination between processes."""

from __future__ import annotations

import os
import time
from random import Random

RUN_ID_DIGITS = 32


def uuid7_hex() -> str:
    """Return the 32 hex digits of a new UUID version 7 (RFC 9562): 48 bits of unix ms, then 74 random bits."""
    return _uuid7(int.from_bytes(os.urandom(10), "big") >> 6)


class RunIds:
    """Makes run ids: `<sense>/<32 hex digits>`, so that one index finds a run as well as all runs of a sense.

    The digits are as in `uuid7_hex`, but from a generator in this process, which is faster than asking the system each
    time. It must not be used on both sides of a fork: they would make the same ids.
    """

    def __init__(self) -> None:
        self._random = Random(os.urandom(32))

    def new(self, sense: str) -> str:
        """Return a new id for a run of this sense."""
        return f"{sense}/{_uuid7(self._random.getrandbits(74))}"


def _uuid7(random: int) -> str:
    milliseconds = time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF
    return f"{milliseconds:012x}7{random >> 62:03x}{random & 0x3FFF_FFFF_FFFF_FFFF | 1 << 63:016x}"


def sense_of(run_id: str) -> str:
    """Return the sense of a run id; a sense's name is returned as it is."""
    return run_id.partition("/")[0]


def time_of(run_id: str) -> int | None:
    """Return the unix ms at which a run id was made; None if it is not a run id."""
    digits = run_id.rpartition("/")[2]
    try:
        return int(digits[:12], 16) if len(digits) == RUN_ID_DIGITS else None
    except ValueError:
        return None
