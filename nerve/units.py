"""Durations and sizes: from text to seconds and bytes, and back."""

from __future__ import annotations

import math
import re
from decimal import Decimal

_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,18})?"
_BARE = re.compile(_NUMBER)
_TERM = re.compile(rf"({_NUMBER})\s*(ms|s|m|h|d)")
_SUM = re.compile(rf"{_TERM.pattern}(?:\s*{_TERM.pattern})*")
_LONGEST = 36500 * 86400.0  # 100 years of nanoseconds still fit into 64 bits

_SIZE_UNITS = ("B", "KB", "MB", "GB", "TB")
_SIZE = re.compile(rf"({_NUMBER})\s*(?:([KMGT])i?)?B?", re.IGNORECASE)
_FACTOR = 1024


def parse_duration(text: str | float, *, allow_zero: bool = False, needs_unit: bool = False) -> float:
    """Return a duration in seconds: `500ms 10s 5m 2h 30d`, a sum such as `1h30m`, or a bare number of seconds.

    Raises ValueError, whose message is one line for the user, for anything else, for 0 unless `allow_zero`, for more
    than 36500 days and, with `needs_unit`, for a bare number.
    """
    if needs_unit and is_bare(str(text)):
        raise ValueError(f"{_shown(text)} has no unit: write {text}s, {text}m, {text}h or {text}d")
    seconds = _seconds(text.strip()) if isinstance(text, str) else _number(text)
    if seconds is None:
        raise ValueError(f"{_shown(text)} is not a duration: write it as 500ms, 10s, 5m, 2h, 30d or 1h30m")
    if seconds < 0 or (seconds == 0 and not allow_zero):
        least = "not negative" if allow_zero else "more than 0"
        raise ValueError(f"{_shown(text)} is too short: a duration is {least}")
    if seconds > _LONGEST:
        raise ValueError(f"{_shown(text)} is too long: a duration is at most 36500d")
    return seconds


def is_bare(text: str) -> bool:
    """Return True if the text is a number without a unit, other than 0, which is the same in each unit."""
    return bool(_BARE.fullmatch(text.strip())) and float(text) != 0


def format_duration(seconds: float) -> str:
    """Return the text of a duration of `seconds` (0 or more), which parse_duration reads: `1h30m`, `250ms`.

    It is rounded to milliseconds; below 10 ms, to microseconds: `1.25ms`.
    """
    total_ms = round(seconds * 1000)
    if 0 < seconds < 0.01:
        return f"{round(seconds * 1000, 3):g}ms"
    if 0 < total_ms < 1000:
        return f"{total_ms}ms"
    minutes, ms = divmod(total_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    terms = ((days, "d"), (hours, "h"), (minutes, "m"), (ms / 1000, "s"))
    return "".join(f"{amount:g}{unit}" for amount, unit in terms if amount) or "0s"


def parse_size(text: str | int) -> int:
    """Return a size in bytes: `512B 64KB 10MiB 1.5GB` (units are powers of 1024), or a bare number of bytes.

    Raises ValueError, whose message is one line for the user, for anything else and for less than one byte.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if isinstance(text, bool) or not match:
        raise ValueError(f"{_shown(text)} is not a size: write it as 512B, 64KB, 10MB, or a number of bytes")
    amount, unit = match.groups()
    size = int(Decimal(amount) * _FACTOR ** _SIZE_UNITS.index(f"{(unit or '').upper()}B"))
    if size < 1:
        raise ValueError(f"{_shown(text)} is too small: a size is at least 1B")
    return size


def format_size(size: int) -> str:
    """Return the text of a size of `size` bytes (0 or more), in the largest unit that fits: `1.5KB`, `64KB`."""
    amount = float(size)
    power = 0
    while round(amount, 1) >= _FACTOR and power < len(_SIZE_UNITS) - 1:
        amount /= _FACTOR
        power += 1
    return f"{amount:.1f}".removesuffix(".0") + _SIZE_UNITS[power]


def _seconds(text: str) -> float | None:
    if _BARE.fullmatch(text):
        return float(text)
    if not _SUM.fullmatch(text):
        return None
    return float(sum(Decimal(amount) * _SECONDS[unit] for amount, unit in _TERM.findall(text)))


def _number(value: float) -> float | None:
    if isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
