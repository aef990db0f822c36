"""Identifiers: time-ordered and unique without asking anyone."""

from __future__ import annotations

import os
import time
from random import Random

RUN_ID_DIGITS = 32


def uuid7_hex() -> str:
    """Make the 32 hex digits of a UUID version 7 (RFC 9562): 48 bits of unix ms, then 74 random bits."""
    return _uuid7(int.from_bytes(os.urandom(10), "big") >> 6)


class RunIds:
    """Makes the ids of runs: a sense leads, so that one index serves a run and all runs of a sense.

    The digits are those of `uuid7_hex`, from a generator that the system has seeded: asking it for each takes longer.
    For one process: whoever forks must not go on with the same one on both sides.
    """

    def __init__(self) -> None:
        self._random = Random(os.urandom(32))

    def new(self, sense: str) -> str:
        """Make the id of a run of this sense."""
        return f"{sense}/{_uuid7(self._random.getrandbits(74))}"


def _uuid7(random: int) -> str:
    milliseconds = time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF
    return f"{milliseconds:012x}7{random >> 62:03x}{random & 0x3FFF_FFFF_FFFF_FFFF | 1 << 63:016x}"


def sense_of(run_id: str) -> str:
    """Give the sense that a run id (or a bare sense name) belongs to."""
    return run_id.partition("/")[0]


def time_of(run_id: str) -> int | None:
    """Give the unix ms at which a run id was made; None for what is no run id of ours."""
    digits = run_id.rpartition("/")[2]
    try:
        return int(digits[:12], 16) if len(digits) == RUN_ID_DIGITS else None
    except ValueError:
        return None
