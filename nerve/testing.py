"""Unit tests for senses: `run` performs a compute once, without an engine, and returns what came of it.

The compute runs as in a worker, with the same context, checks of payloads and capture of logging, but in the process
of the test, in any thread, and without a timeout.

Example:
    >>> from nerve.testing import run
    >>> def compute(ctx):
    ...     ctx.log("reading", {"used": 0.93})
    ...     return {"full": True}
    >>> result = run(compute)
    >>> result.signal
    {'full': True}
    >>> [(entry.type, entry.payload) for entry in result.events]
    [('reading', {'used': 0.93})]
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeVar

import msgspec

from nerve.clock import Moment, Stamp, SystemClock, unix_ms
from nerve.config.config import Config, SenseConfig
from nerve.events.model import ErrorDetail, Log, LogEvent
from nerve.events.payload import encode_payload
from nerve.events.redaction import redactor_of
from nerve.events.trigger import MANUAL, Signal, Trigger, TriggerKind
from nerve.ids import RunIds
from nerve.processes.messages import Run
from nerve.reload.codebase import Codebase, read_main
from nerve.runtime.context import SenseContext
from nerve.runtime.interruption import Interrupter
from nerve.runtime.loader import Compute, SenseLoader
from nerve.runtime.log_handlers import EventHandler
from nerve.runtime.runner import run_sense
from nerve.store.sense_databases import SenseDatabases
from nerve.store.table.writer import LogWriter
from nerve.workspace import Workspace

T = TypeVar("T")
LogEntry = Log | tuple[str, str, object] | Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        signal: What the compute returned, as other senses would receive it; None if it stayed silent.
        events: What it logged with `ctx.log` and `ctx.log_many`, in order. A payload that can't be stored appears as
            a `system/error`, as in the log.
        error: Why the run failed, with `kind`, `message`, `exception` and `traceback`; None if it went well.
        logging: What it logged with Python's `logging`, from level INFO up: entries such as `logging/warning`.
    """

    signal: Any
    events: list[Log]
    error: ErrorDetail | None
    logging: list[Log]
    _failure: BaseException | None = field(default=None, repr=False, compare=False)

    def raise_on_error(self) -> Self:
        """Raise the exception that made the run fail; without one, return this result.

        Example:
            >>> run(lambda ctx: 1 / 0).raise_on_error()
            Traceback (most recent call last):
            ZeroDivisionError: division by zero
        """
        if self._failure is not None:
            raise self._failure
        return self


def run(
    compute: Compute,
    *,
    signal: object = None,
    trigger: Trigger | TriggerKind | None = None,
    logs: Iterable[LogEntry] = (),
    now: Moment | None = None,
    sense: str = "test",
    home: str | Path | None = None,
) -> Result:
    """Perform one run of a sense.

    An exception in the compute does not raise here, as it does not end a worker: see `Result.error` and
    `Result.raise_on_error`.

    Args:
        compute: The function `compute(ctx)` of a sense, plain or `async`.
        signal: The signal that starts the run: a `nerve.Signal`, or just its payload.
        trigger: Why the sense runs: a `nerve.Trigger`, or its kind (`interval`, `signal`, `manual`). By default
            `signal` if there is a signal, else `interval`.
        logs: What `ctx.query_logs` finds besides what the compute itself logs, oldest first. Each entry is a
            `nerve.Log`, a tuple `(source, type, payload)`, or a dict of a Log's fields of which only `source` and
            `type` are required. Their ids are numbered anew; without a `ts` they are as old as the run.
        now: The time at which the run takes place: unix ms, or a datetime with a timezone. It is what entries and
            the trigger show; `time.time()` and the like are not changed. By default, the current time.
        sense: The name of the sense, which `ctx.sense` and the run id show.
        home: A workspace's folder for the log and the databases (`ctx.db`, `ctx.peer_db`), which are in its `data/`
            afterwards. Runs with the same `home` share them. By default a temporary folder.

    Raises:
        PayloadError: If the payload of `signal` or of one of `logs` can't be stored as JSON.
        ValueError: If `signal` does not fit the `trigger`, or `now` has no timezone.

    Example:
        >>> import logging
        >>> async def compute(ctx):
        ...     seen = ctx.query_logs(type="reading")
        ...     logging.getLogger("demo").warning("%d readings before %s", len(seen), ctx.signal.payload)
        >>> result = run(compute, signal="now", logs=[("sense", "reading", {"used": 0.5})])
        >>> [(entry.type, entry.payload["message"]) for entry in result.logging]
        [('warning', '1 readings before now')]
    """
    clock = SystemClock() if now is None else _StoppedClock(unix_ms("now", now) or 0)
    with _workspace(home) as workspace:
        events = _Events(workspace, [_logged(entry, clock.stamp()) for entry in logs])
        databases = SenseDatabases(workspace)
        deadline = _NoDeadline()
        order = Run(
            run_id=RunIds().new(sense),
            sense=sense,
            version=None,
            trigger=_trigger(trigger, signal, clock.stamp().ts),
            timeout=0.0,
            grace_period=0.0,
            max_payload=Config().logs.max_payload,
        )

        def context(decoded: Trigger) -> SenseContext:
            return SenseContext(
                sense,
                order.run_id,
                decoded,
                events=events,
                storage=databases,
                clock=clock,
                max_payload=order.max_payload,
                redactor=redactor_of(order.redact),
            )

        with closing(databases), _captured_logging(EventHandler(events, clock), order.run_id):
            result = run_sense(order, lambda _sense: compute, context, deadline, clock)
        if isinstance(deadline.failure, KeyboardInterrupt):
            raise deadline.failure  # a person wants the test to stop
        if home is not None:
            events.commit()
    return Result(
        None if result.signal is None else msgspec.json.decode(result.signal),
        [entry for entry in events.entries() if entry.source != "logging"],
        result.error,
        [entry for entry in events.entries() if entry.source == "logging"],
        deadline.failure,
    )


