"""Formats entries of the log: a line of text for a terminal or a pipe, or a line of JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from unicodedata import category, east_asian_width

import click
import msgspec

from nerve.cli.console import View
from nerve.cli.moments import format_moment
from nerve.escaping import UNSAFE, escape, escape_json
from nerve.events.model import DamagedLog, Log
from nerve.ids import RUN_ID_DIGITS, sense_of
from nerve.store.jsonl import to_line

Level = Literal["ok", "warning", "error"]

COLOURS: dict[Level, str] = {"ok": "green", "warning": "yellow", "error": "red"}
ID_COLUMNS, NAME_COLUMNS, REF_COLUMNS = 6, 19, 20
ALIGNED_WIDTH = 100
"""Terminals at least this wide get aligned columns; narrower ones need the space for the payload."""

SHOWN_DIGITS = 6
"""A terminal shows the last digits of a run id, because the first ones are the time and nearly equal for all runs."""

INDENT = "    "
DAMAGED = "(damaged)"
"""Precedes a payload that is not valid JSON, which is shown as plain text."""

_encode = msgspec.json.Encoder().encode
_NEEDS_QUOTES = re.compile(rf'[\s"=\\]|{UNSAFE}')
_ID = re.compile(rf"(.+/)?[0-9a-f]{{{RUN_ID_DIGITS - SHOWN_DIGITS}}}([0-9a-f]{{{SHOWN_DIGITS}}})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a line and its colour."""

    text: str
    colour: str | None = None
    dim: bool = False


def json_line(entry: Log, *, terminal: bool = False) -> bytes:
    """Return the entry as a line of JSON, as in the archive; for a `terminal`, with control characters escaped."""
    line = to_line(entry)
    return safe_json(line.removesuffix(b"\n")) + b"\n" if terminal else line


def safe_json(document: bytes) -> bytes:
    """Return a JSON document in which characters that could control a terminal are written as JSON escapes."""
    return escape_json(document.decode()).encode()


def print_json(value: object) -> None:
    """Print a value as one line of JSON, with unsafe characters as JSON escapes."""
    click.echo(safe_json(msgspec.json.encode(value)))


def text_lines(entry: Log, view: View) -> str:
    """Return the entry as text, with control characters escaped.

    For a pipe it is one complete line: time, id, source/type, ref (`-` for none) and the payload. For a terminal it is
    one line, cut to the width; errors are complete, and their multi-line values, such as tracebacks, follow below.
    """
    moment = format_moment(entry.ts, view.zone, offset=view.offset)
    if view.width is None:
        return (
            f"{moment} {entry.id} {_name(entry)} {_ref(entry.ref_id)} {_payload(entry, entry.payload)}".rstrip() + "\n"
        )
    level = level_of(entry)
    is_error = level == "error"
    below = list(blocks(entry.payload)) if is_error else []
    parts = _parts(entry, moment, level, aligned=view.width >= ALIGNED_WIDTH)
    lines = ["".join(_paint(part, view) for part in (parts if is_error else _cut(parts, view.width)))]
    lines += [_paint(_Part(INDENT + line, dim=True), view) for block in below for line in block.split("\n")]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def level_of(entry: Log) -> Level | None:
    """Return the level of an entry: ok, warning or error; None for one that is merely a fact."""
    if isinstance(entry, DamagedLog):
        return "warning"
    match entry.source, entry.type:
        case ("system", "error") | ("logging", "error" | "critical"):
            return "error"
        case ("logging", "warning") | ("system", "events_dropped"):
            return "warning"
        case ("system", "config_reload" | "sense_reload") if _field(entry, "ok") is False:
            return "error"
        case ("reflex", "run_complete"):
            return level_of_status(_field(entry, "status"))
        case _:
            return None


def name_and_payload(entry: Log) -> str:
    """Return source/type and payload of an entry as one line, with control characters escaped."""
    return f"{_name(entry)} {_payload(entry, _without_noise(entry, in_blocks=False))}".rstrip()


def columns(text: str) -> int:
    """Return the number of terminal columns that the text occupies."""
    return len(text) if text.isascii() else sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if east_asian_width(char) in {"W", "F"} else 1


