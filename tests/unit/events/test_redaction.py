"""Masking what stands under the names of secrets."""

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
def test_keys_that_hold_the_name_of_a_secret_are_masked(key: str) -> None:
    """However its words are joined, a key that names a secret is found."""
    assert json.loads(encode_payload({key: SECRET}, redactor=DEFAULTS)) == {key: MASK}


@pytest.mark.parametrize("key", ["tokenizer", "tokens", "secretary", "key", "api", "keyapi", "author", "passwordless"])
def test_innocent_keys_are_left_alone(key: str) -> None:
    """Only whole words count."""
    assert json.loads(encode_payload({key: SECRET}, redactor=DEFAULTS)) == {key: SECRET}


def test_secrets_are_masked_at_any_depth_whatever_they_are() -> None:
    """Lists and objects under such a key vanish whole; null stays, for it says that there is none."""
    value = {"a": [{"token": {"deep": SECRET}}, {"b": {"secret": [SECRET]}}], "password": None, "n": 1}
    masked = {"a": [{"token": MASK}, {"b": {"secret": MASK}}], "password": None, "n": 1}
    assert json.loads(encode_payload(value, redactor=DEFAULTS)) == masked


def test_names_of_ones_own_come_on_top_of_the_usual_ones() -> None:
    """What nerve.yaml names is masked too; the defaults stay."""
    redactor = Redactor(["ssn", "credit card"])
    value = {"ssn": 1, "creditCard": 2, "credit": 3, "token": 4}
    assert json.loads(encode_payload(value, redactor=redactor)) == {
        "ssn": MASK,
        "creditCard": MASK,
        "credit": 3,
        "token": MASK,
    }


@pytest.mark.parametrize("value", [{"password": SECRET, "x": float("nan")}, {"password": SECRET, "x": object()}])
def test_a_refused_payload_shows_no_secret_in_its_preview(value: object) -> None:
    """Where a description might hold a secret, it is withheld."""
    with pytest.raises(PayloadError) as refused:
        encode_payload(value, redactor=DEFAULTS)
    assert SECRET not in refused.value.preview
    event = from_sense(Stamp(0, 0), "x/1", "t", value, redactor=DEFAULTS)
    assert SECRET not in event.payload


def test_a_payload_that_is_too_large_shows_no_secret_either() -> None:
    """The preview is cut from the masked text."""
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
def test_nothing_under_a_secret_key_ever_gets_through(value: object) -> None:
    """The quick look at the text never misses what the careful one would mask; all else is unchanged."""
    masked = json.loads(encode_payload(value, redactor=DEFAULTS))
    assert masked == DEFAULTS.masked(json.loads(encode_payload(value)))


@given(st.text())
def test_words_are_lower_case_and_hold_no_separators(name: str) -> None:
    """Any text can be a key."""
    assert all(word and word == word.casefold() and "_" not in word for word in words_of(name))
