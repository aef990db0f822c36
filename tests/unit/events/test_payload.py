"""Encoding payloads: any value becomes JSON text or a PayloadError of one line, and no other exception."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.errors import PayloadError
from nerve.events.payload import DEFAULT_MAX_BYTES, MAX_DEPTH, PREVIEW_CHARS, encode_payload, preview, printable

NAN, INFINITY = math.nan, math.inf
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)
BAD_LEAVES = st.sampled_from([NAN, INFINITY, -INFINITY, 2**63, -(2**63) - 1, 10**30, "\ud800", b"x".decode, object()])


@dataclass
class Reading:
    """A value that a sense may return."""

    value: object


class Float(float):
    """A float as of numpy, with a text of its own."""

    def __repr__(self) -> str:
        return f"np.float64({float(self)})"

    __str__ = __repr__


class Int(int):
    """An integer of a library."""


class Text(str):
    """A text of a library."""

    __slots__ = ()


class Colour(Enum):
    """A key that is written as text."""

    RED = "1"


class Hostile:
    """An object whose `__repr__` is a given function."""

    def __init__(self, represent: Callable[[], str]) -> None:
        self._represent = represent

    def __repr__(self) -> str:
        return self._represent()


class Unset(msgspec.Struct):
    """A struct whose field is deleted."""

    field: int = 0


def refusal(value: object, max_bytes: int = DEFAULT_MAX_BYTES) -> PayloadError:
    """Return the error of encoding a value, after checking what holds for each."""
    with pytest.raises(PayloadError) as caught:
        encode_payload(value, max_bytes)
    for text in (caught.value.reason, caught.value.preview):
        assert text.isprintable()
    assert caught.value.reason
    assert len(caught.value.preview) <= PREVIEW_CHARS
    return caught.value


def nested(depth: int, innermost: object = 0) -> object:
    """Return `innermost` inside `depth` lists and dicts."""
    for level in range(depth):
        innermost = [innermost] if level % 2 else {"inner": innermost}
    return innermost


@given(JSON)
def test_every_json_value_is_decoded_to_itself(value: Any) -> None:
    """Finite floats, 64-bit integers and any text survive, also with the standard library's decoder."""
    text = encode_payload(value)
    assert msgspec.json.decode(text) == value
    assert json.loads(text) == value


@given(st.recursive(BAD_LEAVES, lambda inner: st.lists(inner, min_size=1) | st.dictionaries(TEXT, inner, min_size=1)))
def test_one_bad_value_at_any_depth_is_refused(value: object) -> None:
    """No other exception than PayloadError is raised."""
    refusal(value)


@pytest.mark.parametrize("number", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda number: number,
        lambda number: [1, [2, number]],
        lambda number: {"a": {"b": number}},
        lambda number: (None, number),
        lambda number: {number},
        lambda number: {"null": Reading({"deep": [number]})},
        lambda number: Enum("Level", {"HIGH": number}).HIGH,
    ],
)
def test_nan_and_infinities_are_refused_by_name(wrap: Callable[[float], object], number: float) -> None:
    """They are found in every kind of container."""
    assert refusal(wrap(number)).reason == f"{number} is not a JSON number"


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 10**18, -(10**18)])
def test_integers_of_64_bits_are_kept(number: int) -> None:
    """The smallest and the largest are exact."""
    assert encode_payload({"n": [number]}) == f'{{"n":[{number}]}}'


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 10**40])
@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: [n], lambda n: {"n": Reading(n)}])
def test_an_integer_beyond_64_bits_is_refused(wrap: Callable[[int], object], number: int) -> None:
    """With either sign."""
    assert refusal(wrap(number)).reason == "an integer beyond 64 bits"


def test_an_integer_with_thousands_of_digits_is_refused() -> None:
    """Python itself refuses to write it in decimal."""
    refusal({"n": 10**5000})


@pytest.mark.parametrize("value", [NAN, 2**63])
def test_a_number_as_a_key_results_in_valid_json_or_a_refusal(value: float) -> None:
    """The JSON never contains a key that is not text."""
    try:
        text = encode_payload({value: 1})
    except PayloadError:
        return
    assert list(json.loads(text).values()) == [1]


