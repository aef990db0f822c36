"""Entries as lines of JSON: the output of `nerve logs --json`, and the format of archive files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from nerve.events.model import Log
from nerve.store.schema import Row


class ArchivedLog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry as a line of the archive has it, with an undecoded payload."""

    id: int
    source: str
    type: str
    ref_id: str | None
    payload: msgspec.Raw
    ts: int


_encoder = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(ArchivedLog).decode


def to_line(entry: Log) -> bytes:
    """Encode an entry as one line; a payload that is a msgspec.Raw is copied unchanged."""
    return _encoder.encode(entry) + b"\n"


def to_lines(entries: Iterable[Log]) -> bytes:
    """Encode entries as `to_line` does, one after the other: for many entries it takes half the time."""
    return _encoder.encode_lines(entries)


def from_line(line: bytes) -> Log:
    """Decode a line that `to_line` wrote. Raises ValueError for any other, such as a line without a line end."""
    number, source, kind, ref_id, text, ts = row_of(line)
    payload: Any = msgspec.json.decode(text)
    return Log(number, source, kind, ref_id, payload, ts)


def row_of(line: bytes) -> Row:
    """Decode a line to a row, with its payload as JSON text. Raises ValueError as `from_line` does."""
    if not line.endswith(b"\n"):
        raise ValueError("the line has no end")
    entry = _decode(line)
    return entry.id, entry.source, entry.type, entry.ref_id, bytes(entry.payload).decode(), entry.ts


def undecoded(row: Row) -> Log:
    """Return a row as an entry with its payload as msgspec.Raw, on one line; invalid JSON becomes a JSON string."""
    number, source, kind, ref_id, payload, ts = row
    try:
        text = msgspec.json.format(payload, indent=-1)
    except msgspec.DecodeError:
        text = msgspec.json.encode(payload).decode()
    return Log(number, source, kind, ref_id, msgspec.Raw(text), ts)
