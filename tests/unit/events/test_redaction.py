"""Masking values under keys that name a secret."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.clock import Stamp
from nerve.errors import PayloadError
from nerve.events.catalog import from_sense
from nerve.events.payload import encode_payload, encode_signal
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
        "passwords",
        "tokens",
        "secrets",
        "apiKeys",
        "API_KEYS",
        "password1",
        "token_2",
        "tokens2",
        "passwd",
        "pwd",
        "private_key",
        "privateKey",
        "ssh-private-keys",
        "cookie",
        "Set-Cookie",
        "cookies",
        "credentials",
        "credential",
        "auth",
        "basic_auth",
    ],
)
def test_values_under_keys_that_contain_a_secrets_name_are_masked(key: str) -> None:
    """However the words of the key are joined."""
    assert json.loads(encode_payload({key: SECRET}, redactor=DEFAULTS)) == {key: MASK}


@pytest.mark.parametrize(
    "key",
    [
        "tokenizer",
        "secretary",
        "key",
        "api",
        "keyapi",
        "author",
        "authors",
        "passwordless",
        "cookiecutter",
        "privately",
        "private",
        "oauthx",
        "pwdx",
        "1password1x",
        "secretss",
    ],
)
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
    value = {"ssn": 1, "creditCard": "2", "credit": "3", "token": "4", "ssns": [5], "is_ssn": True}
    assert json.loads(encode_payload(value, redactor=redactor)) == {
        "ssn": MASK,
        "creditCard": MASK,
        "credit": "3",
        "token": MASK,
        "ssns": MASK,
        "is_ssn": True,
    }


@pytest.mark.parametrize(
    "value",
    [
        {"token_count": 512},
        {"tokens": [1, 2.5, {"total": 3}], "max_tokens": 4},
        {"has_password": True, "auth": False, "cookie": None},
        {"secret": {"a": [], "b": {"c": None}}},
        {"name": "token", "value": 5},
        ["token", 5],
        ["token", "password"],
        ["password", "a", "b"],
        {"name": "tokenizer", "value": "bert"},
        {"name": "password", "length": "short"},
    ],
)
def test_what_can_be_no_secret_is_not_masked(value: object) -> None:
    """Numbers, true, false and null under the names that are always masked, and names themselves."""
    assert json.loads(encode_payload(value, redactor=DEFAULTS)) == value


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ([["Authorization", "Bearer x"], ["Accept", "*/*"]], [["Authorization", MASK], ["Accept", "*/*"]]),
        ([("Set-Cookie", SECRET)], [["Set-Cookie", MASK]]),
        ({"name": "password", "value": SECRET}, {"name": "password", "value": MASK}),
        ([{"Key": "DB_PASSWORD", "Value": SECRET}], [{"Key": "DB_PASSWORD", "Value": MASK}]),
        ({"header": "X-Api-Key", "values": [SECRET]}, {"header": "X-Api-Key", "values": MASK}),
    ],
)
def test_a_secret_that_a_value_names_is_masked(value: object, masked: object) -> None:
    """As in lists of headers, and of variables."""
    assert json.loads(encode_payload(value, redactor=DEFAULTS)) == masked


def test_a_signal_is_not_masked_and_a_refused_one_shows_no_secret() -> None:
    """It goes to other senses, which may need it; the error goes to the log."""
    value = {"page_token": SECRET}
    assert json.loads(encode_signal(value, 1000, DEFAULTS)) == value
    for refused, limit in (({**value, "x": object()}, 1000), (value, 5)):
        with pytest.raises(PayloadError) as refusal:
            encode_signal(refused, limit, DEFAULTS)
        assert SECRET not in refusal.value.preview


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


keys = st.text(max_size=8) | st.sampled_from(
    ["token", "apiKey", "tokenizer", "a_secret", "Authorization2", "api1_keys", "name", "value"]
)
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
