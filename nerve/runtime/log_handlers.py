"""Python's logging inside a worker: each record becomes an event of the run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import msgspec

from nerve.clock import Clock
from nerve.errors import PayloadError
from nerve.events.catalog import from_sense
from nerve.events.model import LogEvent
from nerve.events.payload import DEFAULT_MAX_BYTES, encode_payload, preview, valid_text
from nerve.events.payload_types import LoggingRecord
from nerve.events.redaction import redactor_of
from nerve.runtime.context import EventSink
from nerve.runtime.interruption import Interrupter
from nerve.runtime.run_of_thread import LateRuns, late_notice
from nerve.runtime.tracebacks import OWN_FOLDER, describe_exception, format_traceback

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}
_LEVELS = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)


class GuardedHandler(logging.Handler):
    """Defers interruptions while another handler works: cut short, it could leave its locks held.

    It is nerve's own: a compute that changes all handlers that it finds does not change this one.
    """

    def __init__(self, inner: logging.Handler, guard: Interrupter) -> None:
        super().__init__()
        self._inner = inner
        self._guard = guard

    def handle(self, record: logging.LogRecord) -> bool:
        """Pass the record to the inner handler; an interruption is raised after it."""
        with self._guard:
            return bool(self._inner.handle(record))

    def setLevel(self, level: int | str) -> None:  # noqa: N802 - the name is logging's
        """Do nothing."""

    def addFilter(self, filter: Any) -> None:  # noqa: N802 - the name is logging's
        """Do nothing."""


class EventHandler(logging.Handler):
    """Sends each record as an event, except for nerve's own diagnostics.

    Records of a process that a compute has forked are left out as well: it has no lane to the writer.
    """

    def __init__(self, events: EventSink, clock: Clock, run_of_thread: Callable[[], str | None] | None = None) -> None:
        """`run_of_thread` returns the run that the calling thread belongs to; without it, that is always `run_id`."""
        super().__init__()
        self._events = events
        self._clock = clock
        self._run_of_thread = run_of_thread or (lambda: self.run_id)
        self.run_id: str | None = None
        """The run that is performed now; None between two runs."""
        self.max_payload = DEFAULT_MAX_BYTES
        self.redactor = redactor_of(())
        self.dropped = 0
        """How many records of the current run could not be stored."""
        self._late = LateRuns()
        self._pid = os.getpid()
        self.addFilter(lambda record: os.getpid() == self._pid and not _is_own(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record as `logging/<level>` with the id of the run that the calling thread belongs to."""
        try:
            run_id = self._run_of_thread()
            events = [self._event(run_id, level_name(record.levelno), record_payload(record))]
            if run_id != self.run_id and run_id is not None and self._late.is_new(run_id):
                events.append(late_notice(self._clock.stamp(), run_id))
            self.dropped += events[0].source != "logging"
            self._events.send(events)
        except Exception:  # noqa: BLE001 - a logging call must not raise
            self.handleError(record)

    def _event(self, run_id: str | None, type: str, payload: object) -> LogEvent:
        return from_sense(self._clock.stamp(), run_id, type, payload, self.max_payload, self.redactor, source="logging")


def _is_own(record: logging.LogRecord) -> bool:
    """Return True for nerve's diagnostics: the name alone is no sign, as a sense may use it as well."""
    return record.name.startswith("nerve.") and str(record.pathname).startswith(OWN_FOLDER)


def level_name(number: int) -> str:
    """Return the name of the standard level at or below a level's number."""
    return next((name for least, name in _LEVELS if number >= least), "debug")


def record_payload(record: logging.LogRecord) -> dict[str, object]:
    """Return a record's `extra`, with values that can't be stored as JSON described, and its LoggingRecord fields.

    A message that can't be formatted is replaced in the record, so that other handlers can show it as well.
    """
    extra = {key: _storable(value) for key, value in vars(record).items() if key not in _STANDARD}
    fields = LoggingRecord(
        logger=valid_text(str(record.name)),
        message=valid_text(_message(record)),
        traceback=_traceback(record),
        stack=valid_text(record.stack_info) if isinstance(record.stack_info, str) else None,
    )
    return {**extra, **msgspec.to_builtins(fields)}


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - the arguments may be wrong, or their __str__ may raise anything
        arguments = f" with the arguments {preview(record.args)}" if record.args else ""
        text = preview(record.msg) if not isinstance(record.msg, str) else repr(record.msg)
        record.msg = f"a message that can't be formatted ({describe_exception(error)}): {text}{arguments}"
        record.args = None
        return record.msg


def _traceback(record: logging.LogRecord) -> str | None:
    match record.exc_info:
        case (_, BaseException() as failure, _):
            return format_traceback(failure)
        case _:  # a record from another process has only the text
            return valid_text(record.exc_text) if isinstance(record.exc_text, str) else None


def _storable(value: object) -> object:
    try:
        encode_payload(value)
    except PayloadError as refusal:
        return refusal.preview
    return value
