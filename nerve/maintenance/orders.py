"""OrderExecutor: the archiver's orders to the writer, in steps so short that they go between two commits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from nerve.clock import Clock
from nerve.events.model import LogEvent
from nerve.maintenance.order_messages import Conclude, Done, Purge, Record, Vacuum
from nerve.maintenance.order_socket import PendingOrder
from nerve.store import ArchiveRun

STEP_SECONDS = 0.02
"""How long a step should take: a commit waits for one at most."""

FEWEST, MOST = 20, 5_000
"""Of rows or pages in a step, however fast or slow the last one was."""


@dataclass(frozen=True, slots=True)
class AdaptiveBatchSize:
    """How much to do in the next step, so that it takes about STEP_SECONDS: it follows what the last one took."""

    size: int = 200

    def after(self, done: int, seconds: float) -> AdaptiveBatchSize:
        """Give the next one, where a step has done so many in so many seconds; one that did little tells nothing."""
        if done < self.size and seconds < STEP_SECONDS:
            return self
        wanted = done * STEP_SECONDS / max(seconds, 1e-6)
        return replace(self, size=round(min(max(wanted, self.size / 4, FEWEST), self.size * 2, MOST)))


class UpkeepStore(Protocol):
    """The log, as far as the archiver's orders go; each of these may raise StoreError."""

    def purge_chunk(self, day: str, last_id: int, limit: int, open_runs: Sequence[str]) -> int:
        """Delete up to `limit` archived rows; gives how many went."""

    def incremental_vacuum(self, pages: int) -> int:
        """Give up to `pages` unused pages back; gives how many went."""

    def vacuum(self, is_over: Callable[[], bool]) -> None:
        """Rebuild the file, unless `is_over` says that there is no time for it."""

    def record_file(self, event: LogEvent, number: int) -> None:
        """Append the event of the archive's file with this number, unless that has been done."""

    def note_archive_run(self, run: ArchiveRun) -> None:
        """Remember the archiver's last run."""


class OrderExecutor:
    """Carries out orders, a step at a time, and gives unused space back once a run of the archiver is over."""

    def __init__(self, store: UpkeepStore, clock: Clock, is_over: Callable[[], bool]) -> None:
        """`is_over` tells in the middle of long work whether the writer is to end."""
        self._store = store
        self._is_over = is_over
        self._clock = clock
        self._rows = AdaptiveBatchSize()
        self._pages = AdaptiveBatchSize()
        self.reclaiming = False
        """There may be unused space to give back; `reclaim` is to be called whenever there is time for it."""

    def step(self, request: PendingOrder) -> Done | None:
        """Do one step of an order; gives the answer to it when it was the last. Raises StoreError."""
        order = request.order
        match order:
            case Purge():
                if not self._purge(request, order):
                    return None
            case Record(event=event, number=number):
                self._store.record_file(event, number)
            case Vacuum():
                self._store.vacuum(self._is_over)
            case Conclude(ts=ts, files=files, rows=rows):
                self._store.note_archive_run(ArchiveRun(ts, files, rows))
                self.reclaiming = True
        return Done(order.request, request.rows)

    def reclaim(self) -> None:
        """Give some unused space back to the file system. Raises StoreError, and then leaves it until the next run."""
        self.reclaiming, began = False, self._clock.now()
        pages = self._store.incremental_vacuum(self._pages.size)
        self.reclaiming = pages > 0
        self._pages = self._pages.after(pages, self._clock.now() - began)

    def _purge(self, request: PendingOrder, order: Purge) -> bool:
        """Delete a chunk; tells whether that was all."""
        limit, began = min(self._rows.size, order.most - request.rows), self._clock.now()
        deleted = self._store.purge_chunk(order.day, order.last_id, limit, order.open_runs)
        self._rows = self._rows.after(deleted, self._clock.now() - began)
        request.rows += deleted
        return deleted < limit or request.rows >= order.most
