"""SenseContext: what a compute can see and do; created in a worker, for one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from nerve.clock import Clock, Moment, unix_ms
from nerve.events.catalog import from_sense
from nerve.events.model import Log, LogEvent
from nerve.events.redaction import Redactor
from nerve.events.trigger import Signal, Trigger
from nerve.runtime.run_of_thread import late_notice
from nerve.store.filters import Filter

if TYPE_CHECKING:
    from peewee import SqliteDatabase

EVENTS_PER_BATCH = 1_000
CHARS_PER_BATCH = 256 * 1024
READ_OWN_SECONDS = 1.0
"""How long `query_logs` waits for the commit of what this worker has logged."""


class EventSink(Protocol):
    """Where a compute's events go."""

    def send(self, events: Sequence[LogEvent]) -> None:
        """Send events in order; once this returns, they survive the death of every process of the engine."""

    def settle(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until everything sent is committed; return True if it is."""


class SenseStorage(Protocol):
    """What a compute may read and keep: the log, its own database, and other senses' databases."""

    def query_logs(self, filter: Filter, *, archived: bool) -> list[Log]:
        """Query the log, and with `archived` the archive too, read-only."""

    def own(self, sense: str) -> SqliteDatabase:
        """Open a sense's own database."""

    def peer(self, sense: str) -> SqliteDatabase:
        """Open another sense's database, read-only."""


class SenseContext:
    """The argument of `compute(ctx)`: why the sense runs, and what it can read and write.

    Attributes:
        sense: The sense's name.
        run_id: This run's id, `<sense>/<32 hex digits>`. The entries that the run logs have it as their `ref_id`.
        trigger: What started the run (a `Trigger`).
        signal: The `Signal` that started it; None for an interval, and for a manual trigger without a payload.

    Example:
        >>> from nerve.testing import run
        >>> def compute(ctx):
        ...     ctx.log("seen", {"used": ctx.signal.payload["used"]})
        ...     return {"full": ctx.signal.payload["used"] > 0.9}
        >>> run(compute, signal={"used": 0.93}).signal
        {'full': True}
    """

    __slots__ = (
        "_clock", "_dropped", "_ended", "_events", "_max_payload", "_redactor", "_storage",
        "run_id", "sense", "signal", "trigger",
    )  # fmt: skip

    def __init__(
        self,
        sense: str,
        run_id: str,
        trigger: Trigger,
        *,
        events: EventSink,
        storage: SenseStorage,
        clock: Clock,
        max_payload: int,
        redactor: Redactor | None = None,
    ) -> None:
        self.sense = sense
        self.run_id = run_id
        self.trigger = trigger
        self.signal: Signal | None = trigger.signal
        self._events = events
        self._storage = storage
        self._clock = clock
        self._max_payload = max_payload
        self._redactor = redactor
        self._dropped = 0
        self._ended = False

    def log(self, type: str, payload: object = None) -> None:
        """Append an entry to the log, with `source="sense"` and this run's id as its `ref_id`.

        Once this returns, the entry survives the death of every process of the engine. A payload that can't be stored
        as JSON (NaN, a cycle, more than `logs.max_payload` bytes ...) does not raise: a `system/error` of kind
        `payload` is recorded in its place. Values under keys such as `password` or `token` are masked.

        Args:
            type: What happened, such as `reading`.
            payload: Any JSON value; also dataclasses, datetimes, UUIDs and sets.

        Raises:
            TypeError: If `type` is empty or not a string.

        Example:
            >>> from nerve.testing import run
            >>> def compute(ctx):
            ...     ctx.log("reading", {"celsius": 21.5})
            >>> [entry] = run(compute).events
            >>> entry.type, entry.payload
            ('reading', {'celsius': 21.5})
        """
        self._events.send([self._event(type, payload)])

    def log_many(self, events: Iterable[tuple[str, object]]) -> None:
        """Append several entries, in order; much cheaper than one `log` each.

        Args:
            events: A `(type, payload)` tuple for each entry, with the meaning that they have in `log`.

        Raises:
            TypeError: If a type is empty or not a string. None of the entries is appended then.

        Example:
            >>> from nerve.testing import run
            >>> def compute(ctx):
            ...     ctx.log_many(("reading", {"celsius": celsius}) for celsius in (21.5, 22.0))
            >>> [entry.payload["celsius"] for entry in run(compute).events]
            [21.5, 22.0]
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
        """Query the log, read-only; what this worker has logged so far is included.

        Args:
            source: Only entries with this source: `system`, `reflex`, `sense` or `logging`.
            type: Only entries of this type.
            ref_id: Only entries about this: a run id, a boot id, a sense's name ...
            sense: Only entries of this sense: those of its runs, and those about it.
            since: Only entries from this moment on: unix ms, or a datetime with a timezone.
            until: Only entries up to and including this moment: unix ms, or a datetime with a timezone.
            errors: Only errors, failed runs, and logging of level warning and above.
            limit: At most this many entries, the newest ones.
            archived: Search the archive too. This reads files and takes longer.

        Returns:
            The entries that match all filters, in order of their id.

        Raises:
            TypeError: If `since` or `until` is neither an int nor a datetime.
            ValueError: If one of them has no timezone, or `limit` is negative.
            StoreError: If the log can't be read.

        Example:
            >>> from nerve.testing import run
            >>> def compute(ctx):
            ...     readings = ctx.query_logs(source="sense", type="reading", limit=10)
            ...     return max(entry.payload["used"] for entry in readings)
            >>> run(compute, logs=[("sense", "reading", {"used": 0.5}), ("sense", "reading", {"used": 0.9})]).signal
            0.9
        """
        log_filter = Filter(
            source=source,
            type=type,
            ref_id=ref_id,
            sense=sense,
            since=unix_ms("since", since),
            until=unix_ms("until", until),
            errors=errors,
            limit=limit,
        )
        self._events.settle(READ_OWN_SECONDS)
        return self._storage.query_logs(log_filter, archived=archived)

    @property
    def db(self) -> SqliteDatabase:
        """The sense's own Peewee database, `data/senses/<name>.db`, created on first use.

        It is closed when the run ends, and a transaction that is still open then is rolled back.

        Example:
            >>> from nerve.testing import run
            >>> def compute(ctx):
            ...     ctx.db.execute_sql("create table if not exists peaks (used real)")
            ...     ctx.db.execute_sql("insert into peaks values (0.9)")
            ...     return ctx.db.execute_sql("select max(used) from peaks").fetchone()
            >>> run(compute).signal
            [0.9]
        """
        return self._storage.own(self.sense)

    def peer_db(self, name: str) -> SqliteDatabase:
        """Open another sense's Peewee database, read-only; it is closed when the run ends.

        Args:
            name: The other sense's name.

        Raises:
            StoreError: If that sense has no database.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> from nerve.testing import run
            >>> def disk(ctx):
            ...     ctx.db.execute_sql("create table peaks (used real)")
            >>> def report(ctx):
            ...     return ctx.peer_db("disk").get_tables()
            >>> with TemporaryDirectory() as home:
            ...     _ = run(disk, sense="disk", home=home)
            ...     run(report, home=home).signal
            ['peaks']
        """
        return self._storage.peer(name)

    def _event(self, type: str, payload: object) -> LogEvent:
        if not isinstance(type, str) or not type:
            raise TypeError(f"the type of an event is a text such as 'reading', not {type!r}")
        event = from_sense(self._clock.stamp(), self.run_id, type, payload, self._max_payload, self._redactor)
        if event.source != "sense":
            self._dropped += 1
        if self._ended:
            self._ended = False  # it is said once
            self._events.send([late_notice(self._clock.stamp(), self.run_id)])
        return event


def end_context(context: SenseContext) -> int:
    """Note that the run of a context has ended; return how many of its entries could not be stored."""
    context._ended = True  # noqa: SLF001 - a compute should not find this among the methods of `ctx`
    return context._dropped  # noqa: SLF001 - as above


def batches(events: Iterable[LogEvent]) -> Iterator[list[LogEvent]]:
    """Yield the events in order, in lists that each fit into one frame of the event queue."""
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
