"""A constructor for each event type: what its source, type and `ref_id` are, and the payload it carries."""

from __future__ import annotations

from typing import Literal

import msgspec

from nerve.clock import Stamp
from nerve.errors import PayloadError
from nerve.events.model import ArchiveReason, ErrorDetail, LogEvent, Status
from nerve.events.payload import DEFAULT_MAX_BYTES, PREVIEW_CHARS, encode_payload, printable
from nerve.events.payload_types import (
    Archive,
    ConfigReload,
    RunComplete,
    RunStart,
    Scale,
    SenseReload,
    Start,
    Stop,
)
from nerve.events.redaction import Redactor
from nerve.events.trigger import Trigger


def _event(now: Stamp, source: str, type: str, ref_id: str | None, payload: msgspec.Struct) -> LogEvent:
    return LogEvent(source, type, ref_id, msgspec.json.encode(payload).decode(), now.ts, now.mono)


def start(
    now: Stamp, boot_id: str, *, version: str, pid: int, workers: int, senses: list[str], reflexes: list[str]
) -> LogEvent:
    """Record that the engine has started."""
    payload = Start(version=version, pid=pid, workers=workers, senses=senses, reflexes=reflexes)
    return _event(now, "system", "start", boot_id, payload)


def stop(now: Stamp, boot_id: str, *, reason: str, uptime_ms: int) -> LogEvent:
    """Record that the engine has stopped: the last entry of a boot."""
    return _event(now, "system", "stop", boot_id, Stop(reason, uptime_ms))


def error(now: Stamp, ref_id: str | None, detail: ErrorDetail) -> LogEvent:
    """Record a failure; `ref_id` is a run id, a sense's name or a process's name."""
    return _event(now, "system", "error", ref_id, detail)


def archive(now: Stamp, day: str, *, rows: int, file: str, sha256: str, reason: ArchiveReason) -> LogEvent:
    """Record that a UTC day (or its late rows) was moved from the table to the archive."""
    return _event(now, "system", "archive", day, Archive(rows, file, sha256, reason))


def config_reload(now: Stamp, boot_id: str, changes: tuple[str, ...]) -> LogEvent:
    """Record that a new nerve.yaml is active, and how it differs from the previous one."""
    return _event(now, "system", "config_reload", boot_id, ConfigReload(ok=True, changes=changes))


def config_refused(now: Stamp, boot_id: str, errors: tuple[str, ...]) -> LogEvent:
    """Record that the nerve.yaml on disk has these problems, and that the previous one stays active."""
    return _event(now, "system", "config_reload", boot_id, ConfigReload(ok=False, errors=errors))


def sense_reload(now: Stamp, sense: str, *, digest: str, files: dict[str, str]) -> LogEvent:
    """Record the version that a sense runs from its next run on; `files` maps each of its files to a digest."""
    return _event(now, "system", "sense_reload", sense, SenseReload(ok=True, digest=digest, files=files))


def sense_refused(now: Stamp, sense: str, error: str, digest: str | None = None) -> LogEvent:
    """Record that the files of a sense are broken, and that its previous version stays active.

    Without a previous version its runs fail, and `digest` is that of the broken one.
    """
    return _event(now, "system", "sense_reload", sense, SenseReload(ok=False, error=error, digest=digest))


def scale(now: Stamp, boot_id: str, *, before: int, after: int, by: str) -> LogEvent:
    """Record that the number of workers changes, and what asked for it."""
    return _event(now, "system", "scale", boot_id, Scale(before, after, by))


def run_start(
    now: Stamp, run_id: str, sense: str, trigger: Trigger, *, digest: str, lateness_ms: int, skipped: int
) -> LogEvent:
    """Record that a run starts, with the code that has this digest."""
    payload = RunStart(
        sense=sense,
        reflex=trigger.reflex,
        trigger=trigger.kind,
        cause=trigger.signal.run_id if trigger.signal else None,
        scheduled_ts=trigger.scheduled_ts,
        lateness_ms=lateness_ms,
        skipped=skipped,
        coalesced=trigger.coalesced,
        digest=digest,
    )
    return _event(now, "reflex", "run_start", run_id, payload)


def run_complete(
    now: Stamp,
    run_id: str,
    sense: str,
    *,
    status: Status,
    duration_ms: float | None,
    signal: bool,
    worker: int | None,
    dropped_entries: int = 0,
) -> LogEvent:
    """Record the end of a run; `duration_ms` and `worker` are None if no process knows them any more."""
    payload = RunComplete(
        sense=sense,
        status=status,
        duration_ms=duration_ms,
        signal=signal,
        worker=worker,
        dropped_entries=dropped_entries,
    )
    return _event(now, "reflex", "run_complete", run_id, payload)


def from_sense(
    now: Stamp,
    run_id: str | None,
    type: str,
    payload: object,
    max_bytes: int = DEFAULT_MAX_BYTES,
    redactor: Redactor | None = None,
    *,
    source: Literal["sense", "logging"] = "sense",
) -> LogEvent:
    """Record what a compute logs: by `ctx.log`, or with `source="logging"` by Python's logging.

    A payload that can't be stored, or takes more than `max_bytes`, becomes a `system/error` in its place.
    """
    try:
        text = encode_payload(payload, max_bytes, redactor)
        if not _is_plain(type):
            encode_payload(type)
    except PayloadError as refusal:
        return error(now, run_id, quarantine(printable(f"{source}/{type}"[:PREVIEW_CHARS]), refusal))
    return LogEvent(source, type, run_id, text, now.ts, now.mono)


def _is_plain(name: str) -> bool:
    """Return True if a name can certainly be stored: nearly all can, and encoding each as JSON would take a while."""
    return name.__class__ is str and name.isascii() and len(name) <= PREVIEW_CHARS


def quarantine(name: str, refusal: PayloadError) -> ErrorDetail:
    """Describe a value that can't be stored; `name` is the source and type of the event that it was meant for."""
    problem = refusal.reason if refusal.too_large else f"can't be stored as JSON: {refusal.reason}"
    return ErrorDetail("payload", f"the payload of {name} {problem}", event=name, preview=refusal.preview)
