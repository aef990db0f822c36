"""Filter, Match, and the syntax of matches."""

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
def test_match_is_parsed(text: str, parts: tuple[str, str, str]) -> None:
    """The first operator outside of quotes separates the field from the value."""
    assert parse_match(text) == parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("disk-usage", "'disk-usage' is not a filter: write FIELD=VALUE, FIELD!=VALUE or FIELD~=REGEX"),
        ("", "'' is not a filter"),
        ("=x", "'=x' is not a filter"),
        ("status!=ok", "unknown field 'status': use source, type, ref, sense, payload or payload.PATH"),
        ("payload..a=1", "unknown field 'payload..a'"),
        ("payload.=1", "unknown field 'payload.'"),
        ("payloads=1", "unknown field 'payloads'"),
        ('payload."a=1', "is not a filter"),
        ("payload.exception~=Time(out", "payload.exception~=Time(out: invalid regular expression: missing )"),
    ],
)
def test_invalid_match_raises_value_error(text: str, message: str) -> None:
    """The message is one line with the text and the valid syntax."""
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_match(text)
    assert "\n" not in str(caught.value)


def test_repeated_equality_means_either_value() -> None:
    """Only `=` is merged: all other conditions must hold."""
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
def test_path_is_split_into_steps(path: str, steps: tuple[str, ...]) -> None:
    """Dots separate steps; a quoted step may contain any characters."""
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
def test_payload_text_is_json_or_the_text_itself(path: str, text: str | None) -> None:
    """Numbers index lists; a missing value is None."""
    steps = Match(f"payload.{path}", "=", ()).path
    assert steps is not None
    assert payload_text(DOCUMENT, steps) == text


def test_payload_text_of_invalid_json_is_none() -> None:
    """A damaged payload is treated like one without the value."""
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
def test_match_accepts_a_column(match: Match, column: str | None, accepted: bool) -> None:
    """This covers all three operators; a missing value equals nothing, and differs from everything."""
    assert match.accepts(column) is accepted


def test_unknown_operator_raises_value_error() -> None:
    """A Match is checked when it is created."""
    with pytest.raises(ValueError, match="unknown operator '<'"):
        Match("type", "<", ("a",))  # type: ignore[arg-type]


def test_negative_limit_raises_value_error() -> None:
    """The message has the valid values."""
    with pytest.raises(ValueError, match="limit is -1: it must be 0 or more"):
        Filter(limit=-1)


def test_conditions_of_a_filter_are_matches() -> None:
    """Its simple fields become Matches."""
    entries = Filter(source="a", ref_id="r", sense="s", matches=(Match("type", "!=", ("t",)),))
    assert entries.conditions == (
        Match("source", "=", ("a",)),
        Match("ref", "=", ("r",)),
        Match("sense", "=", ("s",)),
        Match("type", "!=", ("t",)),
    )
    assert entries.exact("type") is None
    assert entries.exact("ref") == Match("ref", "=", ("r",))
