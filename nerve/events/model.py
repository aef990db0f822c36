"""What the log holds: LogEvent on its way in, Log on its way out, and the values that their fields may have."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec

Status = Literal["ok", "error", "timeout", "died", "lost", "cancelled"]
ErrorKind = Literal[
    "compute", "timeout", "worker_died", "lost", "payload", "sense_load",
    "process_died", "archive", "disk", "wire", "wal",
]  # fmt: skip
ArchiveReason = Literal["retention", "max_size", "interrupted"]
STATUSES: tuple[Status, ...] = get_args(Status)

# A 64-bit column must hold it, whoever sent it: one event out of range must not fail a whole commit.
Milliseconds = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]


class LogEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One event on its way to the log; `payload` is JSON text, `ts` unix ms, `mono` monotonic ns."""

    source: str
    type: str
    ref_id: str | None
    payload: str
    ts: Milliseconds
    mono: int


class Log(msgspec.Struct, frozen=True):
    """One entry of the log, as a query returns it.

    Attributes:
        id: Its number in the log; later entries have higher ones, and none is used twice.
        source: `system`, `reflex`, `sense` or `logging`.
        type: What happened, such as `run_start`, or the name that a sense gave it.
        ref_id: What it is about: a run id, a sense's name, ... (see `docs/events.md`); None if nothing.
        payload: The decoded JSON value.
        ts: When it happened, in unix ms.

    Example:
        >>> entry = Log(7, "sense", "reading", "disk/0199", {"used": 0.93}, 1_700_000_000_000)
        >>> entry.payload["used"]
        0.93
    """

    id: int
    source: str
    type: str
    ref_id: str | None
    payload: Any
    ts: int


class DamagedLog(Log, frozen=True):
    """An entry whose payload is not valid JSON, which nerve never writes; `payload` is its text as stored."""

    damaged: bool = True


class ErrorDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """The payload of a `system/error`: what failed, and as much as is known about it.

    `event` and `preview` describe a value that could not be stored. `backoff_ms` is how long the sense is not run.
    """

    kind: ErrorKind
    message: str
    exception: str | None = None
    traceback: str | None = None
    backoff_ms: int | None = None
    exit_code: int | None = None
    event: str | None = None
    preview: str | None = None
