"""Encoding payloads: any Python value to JSON text, or a PayloadError that says why not; in the caller's process."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from nerve.errors import PayloadError
from nerve.events.redaction import WITHHELD, Redactor
from nerve.units import format_size

DEFAULT_MAX_BYTES = 64 * 1024
PREVIEW_CHARS = 200

MAX_DEPTH = 100
"""Limit on nested lists and objects: a reader may have less stack left than the writer had."""

_encode = msgspec.json.Encoder().encode
_DIGITS_AS_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 19  # the shortest that can exceed 64 bits
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


def encode_payload(value: object, max_bytes: int = DEFAULT_MAX_BYTES, redactor: Redactor | None = None) -> str:
    """Return `value` as JSON text of at most `max_bytes` bytes, with the secrets masked that `redactor` finds.

    Accepts JSON values, and what msgspec converts to them: dataclasses, datetimes (to ISO 8601), UUIDs, sets. Raises
    PayloadError for anything else: NaN and infinities, integers beyond 64 bits, lone surrogates, cycles, more than
    MAX_DEPTH levels, objects of other types, and texts of more than `max_bytes`.
    """
    if value is None:
        return "null"
    try:
        encoded = _encode(value)
        text = encoded.decode()
        if _may_be_lossy_or_deep(text, encoded):
            _refuse_lossy_or_deep(msgspec.to_builtins(value))
        if redactor and redactor.suspects(text):
            text = _encode(redactor.masked(msgspec.json.decode(text))).decode()
    except Exception as error:  # noqa: BLE001 - encoding calls the user's own code, which may raise anything
        raise PayloadError(_reason(error), _without_secrets(preview(value), redactor)) from None
    if len(encoded) > max_bytes:
        reason = f"is {_spaced(len(encoded))}, more than logs.max_payload ({_spaced(max_bytes)})"
        raise PayloadError(reason, printable(text[:PREVIEW_CHARS])[:PREVIEW_CHARS], too_large=True)
    return text


def _spaced(size: int) -> str:
    return format_size(size) if size < 1024 else re.sub(r"(?=[A-Z])", " ", format_size(size), count=1)


def _without_secrets(description: str, redactor: Redactor | None) -> str:
    return WITHHELD if redactor and redactor.suspects(description) else description


def preview(value: object) -> str:
    """Return at most PREVIEW_CHARS printable characters that describe `value`, even if its repr fails."""
    try:
        text = repr(value)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's __repr__ may raise anything
        text = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return printable(text[:PREVIEW_CHARS])[:PREVIEW_CHARS]


def printable(text: str) -> str:
    """Return `text` as one line, with control characters, line ends and lone surrogates escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def valid_text(text: str) -> str:
    """Return `text` with lone surrogates, which UTF-8 can't encode, escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _reason(error: Exception) -> str:
    match error:
        case RecursionError():
            return "a cycle, or nesting too deep for JSON"
        case UnicodeEncodeError():
            return "text with a lone surrogate, which is not valid Unicode"
        case _:
            return printable(str(error))


def _may_be_lossy_or_deep(text: str, encoded: bytes) -> bool:
    """Return False if the encoder's JSON is certainly fine, as it nearly always is.

    The encoder writes NaN as null, integers of any length, and nests as deep as the stack allows.
    """
    # Searching is much faster in text, and translating in bytes; a regular expression is slower than both.
    if "null" in text or encoded.translate(_DIGITS_AS_ZERO).find(_LONG_NUMBER) >= 0:
        return True
    return len(text) > 2 * MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH


def _refuse_lossy_or_deep(value: Any) -> None:
    level = [value]
    for _depth in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for item in level:
            match item:
                case str():
                    continue
                case dict():
                    inner += item.keys()
                    inner += item.values()
                case list() | tuple():
                    inner += item
                case int() | float():
                    _refuse_lossy(item)
        if not inner:
            return
        level = inner
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _refuse_lossy(number: int | float) -> None:
    if isinstance(number, float):
        if not math.isfinite(number):
            raise ValueError(f"{number} is not a JSON number")
    elif not _INT_MIN <= number <= _INT_MAX:
        raise ValueError("an integer beyond 64 bits")
