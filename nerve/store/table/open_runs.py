"""OpenRuns: the runs that have started and are not complete; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

Mark = tuple[int, str, str | None]
"""The id, type and ref_id of a row with the source reflex."""


class OpenRuns:
    """The open runs in the order of their start; immutable, so that a failed commit leaves the old value in place."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Mapping[str, int] | None = None) -> None:
        self._rows = dict(rows or {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def after(self, marks: Iterable[Mark]) -> OpenRuns:
        """Return the runs that are open once these rows, in the order of their ids, have been written."""
        rows = dict(self._rows)
        for row_id, event, run in marks:
            if run is None:
                continue
            if event == "run_start":
                rows.setdefault(run, row_id)
            elif event == "run_complete":
                rows.pop(run, None)
        return OpenRuns(rows)

    def settled_below(self, next_id: int) -> int:
        """Return an id below which no run is open; `next_id` is the id of the next row."""
        return next(iter(self._rows.values()), next_id)