def load(path: str | Path) -> Compute:
    """Load the `compute` of a sense's file, as a worker does.

    Its folder is appended to `sys.path`, so that the sense can import the helpers beside it.

    Raises:
        SenseLoadError: If the file can't be read or run, or has no `compute`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "disk.py")
        ...     _ = path.write_text("def compute(ctx): return 42")
        ...     compute = load(path)
        >>> run(compute).signal
        42
    """
    path = Path(path).resolve()
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    loader = SenseLoader(path.parent)
    loader.accept(path.stem, Codebase.read(path.parent).version(read_main(SenseConfig(path.stem, str(path)))))
    return loader.load(path.stem)


class _StoppedClock(SystemClock):
    """A clock whose wall time stands still."""

    def __init__(self, ts: int) -> None:
        self._ts = ts

    def stamp(self) -> Stamp:
        """Return the time at which the clock stands."""
        return Stamp(self._ts, super().stamp().mono)


class _NoDeadline(Interrupter):
    """Interrupts nothing, and leaves this process's signals alone: a test runner may use the same alarm."""

    failure: BaseException | None = None
    """What the compute raised."""

    def run(self, function: Callable[[], T], timeout: float) -> T:  # noqa: ARG002 - there is none
        """Call `function`."""
        try:
            return function()
        except BaseException as failure:
            self.failure = failure
            raise


class _Events:
    """Keeps what a compute logs, and writes it to the workspace's log when that is queried."""

    def __init__(self, workspace: Workspace, logs: Sequence[LogEvent]) -> None:
        self._workspace = workspace
        self._unwritten = list(logs)
        self._sent: list[LogEvent] = []

    def send(self, events: Sequence[LogEvent]) -> None:
        """Keep events."""
        self._sent += events
        self._unwritten += events

    def settle(self, timeout: float) -> bool:  # noqa: ARG002 - it never takes long
        """Write what is not in the log yet."""
        self.commit()
        return True

    def commit(self) -> None:
        """Write what is not in the log yet."""
        writer = LogWriter.open(self._workspace.logs_db)
        try:
            writer.append(self._unwritten, {})
        finally:
            writer.close()
        self._unwritten = []

    def entries(self) -> list[Log]:
        """Return what the compute logged, numbered from 1."""
        return [
            Log(number, event.source, event.type, event.ref_id, msgspec.json.decode(event.payload), event.ts)
            for number, event in enumerate(self._sent, 1)
        ]


@contextmanager
def _workspace(home: str | Path | None) -> Iterator[Workspace]:
    with TemporaryDirectory(prefix="nerve-") as temporary:
        workspace = Workspace(Path(temporary if home is None else home).resolve())
        workspace.prepare()
        yield workspace


@contextmanager
def _captured_logging(handler: EventHandler, run_id: str) -> Iterator[None]:
    """Send the records of this process to `handler`, from the level up that a worker's root logger has."""
    handler.run_id = run_id
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def _trigger(trigger: Trigger | TriggerKind | None, signal: object, now: int) -> Trigger:
    if isinstance(trigger, Trigger):
        if signal is not None:
            raise ValueError("give the signal in the Trigger, or as signal=, not both")
        encoded = _encoded(trigger.signal) if trigger.signal else None
        return msgspec.structs.replace(trigger, signal=encoded)
    kind = trigger or ("interval" if signal is None else "signal")
    if (kind == "signal" and signal is None) or (kind == "interval" and signal is not None):
        raise ValueError(f"a run by {kind} has {'a' if kind == 'signal' else 'no'} signal")
    if signal is not None and not isinstance(signal, Signal):
        by_hand = kind == "manual"
        signal = Signal(MANUAL, signal, None, now) if by_hand else Signal("other", signal, RunIds().new("other"), now)
    reflex = None if kind == "manual" else f"test-{kind}"
    return Trigger(kind, reflex, _encoded(signal) if signal else None, 0, now)


def _encoded(signal: Signal) -> Signal:
    """Return a signal as the kernel passes it on: with its payload as JSON text."""
    return msgspec.structs.replace(signal, payload=encode_payload(signal.payload))


def _logged(entry: LogEntry, now: Stamp) -> LogEvent:
    match entry:
        case Log():
            fields = msgspec.structs.asdict(entry)
        case Mapping():
            fields = dict(entry)
        case (source, type, payload):
            fields = {"source": source, "type": type, "payload": payload}
    unknown = fields.keys() - set(Log.__struct_fields__)
    if unknown or not {"source", "type"} <= fields.keys():
        raise ValueError(f"{entry!r} is not a log entry: give source and type, and possibly ref_id, payload and ts")
    ts = unix_ms("ts", fields.get("ts"))
    return LogEvent(
        fields["source"],
        fields["type"],
        fields.get("ref_id"),
        encode_payload(fields.get("payload")),
        now.ts if ts is None else ts,
        now.mono,
    )
