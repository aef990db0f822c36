"""Python's logging inside a worker: each record becomes an event of the run."""

from __future__ import annotations

import logging
import os

import msgspec

from nerve.clock import Clock
from nerve.errors import PayloadError
from nerve.events.catalog import from_sense
from nerve.events.payload import DEFAULT_MAX_BYTES, encode_payload, valid_text
from nerve.events.payload_types import LoggingRecord
from nerve.events.redaction import redactor_of
from nerve.runtime.context import EventSink
from nerve.runtime.interruption import Interrupter
from nerve.runtime.tracebacks import format_traceback

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}
_LEVELS = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)


class GuardedHandler(logging.Handler):
    """Defers interruptions while another handler works: cut short, it could leave its locks held."""

    def __init__(self, inner: logging.Handler, guard: Interrupter) -> None:
        super().__init__()
        self._inner = inner
        self._guard = guard

    def handle(self, record: logging.LogRecord) -> bool:
        """Pass the record to the inner handler; an interruption is raised after it."""
        with self._guard:
            return bool(self._inner.handle(record))


class EventHandler(logging.Handler):
    """Sends each record as an event, except for nerve's own diagnostics.

    Records of a process that a compute has forked are left out as well: it has no lane to the writer.
    """

    def __init__(self, events: EventSink, clock: Clock) -> None:
        super().__init__()
        self._events = events
        self._clock = clock
        self.run_id: str | None = None
        self.max_payload = DEFAULT_MAX_BYTES
        self.redactor = redactor_of(())
        self._pid = os.getpid()
        self.addFilter(lambda record: os.getpid() == self._pid and not record.name.startswith("nerve."))

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record as `logging/<level>` with the current run's id."""
        try:
            event = from_sense(
                self._clock.stamp(),
                self.run_id,
                level_name(record.levelno),
                record_payload(record),
                self.max_payload,
                self.redactor,
                source="logging",
            )
            self._events.send([event])
        except Exception:  # noqa: BLE001 - a logging call must not raise
            self.handleError(record)


def level_name(number: int) -> str:
    """Return the name of the standard level at or below a level's number."""
    return next((name for least, name in _LEVELS if number >= least), "debug")


def record_payload(record: logging.LogRecord) -> dict[str, object]:
    """Return a record's `extra`, with values that can't be stored as JSON described, and its LoggingRecord fields."""
    extra = {key: _storable(value) for key, value in vars(record).items() if key not in _STANDARD}
    failure = record.exc_info[1] if record.exc_info else None
    traceback = format_traceback(failure) if failure else None
    fields = LoggingRecord(valid_text(record.name), valid_text(record.getMessage()), traceback)
    return {**extra, **msgspec.to_builtins(fields)}


def _storable(value: object) -> object:
    try:
        encode_payload(value)
    except PayloadError as refusal:
        return refusal.preview
    return value
