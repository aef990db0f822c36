"""Redaction: values under keys that name a secret are masked before they leave the process; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

ALWAYS_REDACTED = (
    "password", "passwd", "pwd", "secret", "token", "api_key", "private_key", "credential", "cookie",
    "auth", "authorization",
)  # fmt: skip
"""Also in the plural, and with a number behind: `passwords`, `token2`."""

MASK = "***"
WITHHELD = "(not shown: it may hold a secret)"

NAME_KEYS = frozenset({"name", "key", "header", "field", "variable", "parameter"})
VALUE_KEYS = frozenset({"value", "values"})
"""A secret may also be named by a value: `{"name": "password", "value": "..."}`."""

_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS = re.compile(r"[\W_]+")
_ENDING = re.compile(r"s?[0-9]*")
_BETWEEN_WORDS = r"s?[0-9]*[\W_]*"


def words_of(name: str) -> tuple[str, ...]:
    """Split a key into its words, in lower case: `X-Api-Key`, `apiKey` and `api_key` all contain `api`, `key`."""
    return tuple(filter(None, _SEPARATORS.split(_WORD_STARTS.sub("_", name).casefold())))


class Redactor:
    """Masks the values of certain keys at any depth; it matches whole words, so `tokenizer` is not masked.

    Texts are masked, and lists and objects that contain a text. Numbers are masked only under a name that was given:
    `token_count` is not secret, but a `pin` may be. True, false and null are never masked.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Mask keys that contain one of `names` or of ALWAYS_REDACTED."""
        self._given = _Names(names)
        self._all = _Names((*ALWAYS_REDACTED, *names))

    def suspects(self, text: str) -> bool:
        """Return False if a payload with this JSON text certainly has nothing to mask; fast, and usually False."""
        return self._all.may_be_in(text)

    def names(self, key: str) -> bool:
        """Return True if the value under `key` is masked, unless it is of a kind that can't be secret."""
        return self._all.match(key)

    def masked(self, value: Any) -> Any:
        """Return a copy of a JSON value (lists, objects with text keys, scalars) with every secret masked."""
        match value:
            case dict():
                named = self._named_by_value(value)
                return {
                    key: self._under(named if named and key.casefold() in VALUE_KEYS else key, inner)
                    for key, inner in value.items()
                }
            case [str() as name, str() as text] if self.names(name) and not self.names(text):
                return [name, MASK]  # a header, for example
            case list():
                return [self.masked(inner) for inner in value]
            case _:
                return value

    def _under(self, key: str, value: Any) -> Any:
        if not self.names(key):
            return self.masked(value)
        if _contains(str, value) or (_contains(int | float, value) and self._given.match(key)):
            return MASK
        return value

    def _named_by_value(self, value: Mapping[str, Any]) -> str | None:
        names = (name for key, name in value.items() if isinstance(name, str) and key.casefold() in NAME_KEYS)
        return next(filter(self.names, names), None)


class _Names:
    """The names of secrets, each of one or more words."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {words_of(name) for name in names} - {()}
        self._joined = {"".join(words) for words in self._names}
        alternatives = (_BETWEEN_WORDS.join(map(re.escape, words)) for words in sorted(self._names))
        self._pattern = re.compile("|".join(alternatives), re.IGNORECASE)
        longest = {max(words, key=len) for words in self._names}
        self._hints = [hint for hint in sorted(longest) if not any(other in hint for other in longest - {hint})]

    def may_be_in(self, text: str) -> bool:
        """Return False if no key of a JSON text can match."""
        folded = text.casefold()
        for hint in self._hints:  # a regular expression with alternatives is tried at every character: ten times slower
            if hint in folded:
                return self._pattern.search(text) is not None
        return False

    def match(self, key: str) -> bool:
        """Return True if a key contains one of the names."""
        words = words_of(key)
        if any(_is(word, name) for word in words for name in self._joined):
            return True
        return any(all(map(_is, words[at:], name)) for name in self._names for at in range(len(words) - len(name) + 1))


def _is(word: str, name: str) -> bool:
    """Return True if a word is a name, in the plural or with a number behind as well."""
    return word.startswith(name) and _ENDING.fullmatch(word, len(name)) is not None


def _contains(kind: Any, value: Any) -> bool:
    match value:
        case bool() | None:
            return False
        case dict():
            return any(_contains(kind, inner) for inner in value.values())
        case list():
            return any(_contains(kind, inner) for inner in value)
        case _:
            return isinstance(value, kind)


@lru_cache(maxsize=8)
def redactor_of(names: tuple[str, ...]) -> Redactor:
    """Return the redactor for the names of a configuration."""
    return Redactor(names)
