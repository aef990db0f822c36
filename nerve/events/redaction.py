"""Redaction: values under keys that name a secret are masked before they leave the process; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

ALWAYS_REDACTED = ("password", "secret", "token", "api_key", "authorization")
MASK = "***"
WITHHELD = "(not shown: it may hold a secret)"

_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS = re.compile(r"[\W_]+")


def words_of(name: str) -> tuple[str, ...]:
    """Split a key into its words, in lower case: `X-Api-Key`, `apiKey` and `api_key` all contain `api`, `key`."""
    return tuple(filter(None, _SEPARATORS.split(_WORD_STARTS.sub("_", name).casefold())))


class Redactor:
    """Masks the values of certain keys at any depth; it matches whole words, so `tokenizer` is not masked."""

    def __init__(self, names: Iterable[str]) -> None:
        """Mask keys that contain one of `names` or of ALWAYS_REDACTED."""
        self._names = {words_of(name) for name in (*ALWAYS_REDACTED, *names)} - {()}
        self._joined = {"".join(words) for words in self._names}
        alternatives = (r"[\W_]*".join(map(re.escape, words)) for words in sorted(self._names))
        self._suspicious = re.compile("|".join(alternatives), re.IGNORECASE)
        self._hints = sorted({max(words, key=len) for words in self._names})

    def suspects(self, text: str) -> bool:
        """Return False if a payload with this JSON text certainly has nothing to mask; fast, and usually False."""
        folded = text.casefold()
        for hint in self._hints:  # a regular expression with alternatives is tried at every character: ten times slower
            if hint in folded:
                return self._suspicious.search(text) is not None
        return False

    def names(self, key: str) -> bool:
        """Return True if the value under `key` is masked."""
        words = words_of(key)
        return any(
            word in self._joined or any(words[at : at + len(name)] == name for name in self._names)
            for at, word in enumerate(words)
        )

    def masked(self, value: Any) -> Any:
        """Return a copy of a JSON value (lists, objects with text keys, scalars) with every secret masked."""
        match value:
            case dict():
                return {key: self._under(key, inner) for key, inner in value.items()}
            case list():
                return [self.masked(inner) for inner in value]
            case _:
                return value

    def _under(self, key: str, value: Any) -> Any:
        return MASK if value is not None and self.names(key) else self.masked(value)


@lru_cache(maxsize=8)
def redactor_of(names: tuple[str, ...]) -> Redactor:
    """Return the redactor for the names of a configuration."""
    return Redactor(names)