def _field(entry: Log, key: str) -> object:
    return entry.payload.get(key) if isinstance(entry.payload, dict) else None


def level_of_status(status: object) -> Level | None:
    """Return the level of a run's status; None if it is not a valid status."""
    match status:
        case "ok":
            return "ok"
        case "cancelled":
            return "warning"
        case str():
            return "error"
        case _:
            return None


def _name(entry: Log) -> str:
    return escape(f"{entry.source}/{entry.type}")


def _ref(ref_id: str | None) -> str:
    return escape(ref_id) if ref_id else "-"


def short_ref(ref_id: str | None) -> str:
    """Return a ref as a terminal shows it: a run id by its last digits."""
    match = _ID.fullmatch(ref_id or "")
    return escape(f"{match[1] or ''}…{match[2]}") if match else _ref(ref_id)


def _parts(entry: Log, moment: str, level: Level | None, *, aligned: bool) -> list[_Part]:
    colour = COLOURS[level] if level else None
    number, name, ref = str(entry.id), _name(entry), short_ref(entry.ref_id)
    pairs = _payload(entry, _without_noise(entry, in_blocks=level == "error"))
    if aligned:
        number, name = number.rjust(ID_COLUMNS), name.ljust(NAME_COLUMNS)
        ref = ref.ljust(REF_COLUMNS if pairs else 0)
    return [
        _Part(f"{moment} {number}", dim=True),
        _Part(f" {name}", colour),
        _Part(f" {ref}"),
        _Part(f" {pairs}" if pairs else "", colour if level == "error" else None),
    ]


def _without_noise(entry: Log, *, in_blocks: bool) -> object:
    """Return the payload without redundant values: nulls, the sense that the ref names, and what is shown in blocks."""
    if not isinstance(entry.payload, dict):
        return None if in_blocks and _is_block(entry.payload) else entry.payload
    sense = sense_of(entry.ref_id) if entry.ref_id else None
    return {
        key: value
        for key, value in entry.payload.items()
        if value is not None and (key, value) != ("sense", sense) and not (in_blocks and _is_block(value))
    }


def _payload(entry: Log, payload: object) -> str:
    return f"{DAMAGED} {_pairs(payload)}" if isinstance(entry, DamagedLog) else _pairs(payload)


def _pairs(payload: object) -> str:
    if payload is None:
        return ""
    if not isinstance(payload, dict):
        return quoted(payload)
    return " ".join(f"{quoted(key)}={quoted(value)}" for key, value in payload.items())


def quoted(value: object) -> str:
    """Return a value as one word: a text itself, quoted if necessary, or the JSON of any other value."""
    if not isinstance(value, str):
        return escape(_encode(value).decode())
    if value and not _NEEDS_QUOTES.search(value):
        return value
    text = value.replace("\\", "\\\\").replace('"', '\\"')
    return escape(f'"{text}"')


def _is_block(value: object) -> bool:
    return isinstance(value, str) and "\n" in value


def blocks(payload: object) -> Iterator[str]:
    """Yield the multi-line values of a payload, such as tracebacks, escaped line by line."""
    for value in payload.values() if isinstance(payload, dict) else [payload]:
        if isinstance(value, str) and _is_block(value):
            yield "\n".join(escape(line.expandtabs(4)) for line in value.rstrip().split("\n"))


def _cut(parts: Sequence[_Part], width: int) -> Iterator[_Part]:
    if sum(columns(part.text) for part in parts) <= width:
        yield from parts
        return
    room = width - 1  # one column for the ellipsis
    for part in parts:
        fitting = _fitting(part.text, room)
        if fitting != part.text:
            yield replace(part, text=f"{fitting}…")
            return
        yield part
        room -= columns(fitting)


def _fitting(text: str, room: int) -> str:
    for n, char in enumerate(text):
        room -= _columns(char)
        if room < 0:
            return text[:n]
    return text


def _paint(part: _Part, view: View) -> str:
    if not (view.colour and part.text.strip() and (part.colour or part.dim)):
        return part.text
    return click.style(part.text, fg=part.colour, dim=part.dim or None)
