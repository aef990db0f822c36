"""What the kernel remembers of each sense: how its last run ended, and how long the next one is expected to take."""

from __future__ import annotations

from dataclasses import dataclass

from nerve.config.config import Config, SenseConfig
from nerve.events.model import Status
from nerve.processes.messages import Run, RunResult

QUICK_MS = 0.25
"""Senses slower than this are never queued behind another run."""

_DECAY = 0.5


def expected_ms(before: float | None, duration_ms: float) -> float:
    """Return how long the next run is expected to take: as long as the last, or, for a while, as a longer one before.

    `before` is what was expected of the last run, or None if it was the first.
    """
    return duration_ms if before is None else max(duration_ms, before * _DECAY)


@dataclass(slots=True)
class SenseHistory:
    """The last run of a sense that has ended, and the number of failures since the last good one.

    `expected_ms` is None before the first run has ended. `quick`: its runs may be queued on a busy worker, and others
    behind them. That requires `can_queue`.
    """

    can_queue: bool = True
    last_run: str | None = None
    last_status: Status | None = None
    last_ts: int | None = None
    failures: int = 0
    expected_ms: float | None = None
    quick: bool = False

    def record(self, run: Run, result: RunResult, ts: int) -> None:
        """Remember the end of a run, at `ts` (unix ms)."""
        status = self.last_status = result.status
        self.last_run, self.last_ts = run.run_id, ts
        if status == "cancelled":
            return  # which says nothing about the sense
        self.failures = 0 if status == "ok" else self.failures + 1
        # A run that kills its worker is never quick: the runs queued behind it have to be taken back.
        taken_ms = run.timeout * 1000 if status == "died" else result.duration_ms + result.db_close_ms
        self.expected_ms = expected_ms(self.expected_ms, taken_ms)
        self.quick = self.can_queue and self.expected_ms <= QUICK_MS


class SenseHistories:
    """The histories of all senses of the active configuration."""

    def __init__(self, config: Config) -> None:
        self._senses: dict[str, SenseHistory] = {}
        self.apply(config)

    def apply(self, config: Config) -> None:
        """Keep the histories of the senses of another configuration; those of removed senses are forgotten."""
        self._senses = {name: self._adapted(sense) for name, sense in config.senses.items()}

    def _adapted(self, sense: SenseConfig) -> SenseHistory:
        history = self._senses.get(sense.name) or SenseHistory()
        # A throttle counts from when a run begins, so its start must not be recorded long before.
        history.can_queue = sense.throttle is None
        history.quick = history.quick and history.can_queue
        return history

    def of(self, sense: str) -> SenseHistory | None:
        """Return the history of a sense, or None if it was removed."""
        return self._senses.get(sense)

    def is_quick(self, sense: str) -> bool:
        """Return True if runs of this sense may be queued behind others, and others behind them."""
        history = self._senses.get(sense)
        return history is not None and history.quick

    def all(self) -> dict[str, SenseHistory]:
        """Return all histories by the names of their senses."""
        return self._senses
