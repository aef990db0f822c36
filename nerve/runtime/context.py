"""SenseContext: everything that a compute can see and do; lives in a worker, for one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from nerve.clock import Clock, Moment
from nerve.events.catalog import from_sense
from nerve.events.model import Log, LogEvent
from nerve.events.redaction import Redactor
from nerve.events.trigger import Signal, Trigger

if TYPE_CHECKING:
    from nerve.store import SqliteDatabase

EVENTS_PER_BATCH = 1_000
CHARS_PER_BATCH = 256 * 1024
READ_OWN_SECONDS = 1.0


class EventSink(Protocol):
    """Where a compute's events go."""

    def send(self, events: Sequence[LogEvent]) -> None:
        """Hand events over; on return they survive the death of this process."""

    def settle(self, timeout: float) -> bool:
        """Wait until everything sent is committed, at most `timeout` seconds."""


class SenseStorage(Protocol):
    """What a compute may read and keep: the log, its own database, and other senses' databases."""

    def query_logs(
        self,
        *,
        source: str | None,
        type: str | None,
        ref_id: str | None,
        sense: str | None,
        since: Moment | None,
        until: Moment | None,
        errors: bool,
        limit: int | None,
        archived: bool,
    ) -> list[Log]:
        """Query the log, and the archive too if `archived`, read-only."""

    def own(self, sense: str) -> SqliteDatabase:
        """Open the sense's own database."""

    def peer(self, sense: str) -> SqliteDatabase:
        """Open another sense's database, read-only."""


class SenseContext:
    """What `compute(ctx)` is given.

    `sense` is the sense's name, `run_id` this run's id, `trigger` why it runs, and `signal` the Signal that fired it
    (None for an interval, or a manual trigger without a payload).
    """

    __slots__ = ("_clock", "_databases", "_events", "_max_payload", "_redactor", "run_id", "sense", "signal", "trigger")

    def __init__(
        self,
        sense: str,
        run_id: str,
        trigger: Trigger,
        *,
        events: EventSink,
        databases: SenseStorage,
        clock: Clock,
        max_payload: int,
        redactor: Redactor | None = None,
    ) -> None:
        self.sense = sense
        self.run_id = run_id
        self.trigger = trigger
        self.signal: Signal | None = trigger.signal
        self._events = events
        self._databases = databases
        self._clock = clock
        self._max_payload = max_payload
        self._redactor = redactor

    def log(self, type: str, payload: object = None) -> None:
        """Append an event to the log, with `source=sense` and this run's id as `ref_id`.

        On return the event survives the death of any one process. A payload that is no JSON (NaN, a cycle,
        more than `max_payload` bytes ...) is recorded as a `system/error` of kind `payload` in its place.
        Raises TypeError when `type` is no text, or is empty.
        """
        self._events.send([self._event(type, payload)])

    def log_many(self, events: Iterable[tuple[str, object]]) -> None:
        """Append several events, given as `(type, payload)`, in order; much cheaper than one by one.

        Raises TypeError as `log` does, and then none of them is appended.
        """
        made = [self._event(name, payload) for name, payload in events]
        for batch in batches(made):
            self._events.send(batch)

    def query_logs(
        self,
        *,
        source: str | None = None,
        type: str | None = None,
        ref_id: str | None = None,
        sense: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        errors: bool = False,
        limit: int | None = None,
        archived: bool = False,
    ) -> list[Log]:
        """Look back into the log; filters as in `nerve.query_logs`. What this worker has logged is included."""
        self._events.settle(READ_OWN_SECONDS)
        return self._databases.query_logs(
            source=source,
            type=type,
            ref_id=ref_id,
            sense=sense,
            since=since,
            until=until,
            errors=errors,
            limit=limit,
            archived=archived,
        )

    @property
    def db(self) -> SqliteDatabase:
        """The sense's own Peewee database, `data/senses/<name>.db`; closed for you when the run ends."""
        return self._databases.own(self.sense)

    def peer_db(self, name: str) -> SqliteDatabase:
        """Open another sense's database, read-only; raises StoreError when it has none."""
        return self._databases.peer(name)

    def _event(self, type: str, payload: object) -> LogEvent:
        if not isinstance(type, str) or not type:
            raise TypeError(f"the type of an event is a text such as 'reading', not {type!r}")
        return from_sense(self._clock.stamp(), self.run_id, type, payload, self._max_payload, self._redactor)


def batches(events: Iterable[LogEvent]) -> Iterator[list[LogEvent]]:
    """Divide events, in order, into batches that the event queue takes in one frame."""
    batch: list[LogEvent] = []
    chars = 0
    for event in events:
        if batch and (len(batch) >= EVENTS_PER_BATCH or chars + len(event.payload) > CHARS_PER_BATCH):
            yield batch
            batch, chars = [], 0
        batch.append(event)
        chars += len(event.payload)
    if batch:
        yield batch
