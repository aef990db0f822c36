"""Regular expressions from users, searched in bounded time: a bad one would otherwise block a process for years.

Python's own `re` neither stops nor lets a signal through until it is done. It is used where it must be quick; for
anything else the package `regex`, which is slower but has a timeout.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from nerve.errors import StoreError

SECONDS = 1.0
"""How long an expression may take for one text."""

QUICK_STEPS = 3_000_000
"""Steps that `re` takes in about 30 ms."""

_REPEAT = re.compile(r"[*+{]")
_REPEATED_GROUP = re.compile(r"\)[*+{]")


class Pattern:
    """A regular expression; raises ValueError, with the reason, for a text that is not a valid one."""

    def __init__(self, text: str) -> None:
        self._text = text
        try:
            self._plain = re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"invalid regular expression: {error}") from None
        # The worst case is a choice of every place for each repeat; that of a repeat within a repeat is exponential.
        self._order = None if _REPEATED_GROUP.search(text) else len(_REPEAT.findall(text)) + 1

    def is_in(self, text: str) -> bool:
        """Return True if the expression is found in a text; raises StoreError if that takes too long."""
        if self._order is not None and (self._order == 1 or len(text) ** self._order <= QUICK_STEPS):
            return self._plain.search(text) is not None
        try:
            return self._bounded.search(text, timeout=SECONDS) is not None
        except TimeoutError:
            what = f"the expression {self._text[:60]!r} takes more than {SECONDS:g} s for one entry"
            raise StoreError(f"{what}: write it without repeats within repeats, or with fewer") from None

    @cached_property
    def _bounded(self) -> Any:
        import regex  # noqa: PLC0415 - takes 70 ms to import, and most queries don't need it

        return regex.compile(self._text)
