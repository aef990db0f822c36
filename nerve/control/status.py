"""The state of the engine: what `nerve status` shows, and with --json prints."""

from __future__ import annotations

from typing import Literal

import msgspec

from nerve.events.model import Status

SenseState = Literal["idle", "running", "pending", "throttled", "backoff"]


class KernelStatus(msgspec.Struct, frozen=True):
    """The kernel process."""

    pid: int
    boot_id: str
    uptime_ms: int
    version: str


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One worker of the pool; the command that asks fills in `rss_bytes`."""

    pid: int
    state: Literal["idle", "busy", "stopping"]
    run: str | None
    sense: str | None
    rss_bytes: int | None
    runs: int


class WriterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The writer: entries committed since it started, and how far behind it is; None if it did not reply in time.

    `unacknowledged` is the number of batches of the kernel that it has not committed yet.
    """

    pid: int | None
    committed: int | None
    events_per_s: float | None
    lag_ms: float | None
    queue_depth: int | None
    wal_bytes: int | None
    unacknowledged: int


class ArchiverStatus(msgspec.Struct, frozen=True):
    """The archiver: its last and next run in unix ms, and the UTC day up to which everything is archived."""

    pid: int | None
    last_ts: int | None
    next_ts: int | None
    archived_up_to: str | None


class WatcherStatus(msgspec.Struct, frozen=True):
    """The watcher; `pid` is None if none is running."""

    pid: int | None


class SenseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One sense; times in unix ms."""

    name: str
    state: SenseState
    last_run: str | None
    last_status: Status | None
    last_ts: int | None
    next_due_ts: int | None
    consecutive_failures: int


class LaneStatus(msgspec.Struct, frozen=True):
    """What one producer has logged that is not committed: bytes, and the age of the oldest event in ms."""

    producer: str
    pid: int
    bytes: int
    age_ms: float


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `nerve status` shows; `problems` and `notes` are sentences for a person.

    A command adds the `notes`: they are about its system, and are not problems of the engine.
    """

    kernel: KernelStatus
    workers: list[WorkerStatus]
    writer: WriterStatus
    archiver: ArchiverStatus
    watcher: WatcherStatus
    senses: list[SenseStatus]
    problems: list[str]
    lanes: list[LaneStatus] = []
    notes: list[str] = []
