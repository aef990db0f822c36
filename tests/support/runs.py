"""The events of runs, with ids as the engine makes them, and runs as causes of others."""

from __future__ import annotations

from nerve.clock import Stamp
from nerve.events import catalog
from nerve.events.model import ErrorDetail, LogEvent, Status
from nerve.events.trigger import Signal, Trigger, TriggerKind

START = 1_795_428_000_000
"""2026-11-23 10:00 UTC."""


def run_id(sense: str, n: int) -> str:
    """Return the id of a run that started `n` seconds after START."""
    return f"{sense}/{START + n * 1000:012x}7{n % 2**64:019x}"


def begun(
    run: str, *, cause: str | None = None, kind: TriggerKind | None = None, coalesced: int = 0, n: int = 0
) -> LogEvent:
    """Return the `run_start` of a run, `n` seconds after START."""
    sense = run.partition("/")[0]
    stamp = Stamp(START + n * 1000, 0)
    signal = Signal(cause.partition("/")[0], "{}", cause, stamp.ts) if cause else None
    kind = kind or ("signal" if cause else "interval")
    reflex = None if kind == "manual" else f"{sense}-reflex"
    trigger = Trigger(kind, reflex, signal, coalesced, stamp.ts)
    return catalog.run_start(stamp, run, sense, trigger, digest="d", lateness_ms=3, skipped=0)


def ended(run: str, status: Status = "ok", *, ms: float | None = 5.5, signal: bool = True, n: int = 0) -> LogEvent:
    """Return the `run_complete` of a run, `n` seconds and 500 ms after START."""
    stamp = Stamp(START + n * 1000 + 500, 0)
    sense = run.partition("/")[0]
    return catalog.run_complete(stamp, run, sense, status=status, duration_ms=ms, signal=signal, worker=7)


def failed(run: str, message: str = "boom", *, n: int = 0) -> LogEvent:
    """Return the error of a run, `n` seconds and 400 ms after START."""
    detail = ErrorDetail("compute", message, "ValueError", "Traceback:\n  boom\n")
    return catalog.error(Stamp(START + n * 1000 + 400, 0), run, detail)


def said(run: str, payload: object, *, n: int = 0) -> LogEvent:
    """Return an entry that a run logged itself, `n` seconds and 100 ms after START."""
    return catalog.from_sense(Stamp(START + n * 1000 + 100, 0), run, "reading", payload)
