"""What people type to say which entries they want."""

from __future__ import annotations

import json
import re

import pytest

from nerve.store.filters import Filter, Match, parse_match, parse_matches, payload_text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("type=run_complete", ("type", "=", "run_complete")),
        ("sense!=disk-usage", ("sense", "!=", "disk-usage")),
        ("ref~=^cpu/", ("ref", "~=", "^cpu/")),
        ("source=", ("source", "=", "")),
        ("payload=null", ("payload", "=", "null")),
        ("payload.a.0.b=x=y!=z", ("payload.a.0.b", "=", "x=y!=z")),
        ("payload.what!now=1", ("payload.what!now", "=", "1")),
        ('payload."a=b ~= c".d!=1', ('payload."a=b ~= c".d', "!=", "1")),
        ("payload.text~=line one\nline two", ("payload.text", "~=", "line one\nline two")),
    ],
)
def test_a_match_is_read(text: str, parts: tuple[str, str, str]) -> None:
    """The first operator outside of quotes parts the field from the value."""
    assert parse_match(text) == parts


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("disk-usage", "'disk-usage' matches nothing: write FIELD=VALUE, FIELD!=VALUE or FIELD~=REGEX"),
        ("", "'' matches nothing"),
        ("=x", "'=x' matches nothing"),
        ("status!=ok", "'status' is no field: name source, type, ref, sense, payload or payload.PATH"),
        ("payload..a=1", "'payload..a' is no field"),
        ("payload.=1", "'payload.' is no field"),
        ("payloads=1", "'payloads' is no field"),
        ('payload."a=1', "matches nothing"),
        (
            "payload.exception~=Time(out",
            "payload.exception~=Time(out: that is not a valid regular expression: ",
        ),
    ],
)
def test_what_is_no_match_is_refused_in_one_line(text: str, says: str) -> None:
    """The line shows what was typed, and what can be."""
    with pytest.raises(ValueError, match=re.escape(says)) as told:
        parse_match(text)
    assert "\n" not in str(told.value)


def test_the_same_field_with_equals_twice_means_either() -> None:
    """Only `=` is merged: everything else must hold."""
    texts = ["type=a", "payload.n=1", "type!=c", "type=b", "type!=d"]
    assert parse_matches(texts) == (
        Match("type", "=", ("a", "b")),
        Match("payload.n", "=", ("1",)),
        Match("type", "!=", ("c",)),
        Match("type", "!=", ("d",)),
    )


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("payload", ()),
        ("payload.a.b", ("a", "b")),
        ("payload.tags.0", ("tags", "0")),
        ('payload."a b".c', ("a b", "c")),
        ('payload."a.b"', ("a.b",)),
        (r'payload."say \"hi\" \\"', ('say "hi" \\',)),
        ("payload.$[0]", ("$[0]",)),
        ("payload.ключ", ("ключ",)),
    ],
)
def test_a_path_is_cut_into_its_steps(path: str, steps: tuple[str, ...]) -> None:
    """Dots part steps; a quoted one may hold anything."""
    assert Match(path, "=", ("x",)).path == steps


DOCUMENT = json.dumps(
    {
        "n": 3,
        "big": 2**63,
        "f": 0.5,
        "ok": True,
        "x": None,
        "s": "text",
        "list": [1, {"k": "v"}],
        "0": "zero",
        "a.b": "dotted",
        'q"': "quote",
    }
)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("n", "3"),
        ("big", "9223372036854775808"),
        ("f", "0.5"),
        ("ok", "true"),
        ("x", "null"),
        ("s", "text"),
        ("list", '[1,{"k":"v"}]'),
        ("list.0", "1"),
        ("list.1.k", "v"),
        ("0", "zero"),
        ('"a.b"', "dotted"),
        (r'"q\""', "quote"),
        ("list.2", None),
        ("list.-1", None),
        ("list.k", None),
        ("list.٣", None),
        ("s.0", None),
        ("missing", None),
        ("a.b", None),
    ],
)
def test_the_text_of_a_value_is_its_json(path: str, text: str | None) -> None:
    """Of a text it is the text itself; numbers index lists; what isn't there has none."""
    steps = Match(f"payload.{path}", "=", ()).path
    assert steps is not None
    assert payload_text(DOCUMENT, steps) == text


def test_what_is_no_json_has_no_text() -> None:
    """A damaged payload is like one without the value."""
    assert payload_text("{", ()) is None


@pytest.mark.parametrize(
    ("match", "column", "accepted"),
    [
        (Match("type", "=", ("a", "b")), "b", True),
        (Match("type", "=", ("a", "b")), "c", False),
        (Match("type", "!=", ("a", "b")), "b", False),
        (Match("type", "~=", ("^run_", "start$")), "run_start", True),
        (Match("type", "~=", ("^run_", "start$")), "run_complete", False),
        (Match("sense", "=", ("cpu",)), "cpu/1", True),
        (Match("sense", "=", ("cpu",)), "cpu2/1", False),
        (Match("sense", "~=", ("1",)), "cpu/1", False),
        (Match("ref", "=", ("cpu",)), "cpu/1", False),
        (Match("ref", "=", ("null",)), None, False),
        (Match("ref", "!=", ("x",)), None, True),
        (Match("ref", "~=", ("",)), None, False),
        (Match("sense", "!=", ("x",)), None, True),
        (Match("payload.a", "=", ("null",)), '{"a":null}', True),
        (Match("payload.a", "=", ("null",)), "{}", False),
        (Match("payload.a", "!=", ("null",)), "{}", True),
        (Match("payload.a", "~=", (".*",)), "{}", False),
        (Match("payload", "~=", ("k.*v",)), '{"k": "v"}', True),
    ],
)
def test_what_is_missing_equals_nothing_and_always_differs(match: Match, column: str | None, accepted: bool) -> None:
    """The whole truth about the three operators."""
    assert match.accepts(column) is accepted


def test_an_unknown_operator_is_refused() -> None:
    """A Match can't be made wrong."""
    with pytest.raises(ValueError, match="'<' compares nothing"):
        Match("type", "<", ("a",))  # type: ignore[arg-type]


def test_a_negative_limit_is_refused() -> None:
    """It says what a limit can be."""
    with pytest.raises(ValueError, match="limit is -1: it must be 0 or more"):
        Filter(limit=-1)


def test_a_filter_asks_in_one_language() -> None:
    """Its simple fields are Matches like those that were typed."""
    wanted = Filter(source="a", ref_id="r", sense="s", matches=(Match("type", "!=", ("t",)),))
    assert wanted.demands == (
        Match("source", "=", ("a",)),
        Match("ref", "=", ("r",)),
        Match("sense", "=", ("s",)),
        Match("type", "!=", ("t",)),
    )
    assert wanted.exact("type") is None
    assert wanted.exact("ref") == Match("ref", "=", ("r",))
