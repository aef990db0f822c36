"""The stdlib's logging inside a worker: each record becomes an event of the run."""

from __future__ import annotations

import logging
import os

from nerve.clock import Clock
from nerve.errors import PayloadError
from nerve.eventqueue import EventSender
from nerve.events.catalog import from_logging
from nerve.events.payload import DEFAULT_MAX_BYTES, encode_payload, valid_text
from nerve.events.redaction import redactor_of
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
    """Keeps an interruption out of another handler, whose locks it could leave held."""

    def __init__(self, inner: logging.Handler, guard: Interrupter) -> None:
        super().__init__()
        self._inner = inner
        self._guard = guard

    def handle(self, record: logging.LogRecord) -> bool:
        """Have the inner handler handle the record, in one piece."""
        with self._guard:
            return bool(self._inner.handle(record))


class EventHandler(logging.Handler):
    """Makes a log event of each stdlib record; nerve's own diagnostics are left out.

    So are the records of a process that a compute has forked: it has no lane, and they are diagnostics only.
    """

    def __init__(self, events: EventSender, clock: Clock) -> None:
        super().__init__()
        self._events = events
        self._clock = clock
        self.run_id: str | None = None
        self.max_payload = DEFAULT_MAX_BYTES
        self.redactor = redactor_of(())
        self._pid = os.getpid()
        self.addFilter(lambda record: os.getpid() == self._pid and not record.name.startswith("nerve."))

    def emit(self, record: logging.LogRecord) -> None:
        """Ship the record as `logging/<level>` with the current run's id."""
        try:
            event = from_logging(
                self._clock.stamp(),
                self.run_id,
                level_name(record.levelno),
                record_payload(record),
                self.max_payload,
                self.redactor,
            )
            self._events.send([event])
        except Exception:  # noqa: BLE001 - logging itself must never be what fails
            self.handleError(record)


def level_name(number: int) -> str:
    """Give the name of the standard level at or below a record's level."""
    return next((name for least, name in _LEVELS if number >= least), "debug")


def record_payload(record: logging.LogRecord) -> dict[str, object]:
    """Give a record's payload: logger, message, the traceback if any, and its `extra`, unstorable values described."""
    payload = {key: _storable(value) for key, value in vars(record).items() if key not in _STANDARD}
    payload |= {"logger": valid_text(record.name), "message": valid_text(record.getMessage())}
    if record.exc_info and record.exc_info[1]:
        payload["traceback"] = format_traceback(record.exc_info[1])
    return payload


def _storable(value: object) -> object:
    try:
        encode_payload(value)
    except PayloadError as refusal:
        return refusal.preview
    return value
