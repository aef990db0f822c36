"""Entries as lines of JSON."""

from __future__ import annotations

import msgspec
import pytest

from nerve.events.model import Log
from nerve.store.jsonl import from_line, to_line, to_lines

LINE = b'{"id":1,"source":"reflex","type":"run_start","ref_id":"a/1","payload":{"n":1.50},"ts":1700000000000}\n'


def test_line_is_compact_json_in_the_order_of_the_columns() -> None:
    """A raw payload is copied unchanged."""
    entry = Log(1, "reflex", "run_start", "a/1", msgspec.Raw(b'{"n":1.50}'), 1700000000000)
    assert to_line(entry) == LINE


@pytest.mark.parametrize("payload", [None, {"a": [1, "é\n", True]}, "text", 0.5])
def test_line_is_decoded(payload: object) -> None:
    """This holds for any payload, and without a ref_id."""
    entry = Log(7, "sense", "x", None, payload, 5)
    assert to_line(entry).count(b"\n") == 1
    assert from_line(to_line(entry)) == entry


def test_to_lines_equals_to_line_for_each() -> None:
    """Each line has its end."""
    entries = [Log(n, "sense", "x", None, {"n": n}, 5) for n in range(3)]
    assert to_lines(entries) == b"".join(map(to_line, entries))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        LINE[:-1],
        LINE[:40],
        LINE.replace(b'"id":1', b'"id":"1"'),
        LINE.replace(b'"ts"', b'"when"'),
        LINE.replace(b"1.50", b"oops"),
        LINE.replace(b"reflex", b"\xff\xfe"),
    ],
)
def test_invalid_line_raises_value_error(line: bytes) -> None:
    """Every kind of damage raises the same type."""
    with pytest.raises(ValueError, match=r".+"):
        from_line(line)
