"""Remembers what was found out about sources: a save changes one file of hundreds, and all are examined again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MAX_RESULTS = 16_384
"""Results that one function keeps. With fewer than there are files, each would be forgotten before its next use."""


def cached_by_digest(function: Callable[Concatenate[bytes, P], T]) -> Callable[Concatenate[bytes, P], T]:
    """Return the function of a source with its results cached; the sources themselves, which are large, are not."""
    results: dict[tuple[object, ...], T] = {}

    @wraps(function)
    def cached(source: bytes, /, *args: P.args, **kwargs: P.kwargs) -> T:
        key = (hashlib.sha256(source).digest(), *args, *kwargs.values())
        if key not in results:
            if len(results) >= MAX_RESULTS:
                results.clear()
            results[key] = function(source, *args, **kwargs)
        return results[key]

    return cached
