"""Redaction: what stands under the name of a secret is masked before it leaves the process; pure."""

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
    """Divide a key's name into its words, in lower case: `X-Api-Key`, `apiKey` and `api_key` all hold api, key."""
    return tuple(filter(None, _SEPARATORS.split(_WORD_STARTS.sub("_", name).casefold())))


class Redactor:
    """Masks the values of certain keys at any depth, matched on whole words, so that `tokenizer` is left alone."""

    def __init__(self, names: Iterable[str]) -> None:
        """Mask keys whose name holds one of `names`, and those that are ALWAYS_REDACTED."""
        self._names = {words_of(name) for name in (*ALWAYS_REDACTED, *names)} - {()}
        self._joined = {"".join(words) for words in self._names}
        alternatives = (r"[\W_]*".join(map(re.escape, words)) for words in sorted(self._names))
        self._suspicious = re.compile("|".join(alternatives), re.IGNORECASE)
        self._hints = sorted({max(words, key=len) for words in self._names})

    def suspects(self, text: str) -> bool:
        """Tell whether there may be anything to mask in a payload with this JSON text; quick, and mostly False."""
        folded = text.casefold()
        for hint in self._hints:  # an expression with alternatives is tried at every character: ten times slower
            if hint in folded:
                return self._suspicious.search(text) is not None
        return False

    def names(self, key: str) -> bool:
        """Tell whether what stands under `key` is masked."""
        words = words_of(key)
        return any(
            word in self._joined or any(words[at : at + len(name)] == name for name in self._names)
            for at, word in enumerate(words)
        )

    def masked(self, value: Any) -> Any:
        """Give a copy of a JSON value (lists, objects with text keys, scalars) with every secret masked."""
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
    """Give the redactor for the names of a configuration."""
    return Redactor(names)
