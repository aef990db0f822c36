"""Masking values under keys that name a secret."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.clock import Stamp
from nerve.errors import PayloadError
from nerve.events.catalog import from_sense
from nerve.events.payload import encode_payload
from nerve.events.redaction import MASK, Redactor, redactor_of, words_of

DEFAULTS = redactor_of(())
SECRET = "hunter2"


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "PASSWORD",
        "db_password",
        "dbPassword",
        "secret",
        "client-secret",
        "token",
        "accessToken",
        "api_key",
        "apiKey",
        "X-Api-Key",
        "APIKey",
        "apikey",
        "Authorization",
        "proxy.authorization",
    ],
)
def test_values_under_keys_that_contain_a_secrets_name_are_masked(key: str) -> None:
    """However the words of the key are joined."""
    assert json.loads(encode_payload({key: SECRET}, redactor=DEFAULTS)) == {key: MASK}


@pytest.mark.parametrize("key", ["tokenizer", "tokens", "secretary", "key", "api", "keyapi", "author", "passwordless"])
def test_values_under_other_keys_are_not_masked(key: str) -> None:
    """Only whole words of a key count."""
    assert json.loads(encode_payload({key: SECRET}, redactor=DEFAULTS)) == {key: SECRET}


def test_values_of_any_kind_are_masked_at_any_depth() -> None:
    """Lists and objects are masked as a whole; null is kept, as it says that there is no secret."""
    value = {"a": [{"token": {"deep": SECRET}}, {"b": {"secret": [SECRET]}}], "password": None, "n": 1}
    masked = {"a": [{"token": MASK}, {"b": {"secret": MASK}}], "password": None, "n": 1}
    assert json.loads(encode_payload(value, redactor=DEFAULTS)) == masked


def test_configured_names_are_masked_besides_the_default_ones() -> None:
    """A name may consist of several words."""
    redactor = Redactor(["ssn", "credit card"])
    value = {"ssn": 1, "creditCard": 2, "credit": 3, "token": 4}
    assert json.loads(encode_payload(value, redactor=redactor)) == {
        "ssn": MASK,
        "creditCard": MASK,
        "credit": 3,
        "token": MASK,
    }


@pytest.mark.parametrize("value", [{"password": SECRET, "x": float("nan")}, {"password": SECRET, "x": object()}])
def test_the_preview_of_a_refused_payload_shows_no_secret(value: object) -> None:
    """A description that might contain one is withheld."""
    with pytest.raises(PayloadError) as refused:
        encode_payload(value, redactor=DEFAULTS)
    assert SECRET not in refused.value.preview
    event = from_sense(Stamp(0, 0), "x/1", "t", value, redactor=DEFAULTS)
    assert SECRET not in event.payload


def test_the_preview_of_a_payload_that_is_too_large_shows_no_secret() -> None:
    """It is the beginning of the masked text."""
    with pytest.raises(PayloadError) as refused:
        encode_payload({"password": SECRET, "x": "y" * 100}, 50, DEFAULTS)
    assert SECRET not in refused.value.preview


keys = st.text(max_size=8) | st.sampled_from(["token", "apiKey", "tokenizer", "a_secret", "Authorization2"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


@given(values)
def test_the_fast_check_misses_nothing_that_would_be_masked(value: object) -> None:
    """Everything else is unchanged."""
    masked = json.loads(encode_payload(value, redactor=DEFAULTS))
    assert masked == DEFAULTS.masked(json.loads(encode_payload(value)))


@given(st.text())
def test_words_of_a_key_are_lower_case_and_without_separators(name: str) -> None:
    """Any text can be a key in JSON."""
    assert all(word and word == word.casefold() and "_" not in word for word in words_of(name))
