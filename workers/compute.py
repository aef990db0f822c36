"""A compute worker: performs one run at a time, and ships its events to the writer."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from types import TracebackType

import msgspec
import psutil

from nerve import diagnostics
from nerve.children import ChildContext
from nerve.clock import Clock, SystemClock
from nerve.context import SenseContext
from nerve.describing import trace
from nerve.errors import PayloadError
from nerve.eventqueue import EventSender
from nerve.events import from_logging
from nerve.ids import uuid7_hex
from nerve.interruption import Interrupter
from nerve.loading import SenseLoader
from nerve.messages import Finish, Look, Outcome, Ready, Run, ToChild
from nerve.payload import DEFAULT_MAX_BYTES, encode_payload, valid_text
from nerve.prefetch import take
from nerve.redaction import redactor_of
from nerve.sense import perform
from nerve.store import SenseDatabases
from nerve.trigger import Trigger
from nerve.wire import Channel
from workers import bootstrap

FINISH_SECONDS = 10.0
"""How long a worker that has been told to finish waits for its last acknowledgements; the kernel may be stricter."""

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
        payload["traceback"] = trace(record.exc_info[1])
    return payload


def _storable(value: object) -> object:
    try:
        encode_payload(value)
    except PayloadError as refusal:
        return refusal.preview
    return value


class ComputeWorker:
    """Performs the runs that the kernel hands it, one at a time."""

    def __init__(self, context: ChildContext, link: Channel[ToChild]) -> None:
        self._link = link
        self._prefetched = context.prefetched
        self._linked = 0
        self._heard: deque[ToChild] = deque()
        self._clock = SystemClock()
        self._process = psutil.Process()
        self._interrupter = Interrupter()
        self._loader = SenseLoader(context.boot.workspace.senses_dir)
        self._databases = SenseDatabases(context.boot.workspace)
        self._events = EventSender(
            context.boot.workspace.event_socket,
            f"worker-{os.getpid()}/{uuid7_hex()}",
            self._interrupter,
            hangups={link.fileno(): _orphaned},
        )
        self._records = EventHandler(self._events, self._clock)
        root = logging.getLogger()
        relay = context.boot.relay
        diagnostics.install(GuardedHandler(relay, self._interrupter))
        # Before the relay, which strips a record of its exception once it has written it out.
        root.handlers.insert(0, GuardedHandler(self._records, self._interrupter))

    def __enter__(self) -> ComputeWorker:
        self._interrupter.install()
        self._loader.install()
        self._events.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._events.close(FINISH_SECONDS)

    def serve(self) -> None:
        """Perform runs until told to finish, or until a run has left no memory for the next."""
        self._link.send(Ready())
        while message := self._next():
            match message:
                case Run():
                    goes_on = self._serve_linked(message)
                case Look():
                    goes_on = self._serve_prefetched()
                case Finish():
                    goes_on = False
                case _:
                    raise TypeError(f"the kernel sent a worker a {type(message).__name__}")
            if not goes_on:
                return

    def _next(self) -> ToChild | None:
        """Wait for what the kernel says next; None when it is gone."""
        while not self._heard and not self._link.ended:
            self._interrupter.rest()
            self._heard.extend(self._link.wait(None))
        return self._heard.popleft() if self._heard and not self._link.ended else None

    def _serve_linked(self, run: Run) -> bool:
        self._linked += 1
        return self._serve(run)

    def _serve_prefetched(self) -> bool:
        """Perform what has been put there, until nothing is left or no further run can be."""
        while self._prefetched is not None and (run := take(self._prefetched)):
            if not self._catch_up(run.after) or not self._serve(run):
                return False
        return True

    def _catch_up(self, linked: int) -> bool:
        """Perform what has been sent by the link before: it can be overtaken by what is put where this worker looks."""
        while self._linked < linked:
            message = self._next()
            if message is None or (isinstance(message, Run) and not self._serve_linked(message)):
                return False
        return True

    def _serve(self, run: Run) -> bool:
        """Perform a run, and tell its end before anything else begins; False when there can be no other run."""
        outcome = self._perform(run)
        self._link.send(outcome)
        self._link.flush_all()
        return not outcome.spent

    def _perform(self, run: Run) -> Outcome:
        self._records.run_id, self._records.max_payload = run.run_id, run.max_payload
        self._records.redactor = redactor_of(run.redact)
        self._loader.accept(run.sense, run.version)
        try:
            outcome = perform(
                run, self._loader, lambda trigger: self._context(run, trigger), self._interrupter, self._clock
            )
            return msgspec.structs.replace(outcome, rss_bytes=self._rss()) if run.weigh else outcome
        finally:
            self._databases.close()
            self._records.run_id = None

    def _rss(self) -> int:
        return int(self._process.memory_info().rss)

    def _context(self, run: Run, trigger: Trigger) -> SenseContext:
        return SenseContext(
            run.sense,
            run.run_id,
            trigger,
            events=self._events,
            databases=self._databases,
            clock=self._clock,
            max_payload=run.max_payload,
            redactor=redactor_of(run.redact),
        )


def _orphaned() -> None:
    """End at once when the kernel is gone: whatever a compute has logged is already out of this process."""
    os._exit(1)


def main(context: ChildContext) -> None:
    """Serve runs until told to finish, or until the kernel is gone (child)."""
    link = bootstrap.enter(context)
    # Last, so that a sense called `random` or `email` is not what the standard library then imports.
    sys.path.append(str(context.boot.workspace.senses_dir))
    with ComputeWorker(context, link) as worker:
        worker.serve()
