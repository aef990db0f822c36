"""Merge: merges streams by id, and opens each only when its turn has come; pure."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=tuple[Any, ...])


class Merge(Generic[T]):
    """Merges streams of tuples that start with an id, each ascending, into one stream.

    A stream is a generator: it starts to work when `until` reaches the first id it was added with. An id that is in
    several streams is yielded several times.
    """

    def __init__(self) -> None:
        # The number decides between equal ids, so that tuples of different streams are never compared.
        self._heads: list[tuple[int, int, T | None, Generator[T, None, None]]] = []
        self._added = 0

    def add(self, first_id: int, stream: Generator[T, None, None]) -> None:
        """Add a stream that has no id below `first_id`; streams may be added during the merge."""
        heapq.heappush(self._heads, (first_id, self._added, None, stream))
        self._added += 1

    def until(self, last_id: int) -> Iterator[T]:
        """Yield the next items up to and including `last_id`; the rest is left for later calls."""
        heads = self._heads
        while heads and heads[0][0] <= last_id:
            _, number, item, stream = heads[0]
            if item is not None:
                yield item
            following = next(stream, None)
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (following[0], number, following, stream))

    def close(self) -> None:
        """Close the streams that are not exhausted; may be called twice."""
        while self._heads:
            self._heads.pop()[3].close()
