"""Entries as lines of JSON: what `nerve logs --json` prints, and what the archive is made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from nerve.events.model import Log
from nerve.store.schema import Row


class ArchivedLog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry as a line of the archive tells it, with its payload as it stands there."""

    id: int
    source: str
    type: str
    ref_id: str | None
    payload: msgspec.Raw
    ts: int


_encoder = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(ArchivedLog).decode


def to_line(entry: Log) -> bytes:
    """Write an entry as one line; a payload that is a msgspec.Raw goes in as it is."""
    return _encoder.encode(entry) + b"\n"


def to_lines(entries: Iterable[Log]) -> bytes:
    """Write entries as `to_line` does, one after the other: with many of them it takes half as long."""
    return _encoder.encode_lines(entries)


def from_line(line: bytes) -> Log:
    """Read a line that `to_line` wrote; raises ValueError for anything else, such as a line without its end."""
    number, source, kind, ref_id, text, ts = row_of(line)
    payload: Any = msgspec.json.decode(text)
    return Log(number, source, kind, ref_id, payload, ts)


def row_of(line: bytes) -> Row:
    """Read a line as the row that it was, with its payload as JSON text; raises ValueError as `from_line` does."""
    if not line.endswith(b"\n"):
        raise ValueError("it doesn't end where a line ends")
    found = _decode(line)
    return found.id, found.source, found.type, found.ref_id, bytes(found.payload).decode(), found.ts


def undecoded(row: Row) -> Log:
    """Make an entry of a row, with its payload as msgspec.Raw, on one line; what is no JSON becomes the JSON of it."""
    number, source, kind, ref_id, payload, ts = row
    try:
        text = msgspec.json.format(payload, indent=-1)
    except msgspec.DecodeError:
        text = msgspec.json.encode(payload).decode()
    return Log(number, source, kind, ref_id, msgspec.Raw(text), ts)
