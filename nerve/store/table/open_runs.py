"""Which runs are open: started, and not yet complete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

Mark = tuple[int, str, str | None]
"""What matters of a row of the reflex source: its id, type and ref_id."""


class OpenRuns:
    """The open runs in order of their start; a value, so that a commit that fails leaves the old one in place."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Mapping[str, int] | None = None) -> None:
        self._rows = dict(rows or {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def after(self, marks: Iterable[Mark]) -> OpenRuns:
        """Give what is open once these rows, in order of their id, have been written too."""
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
        """Give an id below which no run is open, where `next_id` is the id of the next row to come."""
        return next(iter(self._rows.values()), next_id)
