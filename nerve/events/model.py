"""What is recorded: LogEvent on its way in, Log on its way out, and the words they use."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec

Status = Literal["ok", "error", "timeout", "died", "lost", "cancelled"]
ErrorKind = Literal[
    "compute", "timeout", "worker_died", "lost", "payload", "sense_load",
    "config", "process_died", "archive", "disk", "wire", "wal",
]  # fmt: skip
ArchiveReason = Literal["retention", "max_size", "interrupted"]
STATUSES: tuple[Status, ...] = get_args(Status)


# What a 64-bit column holds for sure, whoever sent it: one event out of range must never fail a whole commit.
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
    """One entry of the log, as a query gives it; `payload` is decoded, `ts` is unix ms."""

    id: int
    source: str
    type: str
    ref_id: str | None
    payload: Any
    ts: int


class DamagedLog(Log, frozen=True):
    """An entry whose payload is no JSON, which nothing of ours writes; `payload` is its text as it stands there."""

    damaged: bool = True


class ErrorDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong: the payload of a `system/error`; the optional fields are there where they are known."""

    kind: ErrorKind
    message: str
    exception: str | None = None
    traceback: str | None = None
    backoff_ms: int | None = None
    exit_code: int | None = None
    event: str | None = None
    preview: str | None = None
