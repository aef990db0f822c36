"""Escapes what a terminal would act on, or would not show, in every line that a command prints."""

from __future__ import annotations

import re

UNSAFE = (
    r"[\x00-\x1f\x7f-\x9f"  # control characters
    r"\xad\u115f\u1160\u180b-\u180e\u200b-\u200d\u2060-\u2065\u3164\ufeff\uffa0"  # what takes no place, or is not seen
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ufff9-\ufffb"  # marks of text direction, and other formats
    r"\u2028\u2029"  # separators of lines and paragraphs
    r"\ud800-\udfff"  # surrogates, which no encoding can write
    "\U000e0000-\U000e007f]"  # invisible tags
)
_UNSAFE = re.compile(UNSAFE)
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def escape(text: str) -> str:
    r"""Return the text with unsafe characters as escapes: `\x1b`, `\u202e`, and `\n` for a line break."""
    return _UNSAFE.sub(_escaped, text)


def escape_lines(text: str) -> str:
    """Return a text of several lines with unsafe characters as escapes."""
    return "\n".join(map(escape, text.split("\n")))


def escape_json(document: str) -> str:
    """Return a JSON document in which unsafe characters are written as JSON escapes; it stays the same document."""
    return _UNSAFE.sub(_escaped_in_json, document)


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    if code < 0x100:
        return _SHORT_ESCAPES.get(char) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped_in_json(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
