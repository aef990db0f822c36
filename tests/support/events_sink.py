"""The one fake of the sink that a sense's events are sent to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nerve.events.model import LogEvent


class EventsSink:
    """Keeps the batches that it is sent; `settles` is the result of waiting for their commit.

    `error`, when set, is raised by the next `send`. `on_settle` is called when a caller waits for the commit.
    """

    def __init__(self, *, settles: bool = True, on_settle: Callable[[], object] = lambda: None) -> None:
        self.batches: list[list[LogEvent]] = []
        self.settles = settles
        self.error: Exception | None = None
        self._on_settle = on_settle

    @property
    def events(self) -> list[LogEvent]:
        """All events in order."""
        return [event for batch in self.batches for event in batch]

    def send(self, events: Sequence[LogEvent]) -> None:
        """Keep a batch, or raise `error`."""
        if self.error:
            raise self.error
        self.batches.append(list(events))

    def settle(self, timeout: float) -> bool:
        """Return `settles`; the timeout, in seconds, must be positive."""
        assert timeout > 0
        self._on_settle()
        return self.settles
