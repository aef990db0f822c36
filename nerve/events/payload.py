"""Encoding payloads: any Python value to JSON text, or a PayloadError that says why not; in the caller's process."""

from __future__ import annotations

import json
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
_END_OF_KEY = b'0":'  # of a number, or of a name such as `eth0`: a regular expression alone takes longer
_NUMBER_AS_KEY = re.compile(rb'"-?[0-9][-0-9.:+TZe]*":')  # or a date
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


def encode_payload(value: object, max_bytes: int = DEFAULT_MAX_BYTES, redactor: Redactor | None = None) -> str:
    """Return `value` as JSON text of at most `max_bytes` bytes, with the secrets masked that `redactor` finds.

    Accepts what `json.dumps` accepts, and what msgspec converts: dataclasses, datetimes (to ISO 8601), UUIDs, sets.
    Raises PayloadError for anything else: NaN and infinities, integers beyond 64 bits, lone surrogates, cycles, more
    than MAX_DEPTH levels, two keys of an object that are the same text in JSON, objects of other types, and texts of
    more than `max_bytes`.
    """
    if value is None:
        return "null"
    try:
        try:
            encoded = _encode(value)
        except TypeError:
            encoded = _encoded_by_json(value)
        text = encoded.decode()
        if _may_be_unfit(text, encoded):
            _refuse_unfit(value, encoded)
        if redactor and redactor.suspects(text):
            text = _encode(redactor.masked(msgspec.json.decode(text))).decode()
    except Exception as error:  # noqa: BLE001 - encoding calls the user's own code, which may raise anything
        raise PayloadError(_reason(error), _without_secrets(preview(value), redactor)) from None
    if len(encoded) > max_bytes:
        reason = f"is {_spaced(len(encoded))}, more than logs.max_payload ({_spaced(max_bytes)})"
        raise PayloadError(reason, printable(text[:PREVIEW_CHARS])[:PREVIEW_CHARS], too_large=True)
    return text


def encode_signal(value: object, max_bytes: int, redactor: Redactor) -> str:
    """Return a signal as `encode_payload` does, but unmasked: it goes to other senses, and not into the log.

    The preview of a PayloadError, which is recorded, has no secrets that `redactor` finds.
    """
    try:
        return encode_payload(value, max_bytes)
    except PayloadError as refusal:
        shown = _without_secrets(refusal.preview, redactor)
        raise PayloadError(refusal.reason, shown, too_large=refusal.too_large) from None


def _encoded_by_json(value: object) -> bytes:
    """Encode what msgspec refuses, as `json.dumps` does it: subclasses of numbers and text, and keys of such kinds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_converted)
    _refuse_lossy_or_deep(json.loads(text, object_pairs_hook=_refuse_clash))
    return text.encode()


def _converted(value: object) -> object:
    return msgspec.to_builtins(value, enc_hook=_plain)


def _plain(value: object) -> object:
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(f"Encoding objects of type {type(value).__qualname__} is unsupported")


def _has_only_text_keys(value: object) -> bool:
    """Return True if no dict in `value` has a key that is not a text; False if that takes more than a look."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        match item:
            case dict():
                if any(key.__class__ is not str for key in item):
                    return False
                waiting += item.values()
            case list() | tuple():
                waiting += item
            case str() | int() | float() | None:
                continue
            case _:
                return False
    return True


def _refuse_clash(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    distinct = dict(pairs)
    if len(distinct) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _value in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"two keys of one object are both {json.dumps(twice)} in JSON")
    return distinct


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


def _may_be_unfit(text: str, encoded: bytes) -> bool:
    """Return False if the encoder's JSON is certainly fine, as it nearly always is.

    The encoder writes NaN as null, integers of any length, nests as deep as the stack allows, and writes keys twice.
    """
    # Searching is much faster in text, and translating in bytes; a regular expression is slower than both.
    if "null" in text:
        return True
    digits_as_zero = encoded.translate(_DIGITS_AS_ZERO)
    if digits_as_zero.find(_LONG_NUMBER) >= 0:
        return True
    if digits_as_zero.find(_END_OF_KEY) >= 0 and _NUMBER_AS_KEY.search(encoded):
        return True
    return len(text) > 2 * MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH


def _refuse_unfit(value: object, encoded: bytes) -> None:
    try:
        plain = msgspec.to_builtins(value)
    except TypeError:  # it was encoded by `json`
        plain = json.loads(encoded)
    if _NUMBER_AS_KEY.search(encoded) and not _has_only_text_keys(value):
        json.loads(encoded, object_pairs_hook=_refuse_clash)
    _refuse_lossy_or_deep(plain)


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
