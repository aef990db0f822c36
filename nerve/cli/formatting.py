"""How an entry of the log looks: a line of text for a person or for a pipe, or a line of JSON."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Literal, TextIO
from unicodedata import category, east_asian_width

import click
import msgspec

from nerve.cli.moments import format_moment
from nerve.events.model import DamagedLog, Log
from nerve.ids import RUN_ID_DIGITS, sense_of
from nerve.store.jsonl import to_line

Level = Literal["ok", "warning", "error"]

COLOURS: dict[Level, str] = {"ok": "green", "warning": "yellow", "error": "red"}
ID_COLUMNS, NAME_COLUMNS, REF_COLUMNS = 6, 19, 20
ALIGNED_WIDTH = 100
"""From this width on there is room for columns; in a narrower terminal the payload needs it more."""

SHOWN_DIGITS = 6
"""The last digits of a run id: its first ones are the time, and alike for all runs of a minute."""

INDENT = "    "
DAMAGED = "(damaged)"
"""Stands before a payload that is no JSON, and is shown as the text that it is."""

_encode = msgspec.json.Encoder().encode
# What moves the cursor, colours, rings, breaks the line or turns its direction; and what no encoding can write.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_NEEDS_QUOTES = re.compile(rf'[\s"=\\]|{_UNSAFE.pattern}')
_ID = re.compile(rf"(.+/)?[0-9a-f]{{{RUN_ID_DIGITS - SHOWN_DIGITS}}}([0-9a-f]{{{SHOWN_DIGITS}}})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class View:
    """How entries are shown as text; `width` is the terminal's, in columns, or None for a pipe."""

    zone: tzinfo
    offset: bool = True
    width: int | None = None
    colour: bool = False


def view_of(stream: TextIO, zone: tzinfo, *, utc: bool = False) -> View:
    """Give the view for what reads `stream`: a terminal (as wide as it is just now), or a pipe."""
    if not stream.isatty():
        return View(zone)
    return View(zone, offset=utc, width=shutil.get_terminal_size().columns, colour=colours_wanted())


def colours_wanted() -> bool:
    """Tell whether a terminal is to have colours: not with NO_COLOR, nor when it can't."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a line, and the colour that it has."""

    text: str
    colour: str | None = None
    dim: bool = False


def json_line(entry: Log, *, terminal: bool = False) -> bytes:
    """Give the entry as the line of JSON that the archive has; for a `terminal`, with what could steer it escaped."""
    line = to_line(entry)
    return safe_json(line.removesuffix(b"\n")) + b"\n" if terminal else line


def safe_json(document: bytes) -> bytes:
    """Escape in JSON, as JSON does it, what could steer a terminal."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", document.decode()).encode()


def print_json(value: object) -> None:
    """Print a value as one line of JSON; at a terminal with what could steer it escaped."""
    document = msgspec.json.encode(value)
    click.echo(safe_json(document) if sys.stdout.isatty() else document)


def text_lines(entry: Log, view: View) -> str:
    """Give the entry as text that no control character gets through.

    For a pipe it is one line with everything whole: time, id, source/type, ref (`-` for none) and the payload. For
    a terminal it is a line cut to its width; only errors are shown whole, with their values of several lines below.
    """
    moment = format_moment(entry.ts, view.zone, offset=view.offset)
    if view.width is None:
        return f"{moment} {entry.id} {_name(entry)} {_ref(entry.ref_id)} {_said(entry, entry.payload)}".rstrip() + "\n"
    level = level_of(entry)
    is_error = level == "error"
    below = list(blocks(entry.payload)) if is_error else []
    parts = _parts(entry, moment, level, aligned=view.width >= ALIGNED_WIDTH)
    lines = ["".join(_paint(part, view) for part in (parts if is_error else _cut(parts, view.width)))]
    lines += [_paint(_Part(INDENT + line, dim=True), view) for block in below for line in block.split("\n")]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def level_of(entry: Log) -> Level | None:
    """Tell how bad an entry is; None for those that are neither good nor bad."""
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
    """Give what an entry is and says, in one line that no control character gets through."""
    return f"{_name(entry)} {_said(entry, _without_noise(entry, in_blocks=False))}".rstrip()


def escape(text: str) -> str:
    r"""Write each character that could steer a terminal as `\x1b` or `\u202e`, and each line break as `\n`."""
    return _UNSAFE.sub(_escaped, text)


def columns(text: str) -> int:
    """Count the columns that a text takes in a terminal."""
    return len(text) if text.isascii() else sum(_columns(char) for char in text)


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    return _SHORT_ESCAPES.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _columns(char: str) -> int:
    if category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if east_asian_width(char) in {"W", "F"} else 1


def _field(entry: Log, key: str) -> object:
    return entry.payload.get(key) if isinstance(entry.payload, dict) else None


def level_of_status(status: object) -> Level | None:
    """Tell how bad it is that a run ended so; None where that is no status."""
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
    """Give a ref as a terminal shows it: a run id by its last digits."""
    match = _ID.fullmatch(ref_id or "")
    return escape(f"{match[1] or ''}…{match[2]}") if match else _ref(ref_id)


def _parts(entry: Log, moment: str, level: Level | None, *, aligned: bool) -> list[_Part]:
    colour = COLOURS[level] if level else None
    number, name, ref = str(entry.id), _name(entry), short_ref(entry.ref_id)
    pairs = _said(entry, _without_noise(entry, in_blocks=level == "error"))
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
    """Leave out what a person sees anyway: nulls, the sense that the ref names, and what is shown in blocks."""
    if not isinstance(entry.payload, dict):
        return None if in_blocks and _is_block(entry.payload) else entry.payload
    sense = sense_of(entry.ref_id) if entry.ref_id else None
    return {
        key: value
        for key, value in entry.payload.items()
        if value is not None and (key, value) != ("sense", sense) and not (in_blocks and _is_block(value))
    }


def _said(entry: Log, payload: object) -> str:
    return f"{DAMAGED} {_pairs(payload)}" if isinstance(entry, DamagedLog) else _pairs(payload)


def _pairs(payload: object) -> str:
    if payload is None:
        return ""
    if not isinstance(payload, dict):
        return quoted(payload)
    return " ".join(f"{quoted(key)}={quoted(value)}" for key, value in payload.items())


def quoted(value: object) -> str:
    """Give a value as one word: its JSON or, of a text, the text, in quotes where it needs them."""
    if not isinstance(value, str):
        return escape(_encode(value).decode())
    if value and not _NEEDS_QUOTES.search(value):
        return value
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return escape(f'"{quoted}"')


def _is_block(value: object) -> bool:
    return isinstance(value, str) and "\n" in value


def blocks(payload: object) -> Iterator[str]:
    """Give those values of a payload that have several lines, such as tracebacks, escaped line by line."""
    for value in payload.values() if isinstance(payload, dict) else [payload]:
        if isinstance(value, str) and _is_block(value):
            yield "\n".join(escape(line.expandtabs(4)) for line in value.rstrip().split("\n"))


def _cut(parts: Sequence[_Part], width: int) -> Iterator[_Part]:
    if sum(columns(part.text) for part in parts) <= width:
        yield from parts
        return
    room = width - 1  # one column is for the ellipsis
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
