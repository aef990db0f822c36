"""Identifiers: time-ordered and unique without asking anyone."""

from __future__ import annotations

import os
import time

RUN_ID_DIGITS = 32


def uuid7_hex() -> str:
    """Make the 32 hex digits of a UUID version 7 (RFC 9562): 48 bits of unix ms, then 74 random bits."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF) << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"


def new_run_id(sense: str) -> str:
    """Make the id of a run: its sense leads, so that one index serves a run and all runs of a sense."""
    return f"{sense}/{uuid7_hex()}"


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