@pytest.mark.parametrize("value", ["null", "12345678901234567890", "NaN", ["null", None], {"null": None}, 1e300])
def test_text_that_looks_like_a_lossy_number_is_kept(value: object) -> None:
    """The fast check finds it, and the thorough one accepts it."""
    assert json.loads(encode_payload(value)) == value


@pytest.mark.parametrize("value", ["\ud800", {"\udc80": 1}, [{"a": "x\udfff"}], Reading("\ud800")])
def test_lone_surrogates_are_refused_in_values_and_keys(value: object) -> None:
    """They can't be written as UTF-8; the message says so."""
    assert "lone surrogate" in refusal(value).reason


def test_cycles_are_refused() -> None:
    """A list or dict that contains itself would be endless."""
    items: list[object] = []
    items.append(items)
    mapping: dict[str, object] = {}
    mapping["self"] = [mapping]
    for cycle in (items, mapping, Reading(items)):
        assert "cycle" in refusal(cycle).reason


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500, 990, 100_000])
def test_a_value_that_is_nested_too_deep_is_refused(depth: int) -> None:
    """The limit does not depend on the stack: a reader may have less of it left than the writer."""
    assert "nest" in refusal(nested(depth)).reason


def test_nesting_up_to_the_limit_is_kept() -> None:
    """The limit is exact, and brackets side by side do not count towards it."""
    assert json.loads(encode_payload(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    wide = [{"a": [n]} for n in range(1000)]
    assert json.loads(encode_payload(wide)) == wide


@pytest.mark.parametrize("value", [object(), (n for n in ()), print, {1: {(1, 2): 3}}, {(): 1}, type("a\nb", (), {})()])
def test_objects_that_are_not_data_are_refused(value: object) -> None:
    """Objects, generators, functions and unusual keys, whatever the name of their type is."""
    refusal(value)


def test_dataclasses_datetimes_uuids_sets_and_tuples_are_converted() -> None:
    """Each has its usual form in JSON."""
    value = {
        "at": datetime(2026, 11, 23, tzinfo=UTC),
        "id": UUID(int=7),
        "all": {1},
        "pair": (1, 2),
        "is": Reading(None),
    }
    assert json.loads(encode_payload(value)) == {
        "at": "2026-11-23T00:00:00Z",
        "id": "00000000-0000-0000-0000-000000000007",
        "all": [1],
        "pair": [1, 2],
        "is": {"value": None},
    }


def test_any_error_of_the_encoder_is_a_payload_error() -> None:
    """A struct without its field, and raw bytes that are not text, make it raise unusual ones."""
    unset = Unset()
    del unset.field
    refusal(unset)
    refusal(msgspec.Raw(b"\xff"))


@pytest.mark.parametrize("text", ["x" * 100, "é" * 50, "漢" * 33, "😀" * 25])
def test_the_size_limit_is_exact_in_bytes(text: str) -> None:
    """Characters of several bytes count as their bytes."""
    size = len(text.encode()) + 2
    assert encode_payload(text, size) == f'"{text}"'
    assert refusal(text, size - 1).reason == f"is {size}B, more than logs.max_payload ({size - 1}B)"


def raises(error: BaseException) -> Callable[[], str]:
    """Return a function that raises this."""

    def represent() -> str:
        raise error

    return represent


@pytest.mark.parametrize("error", [ValueError("no"), RecursionError(), SystemExit(3), MemoryError()])
def test_the_preview_of_an_object_whose_repr_raises_names_its_type(error: BaseException) -> None:
    """And the exception, whatever that is."""
    assert refusal(Hostile(raises(error))).preview == f"<Hostile, whose repr raises {type(error).__name__}>"


@pytest.mark.parametrize("text", ["\ud800" * 1000, "\x1b[31m\r\n\x00", "\u2028\x85", "x" * 10_000_000, "", "😀" * 300])
def test_a_preview_is_short_and_printable_for_any_repr(text: str) -> None:
    """Surrogates and control characters are escaped, and long texts are cut."""
    shown = refusal([Hostile(lambda: text)]).preview
    assert shown.encode()


def test_the_preview_of_a_payload_that_is_too_large_is_its_beginning() -> None:
    """It helps to find out where the payload comes from."""
    assert refusal({"log": "é" * 1000 + "\x7f"}, 100).preview.startswith('{"log":"éé')
    refusal("\x7f" * 1000, 100)


@given(st.text())
def test_printable_escapes_only_what_is_not_printable(text: str) -> None:
    """The result can be shown on any terminal."""
    shown = printable(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


@given(st.binary() | JSON)
def test_a_preview_of_any_value_has_limited_length(value: object) -> None:
    """It has at most PREVIEW_CHARS characters."""
    assert len(preview(value)) <= PREVIEW_CHARS


# What `json.dumps` takes.

KEYS = TEXT | INT64 | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False).map(Float)
KEYS |= st.sampled_from(["true", "null", "1", "0.5", Text("x"), Int(3), Float(0.5)])
SCALARS = st.none() | st.booleans() | INT64 | INT64.map(Int) | TEXT.map(Text)
SCALARS |= st.floats(allow_nan=False, allow_infinity=False).map(Float)
DUMPABLE = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=10)


@given(DUMPABLE)
def test_what_json_dumps_takes_is_stored_as_it_would_write_it(value: object) -> None:
    """Unless a key would be there twice."""
    text = json.dumps(value)
    pairs: list[bool] = []
    expected = json.loads(
        text, object_pairs_hook=lambda found: pairs.append(len(dict(found)) < len(found)) or dict(found)
    )
    if any(pairs):
        assert "two keys of one object are both " in refusal(value).reason
    else:
        assert json.loads(encode_payload(value)) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Float(1.5), "1.5"),
        ({"used": Float(0.93), "n": Int(3), "s": Text("x")}, '{"used":0.93,"n":3,"s":"x"}'),
        ({True: 1, None: 2, 3: 4, 0.5: 5}, '{"true":1,"null":2,"3":4,"0.5":5}'),
        ({Int(1): 1, Float(1.5): 2}, '{"1":1,"1.5":2}'),
        (Reading(Float(1.5)), '{"value":1.5}'),
        ([Reading({None: Text("é")})], '[{"value":{"null":"é"}}]'),
        ({"a": {1: {2}}, "b": Float(1)}, '{"a":{"1":[2]},"b":1.0}'),
    ],
)
def test_subclasses_and_keys_of_simple_kinds_are_stored(value: object, text: str) -> None:
    """As numpy's float64 is one; also inside of what only msgspec converts."""
    assert encode_payload(value) == text


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({1: "a", "1": "b"}, "1"),
        ({"deep": [{"x": ({-5: 1, "-5": 2},)}]}, "-5"),
        ({True: 1, "true": 2}, "true"),
        ({None: 1, "null": 2}, "null"),
        ({0.5: 1, "0.5": 2}, "0.5"),
        (Reading({1: "a", "1": "b"}), "1"),
        ({date(2026, 1, 2): 1, "2026-01-02": 2}, "2026-01-02"),
        ({Colour.RED: 1, "1": 2}, "1"),
    ],
)
def test_two_keys_that_are_the_same_in_json_are_refused(value: object, key: str) -> None:
    """A reader would get one of the values, and nobody knows which."""
    assert refusal(value).reason == f'two keys of one object are both "{key}" in JSON'


def test_texts_as_keys_never_clash() -> None:
    """A key that ends in a digit is nothing unusual."""
    value = {"eth0": [{"p95": 1, "p99": 2}], "1": (1, None), "2": True}
    assert json.loads(encode_payload(value)) == {"eth0": [{"p95": 1, "p99": 2}], "1": [1, None], "2": True}


@pytest.mark.parametrize("value", [Float(NAN), {"x": Float(INFINITY)}, [{None: NAN}]])
def test_a_number_of_a_subclass_must_be_finite_as_well(value: object) -> None:
    """JSON has no other numbers."""
    assert "is not a JSON number" in refusal(value).reason
