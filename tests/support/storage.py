"""The one fake of what a compute may read and keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nerve.events.model import Log
from nerve.store.filters import Filter


class FakeStorage:
    """A log with one entry, and databases that are just their names; `queries` has each query, and `archived` of it.

    `on_query` is called before a query returns.
    """

    def __init__(self, *, on_query: Callable[[], object] = lambda: None) -> None:
        self.queries: list[tuple[Filter, bool]] = []
        self._on_query = on_query

    def query_logs(self, filter: Filter, *, archived: bool) -> list[Log]:
        """Return the one entry, whatever the filter."""
        self._on_query()
        self.queries.append((filter, archived))
        return [Log(1, "sense", "reading", "probe/1", None, 0)]

    def own(self, sense: str) -> Any:
        """Return the name of a sense's own database."""
        return f"own {sense}"

    def peer(self, sense: str) -> Any:
        """Return the name of another sense's database."""
        return f"peer {sense}"
