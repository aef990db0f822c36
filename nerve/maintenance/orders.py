"""OrderExecutor: carries out the archiver's orders in the writer, in steps short enough to fit between two commits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nerve.clock import Clock
from nerve.maintenance.order_socket import PendingOrder
from nerve.store.archive.order_messages import Conclude, Done, Purge, Record, Vacuum
from nerve.store.table.writer import LogWriter

STEP_SECONDS = 0.02
"""Target duration of a step; a commit waits for one step at most."""

FEWEST, MOST = 20, 5_000
"""Bounds of a step, in rows or pages."""


@dataclass(frozen=True, slots=True)
class AdaptiveBatchSize:
    """The size of the next step, chosen from the last one so that it takes about STEP_SECONDS."""

    size: int = 200

    def after(self, done: int, seconds: float) -> AdaptiveBatchSize:
        """Return the next size, after a step did `done` rows or pages in `seconds`.

        A step that was short because little was left says nothing about the speed: the size stays.
        """
        if done < self.size and seconds < STEP_SECONDS:
            return self
        ideal = done * STEP_SECONDS / max(seconds, 1e-6)
        return replace(self, size=round(min(max(ideal, self.size / 4, FEWEST), self.size * 2, MOST)))


class OrderExecutor:
    """Carries out orders step by step, and returns unused space to the file system after each run of the archiver."""

    def __init__(self, store: LogWriter, clock: Clock, is_over: Callable[[], bool]) -> None:
        """`is_over` is called during long work and returns True if the writer must end."""
        self._store = store
        self._is_over = is_over
        self._clock = clock
        self._rows = AdaptiveBatchSize()
        self._pages = AdaptiveBatchSize()
        self.reclaiming = False
        """True while there may be unused space: `reclaim` is to be called whenever the writer is idle."""

    def step(self, request: PendingOrder) -> Done | None:
        """Do one step of an order; return the answer to it if that was the last step. Raises StoreError."""
        order = request.order
        match order:
            case Purge():
                if not self._purge(request, order):
                    return None
            case Record(event=event, number=number):
                self._store.record_file(event, number)
            case Vacuum():
                self._store.vacuum(self._is_over)
            case Conclude():
                self._store.note_archive_run(order)
                self.reclaiming = True
        return Done(order.request, request.rows)

    def reclaim(self) -> None:
        """Return some unused space to the file system. Raises StoreError, and then stops until the next run."""
        self.reclaiming, began = False, self._clock.now()
        pages = self._store.incremental_vacuum(self._pages.size)
        self.reclaiming = pages > 0
        self._pages = self._pages.after(pages, self._clock.now() - began)

    def _purge(self, request: PendingOrder, order: Purge) -> bool:
        """Delete a chunk; return True if it was the last one."""
        limit, began = min(self._rows.size, order.most - request.rows), self._clock.now()
        deleted = self._store.purge_chunk(order.day, order.last_id, limit, order.open_runs)
        self._rows = self._rows.after(deleted, self._clock.now() - began)
        request.rows += deleted
        return deleted < limit or request.rows >= order.most
