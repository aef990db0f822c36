"""How the engine is: what `nerve status` shows, one typed object that is also its JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from nerve.events.model import Status

SenseState = Literal["idle", "running", "pending", "throttled", "backoff"]


class KernelStatus(msgspec.Struct, frozen=True):
    """The kernel; `uptime_ms` in ms."""

    pid: int
    boot_id: str
    uptime_ms: int
    version: str


class WorkerStatus(msgspec.Struct, frozen=True):
    """One worker of the pool; `rss_bytes` is filled in by whoever asks."""

    pid: int
    state: Literal["idle", "busy", "stopping"]
    run: str | None
    sense: str | None
    rss_bytes: int | None
    runs: int


class WriterStatus(msgspec.Struct, frozen=True):
    """The writer: entries committed since it started, and how far behind it is. None: it did not answer in time.

    `unacknowledged` counts the kernel's own events that it has not confirmed yet.
    """

    pid: int | None
    committed: int | None
    events_per_s: float | None
    lag_ms: float | None
    queue_depth: int | None
    wal_bytes: int | None
    unacknowledged: int


class ArchiverStatus(msgspec.Struct, frozen=True):
    """The archiver: last and next run in unix ms, and the UTC day up to which everything is archived."""

    pid: int | None
    last_ts: int | None
    next_ts: int | None
    archived_up_to: str | None


class WatcherStatus(msgspec.Struct, frozen=True):
    """The watcher; `pid` is None where none runs."""

    pid: int | None


class SenseStatus(msgspec.Struct, frozen=True):
    """One sense; moments in unix ms."""

    name: str
    state: str
    last_run: str | None
    last_status: Status | None
    last_ts: int | None
    next_due_ts: int | None
    consecutive_failures: int


class EngineStatus(msgspec.Struct, frozen=True):
    """All of it. `problems` are sentences that a person should read; `notes`, which a command adds, are no problems."""

    kernel: KernelStatus
    workers: list[WorkerStatus]
    writer: WriterStatus
    archiver: ArchiverStatus
    watcher: WatcherStatus
    senses: list[SenseStatus]
    problems: list[str]
    notes: list[str] = []
