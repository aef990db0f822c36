"""Merging streams by id, each opened only when its turn has come; pure."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=tuple[Any, ...])


class Merge(Generic[T]):
    """Streams of tuples that lead with an id, each ascending, as one stream.

    A stream is a generator, which begins to work when it is first asked: that is when `until` reaches the id that
    was said to be its first. What several streams have is given by each of them.
    """

    def __init__(self) -> None:
        # The number decides between equal ids before tuples of different streams would be compared.
        self._heads: list[tuple[int, int, T | None, Generator[T, None, None]]] = []
        self._added = 0

    def add(self, first_id: int, stream: Generator[T, None, None]) -> None:
        """Take in a stream that has nothing below `first_id`; it may be added while the merge goes on."""
        heapq.heappush(self._heads, (first_id, self._added, None, stream))
        self._added += 1

    def until(self, last_id: int) -> Iterator[T]:
        """Give what comes next, up to and with `last_id`; what is beyond waits for the next call."""
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
        """Close the streams that have not come to their end; may be called twice."""
        while self._heads:
            self._heads.pop()[3].close()
