"""The parts of a run without an engine, for `nerve.testing`: its clock, deadline, events and trigger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from nerve.clock import Stamp, SystemClock, unix_ms
from nerve.events.model import Log, LogEvent
from nerve.events.payload import encode_payload
from nerve.events.trigger import MANUAL, Signal, Trigger, TriggerKind
from nerve.ids import RunIds
from nerve.runtime.interruption import Interrupter
from nerve.store.table.writer import LogWriter
from nerve.workspace import Workspace

T = TypeVar("T")
LogEntry = Log | tuple[str, str, object] | Mapping[str, Any]


class StoppedClock(SystemClock):
    """A clock whose wall time stands still."""

    def __init__(self, ts: int) -> None:
        self._ts = ts

    def stamp(self) -> Stamp:
        """Return the time at which the clock stands."""
        return Stamp(self._ts, super().stamp().mono)


class NoDeadline(Interrupter):
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


class LoggedEvents:
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


def trigger_of(trigger: Trigger | TriggerKind | None, signal: object, now: int) -> Trigger:
    """Return the trigger of a run, as the kernel would send it; `now` in unix ms.

    Raises ValueError if trigger and signal don't fit each other, and PayloadError if the signal is not a JSON value.
    """
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


def event_of(entry: LogEntry, now: Stamp) -> LogEvent:
    """Return a log entry, as a test gives it, as an event; without a `ts` it happened `now`."""
    match entry:
        case Log():
            fields = msgspec.structs.asdict(entry)
        case Mapping():
            fields = dict(entry)
        case _:
            fields = dict(zip(("source", "type", "payload"), entry, strict=True))
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
