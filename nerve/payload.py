"""Payloads: any Python value to JSON text, or a typed refusal that says why; runs in the caller's process."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from nerve.errors import PayloadError

DEFAULT_MAX_BYTES = 64 * 1024
PREVIEW_CHARS = 200

_encode = msgspec.json.Encoder().encode
_SUSPICIOUS = re.compile(rb"null|[0-9]{19}")
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


def encode_payload(value: object, max_bytes: int = DEFAULT_MAX_BYTES) -> str:
    """Encode `value` as JSON text of at most `max_bytes` bytes.

    Takes what JSON has, and what msgspec writes as JSON (dataclasses, datetimes as ISO 8601, UUIDs, sets).
    Raises PayloadError for what JSON has no place for: NaN and infinities, integers beyond 64 bits,
    lone surrogates, cycles, objects of other types, and anything larger than `max_bytes`.
    """
    if value is None:
        return "null"
    try:
        encoded = _encode(value)
        # The encoder writes NaN as null and integers in full: only output with such marks is looked at twice.
        if _SUSPICIOUS.search(encoded):
            _refuse_lossy_numbers(msgspec.to_builtins(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(_reason(error), preview(value)) from None
    if len(encoded) > max_bytes:
        reason = f"too large: {len(encoded)} bytes of JSON, max_payload is {max_bytes}"
        raise PayloadError(reason, encoded[:PREVIEW_CHARS].decode(errors="replace"))
    return encoded.decode()


def preview(value: object) -> str:
    """Describe `value` in at most PREVIEW_CHARS printable characters, whatever its repr does."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a user's __repr__ may raise anything
        text = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return text[:PREVIEW_CHARS].encode("utf-8", "backslashreplace").decode()[:PREVIEW_CHARS]


def _reason(error: Exception) -> str:
    match error:
        case RecursionError():
            return "a cycle, or nesting too deep for JSON"
        case UnicodeEncodeError():
            return "text with a lone surrogate, which is not valid Unicode"
        case _:
            return str(error)


def _refuse_lossy_numbers(value: Any) -> None:
    for number in _numbers(value):
        if isinstance(number, float):
            if not math.isfinite(number):
                raise ValueError(f"{number} is not a JSON number")
        elif not _INT_MIN <= number <= _INT_MAX:
            raise ValueError("an integer beyond 64 bits")


def _numbers(value: Any) -> Iterator[int | float]:
    stack = [value]
    while stack:
        match stack.pop():
            case int() | float() as number:
                yield number
            case dict() as mapping:
                stack.extend(mapping.keys())
                stack.extend(mapping.values())
            case list() | tuple() as items:
                stack.extend(items)
            case _:
                continue
