"""What the kernel remembers of each sense: how its last run ended, and how long the next is expected to take."""

from __future__ import annotations

from dataclasses import dataclass

from nerve.config.config import Config, SenseConfig
from nerve.events.model import Status
from nerve.processes.messages import Run, RunResult
from nerve.scheduling.slots import QUICK_MS, expected_ms


@dataclass(slots=True)
class SenseHistory:
    """What `nerve status` tells of a sense: its last run that has ended, and the failures since the last good one.

    `expected_ms` is how long its next run will take, as far as can be told; None before the first has ended.
    `quick`: others may wait behind it, and it behind them; which it never is unless it is `patient`.
    """

    patient: bool = True
    last_run: str | None = None
    last_status: Status | None = None
    last_ts: int | None = None
    failures: int = 0
    expected_ms: float | None = None
    quick: bool = False

    def ended(self, run: Run, outcome: RunResult, ts: int) -> None:
        """Remember the end of a run, at `ts` (unix ms)."""
        status = self.last_status = outcome.status
        self.last_run, self.last_ts = run.run_id, ts
        if status == "cancelled":
            return  # that says nothing of the sense
        self.failures = 0 if status == "ok" else self.failures + 1
        # However soon it died: what waited behind it had to be taken back.
        taken_ms = run.timeout * 1000 if status == "died" else outcome.duration_ms + outcome.closing_ms
        self.expected_ms = expected_ms(self.expected_ms, taken_ms)
        self.quick = self.patient and self.expected_ms <= QUICK_MS


class SenseHistories:
    """The histories of all senses of a configuration."""

    def __init__(self, config: Config) -> None:
        self._senses: dict[str, SenseHistory] = {}
        self.follow(config)

    def follow(self, config: Config) -> None:
        """Go by another configuration: senses that are gone are forgotten."""
        self._senses = {name: self._followed(sense) for name, sense in config.senses.items()}

    def _followed(self, sense: SenseConfig) -> SenseHistory:
        history = self._senses.get(sense.name) or SenseHistory()
        # A throttle counts from when a run begins, so that must not be later than it was decided.
        history.patient = sense.throttle is None
        history.quick = history.quick and history.patient
        return history

    def of(self, sense: str) -> SenseHistory | None:
        """Give the history of a sense; None for one that is gone."""
        return self._senses.get(sense)

    def is_quick(self, sense: str) -> bool:
        """Tell whether others may wait behind a run of this sense, and it behind them."""
        history = self._senses.get(sense)
        return history is not None and history.quick

    def refuse(self, sense: str) -> None:
        """Note that a run of this sense found no room behind another: none is put there under this configuration."""
        history = self._senses.get(sense)
        if history:
            history.patient = history.quick = False

    def all(self) -> dict[str, SenseHistory]:
        """Give the history of each sense."""
        return self._senses
