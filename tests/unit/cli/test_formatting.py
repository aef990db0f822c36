"""Formats of entries: for a pipe, for a terminal and as JSON, and the escaping of control characters."""

from __future__ import annotations

import re
from datetime import UTC, timedelta, timezone
from unicodedata import category

import click
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.cli.console import View
from nerve.cli.formatting import Level, columns, json_line, level_of, text_lines
from nerve.escaping import escape
from nerve.events.model import Log

CET = timezone(timedelta(hours=1))
RUN = "disk-usage/01936f0e9c7b7a3c8f21c0ffee123456"
TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in compute\n\tboom()\nValueError: no\n'

PIPE = View(CET)
TERMINAL = View(CET, offset=False, width=100)
COLOURED = View(CET, offset=False, width=100, colour=True)

STEERING = {*map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F)), *"\u2028\u2029"} | {
    *map(chr, (*range(0x202A, 0x202F), *range(0x2060, 0x2070), *range(0x180B, 0x180F), *range(0xFFF9, 0xFFFC))),
    *map(chr, range(0xE0000, 0xE0080)),
    *"\xad\u115f\u1160\u200b\u200c\u200d\u3164\ufeff\uffa0",
}
nasty_text = st.text(st.characters(codec="utf-8") | st.sampled_from(sorted(STEERING)))
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
payloads = st.recursive(
    st.none() | st.booleans() | numbers | nasty_text,
    lambda inner: st.lists(inner) | st.dictionaries(nasty_text, inner),
    max_leaves=8,
)
kinds = st.sampled_from([("system", "error"), ("reflex", "run_complete"), ("logging", "warning")])
entries = st.builds(
    lambda kind, **others: Log(source=kind[0], type=kind[1], **others),
    kinds | st.tuples(nasty_text, nasty_text),
    id=st.integers(1, 2**63 - 1),
    ref_id=st.none() | nasty_text | st.just(RUN),
    payload=payloads,
    ts=st.integers(-(2**53), 2**53),
)


def entry(source: str = "sense", type: str = "reading", ref: str | None = RUN, payload: object = None) -> Log:
    """Return an entry with a fixed time."""
    return Log(42, source, type, ref, payload, 1_795_424_400_123)


def test_json_is_one_compact_line_with_keys_in_the_order_of_the_columns() -> None:
    """It is the format of the archive."""
    log = Log(1, "reflex", "run_start", RUN, {"sense": "disk-usage", "cause": None}, 1_700_000_000_000)
    assert json_line(log) == (
        b'{"id":1,"source":"reflex","type":"run_start","ref_id":"' + RUN.encode() + b'",'
        b'"payload":{"sense":"disk-usage","cause":null},"ts":1700000000000}\n'
    )


@given(entries)
def test_json_for_a_terminal_is_the_same_value_without_control_characters(log: Log) -> None:
    """Control characters are written as JSON escapes."""
    for_terminal = json_line(log, terminal=True)
    assert msgspec.json.decode(for_terminal, type=Log) == msgspec.json.decode(json_line(log), type=Log)
    assert not STEERING & {*for_terminal.decode()[:-1]}


def test_a_pipe_gets_a_complete_line_of_words() -> None:
    """The first four words are the time with its offset, id, source/type and full ref; the payload's pairs follow."""
    payload = {
        "used": 0.93,
        "mount": "/",
        "ok": True,
        "none": None,
        "nested": {"a": [1, "b c"]},
        "note": 'a "b" = c\\d',
    }
    assert text_lines(entry(payload=payload), PIPE) == (
        f"2026-11-23T10:00:00.123+01:00 42 sense/reading {RUN} used=0.93 mount=/ ok=true none=null "
        'nested={"a":[1,"b c"]} note="a \\"b\\" = c\\\\d"\n'
    )


@pytest.mark.parametrize(
    ("payload", "shown"), [(None, ""), (3, " 3"), ("", ' ""'), ("two words", ' "two words"'), ([], " []"), ({}, "")]
)
def test_a_payload_that_is_not_an_object_is_shown_as_its_value(payload: object, shown: str) -> None:
    """Null is shown as nothing, and a missing ref as a dash."""
    expected = f"2026-11-23T09:00:00.123+00:00 42 sense/reading -{shown}\n"
    assert text_lines(entry(ref=None, payload=payload), View(UTC)) == expected


@given(entries)
def test_a_pipe_gets_one_line_per_entry(log: Log) -> None:
    """Line breaks of every kind are escaped, and the second word is always the id."""
    text = text_lines(log, PIPE)
    assert text.splitlines() == [text[:-1]]
    assert text.split(" ", 2)[1] == str(log.id)


@given(entries, st.integers(1, 200))
def test_no_control_character_of_an_entry_is_printed(log: Log, width: int) -> None:
    """In a pipe and on a terminal the only control characters are our line breaks, and the text can be encoded."""
    for view in (PIPE, View(CET, width=width), View(CET, width=width, offset=False)):
        text = text_lines(log, view)
        assert not STEERING & {*text.replace("\n", "")}
        assert not {category(char) for char in text.replace("\n", "")} & {"Cc", "Zl", "Zp", "Cs"}
        text.encode()


@given(entries)
def test_colours_do_not_change_the_text(log: Log) -> None:
    """The only escape sequences are colours, around the same text as without them."""
    coloured = text_lines(log, COLOURED)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == text_lines(log, TERMINAL)
    assert "\x1b" not in click.unstyle(coloured)


