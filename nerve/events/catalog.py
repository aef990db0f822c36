"""What is recorded: LogEvent on its way in, Log on its way out, and the vocabulary with a constructor each."""

from __future__ import annotations

import msgspec

from nerve.clock import Stamp
from nerve.errors import PayloadError
from nerve.events.model import ArchiveReason, ErrorDetail, LogEvent, Status
from nerve.events.payload import DEFAULT_MAX_BYTES, PREVIEW_CHARS, encode_payload, printable
from nerve.events.redaction import Redactor
from nerve.events.trigger import Trigger, TriggerKind


def _event(now: Stamp, source: str, type: str, ref_id: str | None, payload: object) -> LogEvent:
    return LogEvent(source, type, ref_id, msgspec.json.encode(payload).decode(), now.ts, now.mono)


def start(
    now: Stamp, boot_id: str, *, version: str, pid: int, workers: int, senses: list[str], reflexes: list[str]
) -> LogEvent:
    """The engine has started."""
    payload = {"version": version, "pid": pid, "workers": workers, "senses": senses, "reflexes": reflexes}
    return _event(now, "system", "start", boot_id, payload)


def stop(now: Stamp, boot_id: str, *, reason: str, uptime_ms: int) -> LogEvent:
    """The engine has stopped: the last entry of a boot."""
    return _event(now, "system", "stop", boot_id, {"reason": reason, "uptime_ms": uptime_ms})


def error(now: Stamp, ref_id: str | None, detail: ErrorDetail) -> LogEvent:
    """Something failed; `ref_id` is a run id, a sense's name or a process's name."""
    return _event(now, "system", "error", ref_id, detail)


def archive(now: Stamp, day: str, *, rows: int, file: str, sha256: str, reason: ArchiveReason) -> LogEvent:
    """A UTC day (or its late rows) has moved to the archive and out of the table.

    It was older than the retention, or the log had more than its `max_size`; or an interrupted run was completed.
    """
    return _event(now, "system", "archive", day, {"rows": rows, "file": file, "sha256": sha256, "reason": reason})


def events_dropped(now: Stamp, process: str, *, n: int, reason: str) -> LogEvent:
    """Something that was only for the eye (never an entry of the log) had to be dropped: how much, and why."""
    return _event(now, "system", "events_dropped", process, {"n": n, "reason": reason})


def config_reload(now: Stamp, boot_id: str, changes: tuple[str, ...]) -> LogEvent:
    """A nerve.yaml is in force that differs from the one before in this way."""
    return _event(now, "system", "config_reload", boot_id, {"ok": True, "changes": changes})


def config_refused(now: Stamp, boot_id: str, errors: tuple[str, ...]) -> LogEvent:
    """The nerve.yaml on disk has these problems: the one before stays in force."""
    return _event(now, "system", "config_reload", boot_id, {"ok": False, "errors": errors})


def sense_reload(now: Stamp, sense: str, *, digest: str, files: dict[str, str]) -> LogEvent:
    """A sense runs this version from its next run on; `files` has the digest of each file that it is made of."""
    return _event(now, "system", "sense_reload", sense, {"ok": True, "digest": digest, "files": files})


def sense_refused(now: Stamp, sense: str, error: str, digest: str | None = None) -> LogEvent:
    """The files of a sense are broken: the version before stays in force, or this one, if there was none before."""
    revision = {} if digest is None else {"digest": digest}
    return _event(now, "system", "sense_reload", sense, {"ok": False, "error": error, **revision})


def scale(now: Stamp, boot_id: str, *, before: int, after: int, by: str) -> LogEvent:
    """The number of workers changes; `by` tells what asked for it."""
    return _event(now, "system", "scale", boot_id, {"from": before, "to": after, "by": by})


class RunStart(msgspec.Struct, frozen=True, gc=False):
    """The payload of a `run_start`; `cause` is the run whose signal fired this one, times are ms."""

    sense: str
    reflex: str | None
    trigger: TriggerKind
    cause: str | None
    scheduled_ts: int
    lateness_ms: int
    skipped: int
    coalesced: int
    digest: str


class RunComplete(msgspec.Struct, frozen=True, gc=False):
    """The payload of a `run_complete`; `duration_ms` and `worker` (its pid) are None where nobody is left who knew."""

    sense: str
    status: Status
    duration_ms: float | None
    signal: bool
    worker: int | None


def run_start(
    now: Stamp, run_id: str, sense: str, trigger: Trigger, *, digest: str, lateness_ms: int, skipped: int
) -> LogEvent:
    """A reflex has fired, or a hand has: this run starts now, with the code of this digest."""
    payload = RunStart(
        sense,
        trigger.reflex,
        trigger.kind,
        trigger.signal.run_id if trigger.signal else None,
        trigger.scheduled_ts,
        lateness_ms,
        skipped,
        trigger.coalesced,
        digest,
    )
    return _event(now, "reflex", "run_start", run_id, payload)


def run_complete(
    now: Stamp, run_id: str, sense: str, *, status: Status, duration_ms: float | None, signal: bool, worker: int | None
) -> LogEvent:
    """A run has ended, in whatever way; `duration_ms` and `worker` are None where nobody is left who knew them."""
    return _event(now, "reflex", "run_complete", run_id, RunComplete(sense, status, duration_ms, signal, worker))


def from_sense(
    now: Stamp,
    run_id: str,
    type: str,
    payload: object,
    max_bytes: int = DEFAULT_MAX_BYTES,
    redactor: Redactor | None = None,
) -> LogEvent:
    """What a compute logs itself; a payload that can't be stored becomes a `system/error` in its place."""
    return _own_event(now, "sense", type, run_id, payload, max_bytes, redactor)


def from_logging(
    now: Stamp, run_id: str | None, level: str, payload: object, max_bytes: int, redactor: Redactor | None = None
) -> LogEvent:
    """A stdlib logging record made inside a compute."""
    return _own_event(now, "logging", level, run_id, payload, max_bytes, redactor)


def _own_event(
    now: Stamp,
    source: str,
    type: str,
    ref_id: str | None,
    payload: object,
    max_bytes: int,
    redactor: Redactor | None,
) -> LogEvent:
    try:
        text = encode_payload(payload, max_bytes, redactor)
        if not _is_plain(type):
            encode_payload(type)
    except PayloadError as refusal:
        return error(now, ref_id, quarantine(printable(f"{source}/{type}"[:PREVIEW_CHARS]), refusal))
    return LogEvent(source, type, ref_id, text, now.ts, now.mono)


def _is_plain(name: str) -> bool:
    """Tell whether a name can be stored for sure: most can, and to encode each as JSON would take a while."""
    return name.__class__ is str and name.isascii() and len(name) <= PREVIEW_CHARS


def quarantine(name: str, refusal: PayloadError) -> ErrorDetail:
    """Describe a value that can't be stored: `name` is the (source/type of the) event that it was meant for."""
    message = f"the payload of {name} can't be stored as JSON: {refusal.reason}"
    return ErrorDetail(kind="payload", message=message, event=name, preview=refusal.preview)
