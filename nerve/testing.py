"""Unit tests for senses: `run` runs a compute once, without an engine, and returns its signal, entries and error.

The context, the checks of payloads and the capture of logging are those of a worker. But the compute runs in the
process of the test, in any thread, and without a timeout.

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
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import msgspec

from nerve.clock import Clock, Moment, SystemClock, unix_ms
from nerve.config.config import Config, SenseConfig
from nerve.events.model import ErrorDetail, Log
from nerve.events.redaction import redactor_of
from nerve.events.trigger import Trigger, TriggerKind
from nerve.ids import RunIds
from nerve.processes.messages import Run
from nerve.reload.codebase import Codebase, read_main
from nerve.runtime.context import SenseContext
from nerve.runtime.loader import Compute, SenseLoader
from nerve.runtime.log_handlers import EventHandler
from nerve.runtime.runner import run_sense
from nerve.runtime.simulation import LogEntry, LoggedEvents, NoDeadline, StoppedClock, event_of, trigger_of
from nerve.store.sense_databases import SenseDatabases
from nerve.workspace import Workspace


@dataclass(frozen=True)
class Result:
    """The outcome of a run.

    Attributes:
        signal: What the compute returned, as other senses would receive it; None if nothing.
        events: What it logged by `ctx.log` and `ctx.log_many`; a payload that can't be stored is a `system/error`.
        error: Why the run failed, with `kind`, `message`, `exception` and `traceback`; None if it succeeded.
        logging: What it logged by Python's `logging`, from level INFO up: entries such as `logging/warning`.
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
    """Run a sense once. An exception in it is not raised, as it does not end a worker: see `Result.raise_on_error`.

    Args:
        compute: The function `compute(ctx)` of a sense, plain or `async`.
        signal: The signal that starts the run: a `nerve.Signal`, or just its payload.
        trigger: Why the sense runs: a `nerve.Trigger`, or its kind (`interval`, `signal`, `manual`). By default
            `signal` if there is a signal, else `interval`.
        logs: What `ctx.query_logs` finds besides what the compute itself logs, oldest first. Each entry is a
            `nerve.Log`, a tuple `(source, type, payload)`, or a dict of a Log's fields, of which only `source` and
            `type` are required. They get new ids, from 1 on, and without a `ts` the time of the run.
        now: The time of the run, for its entries and its trigger: unix ms, or a datetime with a timezone. By default
            the current time. `time.time()` and the like are not changed.
        sense: The name of the sense, as in `ctx.sense`.
        home: An existing folder, in whose `data/` the log and the databases (`ctx.db`, `ctx.peer_db`) are kept: runs
            with the same `home` share them. By default a temporary folder.

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
    clock = SystemClock() if now is None else StoppedClock(unix_ms("now", now) or 0)
    order = Run(
        run_id=RunIds().new(sense),
        sense=sense,
        version=None,
        trigger=trigger_of(trigger, signal, clock.stamp().ts),
        timeout=0.0,
        max_payload=Config().logs.max_payload,
    )
    with _workspace(home) as workspace:
        events = LoggedEvents(workspace, [event_of(entry, clock.stamp()) for entry in logs])
        result = _perform(order, compute, events, workspace, clock)
        if home is not None:
            events.commit()
    return result


def _perform(order: Run, compute: Compute, events: LoggedEvents, workspace: Workspace, clock: Clock) -> Result:
    databases, deadline = SenseDatabases(workspace), NoDeadline()

    def context(trigger: Trigger) -> SenseContext:
        return SenseContext(
            order.sense,
            order.run_id,
            trigger,
            events=events,
            storage=databases,
            clock=clock,
            max_payload=order.max_payload,
            redactor=redactor_of(order.redact),
        )

    with closing(databases), _captured_logging(EventHandler(events, clock), order.run_id):
        ending = run_sense(order, lambda _sense: compute, context, deadline, clock)
    if isinstance(deadline.failure, KeyboardInterrupt):
        raise deadline.failure  # a person wants the test to stop
    return Result(
        None if ending.signal is None else msgspec.json.decode(ending.signal),
        [entry for entry in events.entries() if entry.source != "logging"],
        ending.error,
        [entry for entry in events.entries() if entry.source == "logging"],
        deadline.failure,
    )


def load(path: str | Path) -> Compute:
    """Load the `compute` of a sense's file, as a worker does.

    Its folder is appended to `sys.path`, so that the sense can import the helpers beside it.

    Raises:
        SenseLoadError: If the file can't be read or run, or has no `compute`.

    Example:
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "disk.py").write_text("def compute(ctx): return 42")
        ...     run(load(f"{folder}/disk.py")).signal
        42
    """
    path = Path(path).resolve()
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    loader = SenseLoader(path.parent)
    loader.accept(path.stem, Codebase.read(path.parent).version(read_main(SenseConfig(path.stem, str(path)))))
    return loader.load(path.stem)


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