@given(entries.filter(lambda log: level_of(log) != "error"), st.integers(1, 200))
def test_a_terminal_gets_one_line_within_its_width(log: Log, width: int) -> None:
    """Only errors may take more than one line."""
    text = text_lines(log, View(CET, width=width))
    assert text.count("\n") == 1
    assert columns(text[:-1]) <= width


def test_a_line_for_a_terminal_is_aligned_and_without_redundant_values() -> None:
    """The run id is cut to its last digits; nulls and the sense that the ref names are omitted."""
    start = entry(
        "reflex", "run_start", payload={"sense": "disk-usage", "trigger": "interval", "cause": None, "skipped": 0}
    )
    log = entry(payload={"sense": "another", "used": 0.93})
    assert text_lines(start, TERMINAL) + text_lines(log, TERMINAL) == (
        "2026-11-23 10:00:00.123     42 reflex/run_start    disk-usage/…123456   trigger=interval skipped=0\n"
        "2026-11-23 10:00:00.123     42 sense/reading       disk-usage/…123456   sense=another used=0.93\n"
    )


def test_a_line_that_is_too_long_ends_in_an_ellipsis() -> None:
    """The cut is in columns: a wide character counts for two, and is not halved."""
    narrow = text_lines(entry(payload={"text": "x" * 200}), TERMINAL)
    wide = text_lines(entry(payload={"text": "漢" * 200}), TERMINAL)
    assert narrow.endswith("xxx…\n")
    assert columns(narrow[:-1]) == 100
    assert wide.endswith("漢…\n")
    assert columns(wide[:-1]) in {99, 100}


def test_a_terminal_gets_a_complete_error_with_its_traceback_below() -> None:
    """The line is not cut, and multi-line values follow, indented."""
    payload = {"kind": "compute", "message": "m" * 100, "exception": "ValueError", "traceback": TRACEBACK}
    first, *rest = text_lines(entry("system", "error", payload=payload), TERMINAL).splitlines()
    assert first.endswith(f"kind=compute message={'m' * 100} exception=ValueError")
    assert rest == [
        "    Traceback (most recent call last):",
        '      File "a.py", line 1, in compute',
        "        boom()",
        "    ValueError: no",
    ]


def test_a_pipe_gets_an_error_in_one_line() -> None:
    """A traceback is a quoted value of the line, so that grep finds the entry."""
    text = text_lines(entry("system", "error", payload={"traceback": "a\n  b\n"}), PIPE)
    assert text.endswith(' traceback="a\\n  b\\n"\n')


def test_an_error_that_is_a_multi_line_string_is_shown_once() -> None:
    """A multi-line payload that is not an object is shown below the line as well."""
    assert text_lines(entry("logging", "error", None, "a\nb"), TERMINAL).splitlines()[1:] == ["    a", "    b"]


@pytest.mark.parametrize(
    ("source", "type", "payload", "level"),
    [
        ("system", "error", {}, "error"),
        ("system", "events_dropped", {}, "warning"),
        ("system", "config_reload", {"ok": False}, "error"),
        ("system", "sense_reload", {"ok": True}, None),
        ("system", "start", {}, None),
        ("logging", "critical", {}, "error"),
        ("logging", "error", {}, "error"),
        ("logging", "warning", {}, "warning"),
        ("logging", "info", {}, None),
        ("reflex", "run_start", {}, None),
        ("reflex", "run_complete", {"status": "ok"}, "ok"),
        ("reflex", "run_complete", {"status": "cancelled"}, "warning"),
        *(("reflex", "run_complete", {"status": s}, "error") for s in ("error", "timeout", "died", "lost")),
        ("reflex", "run_complete", "odd", None),
        ("sense", "error", {}, None),
    ],
)
def test_each_kind_of_entry_has_its_level(source: str, type: str, payload: object, level: Level | None) -> None:
    """The names of a sense's own types do not affect the level."""
    assert level_of(entry(source, type, payload=payload)) == level


@pytest.mark.parametrize(("type", "code"), [("error", 31), ("warning", 33)])
def test_errors_and_warnings_are_coloured(type: str, code: int) -> None:
    """Errors are red and warnings yellow."""
    assert f"\x1b[{code}m logging/{type}" in text_lines(entry("logging", type), COLOURED)


def test_the_end_of_a_run_is_coloured_by_its_status() -> None:
    """Successful runs are green, failed ones red."""
    ok, failed = (
        text_lines(entry("reflex", "run_complete", payload={"status": status}), COLOURED) for status in ("ok", "died")
    )
    assert "\x1b[32m reflex/run_complete" in ok
    assert "\x1b[31m reflex/run_complete" in failed


@given(nasty_text)
def test_escaping_changes_only_control_characters(text: str) -> None:
    """Text without them stays the same, and so does text that has been escaped already."""
    escaped = escape(text)
    assert escape(escaped) == escaped
    if not STEERING & {*text}:
        assert escaped == text


def test_escapes_have_the_form_of_python_escapes() -> None:
    """A reader can recognise the original character."""
    assert escape("\x1b[31m\x07\x9b\x7f\n\t\u202e\u2028\ud800é") == r"\x1b[31m\x07\x9b\x7f\n\t\u202e\u2028\ud800é"
