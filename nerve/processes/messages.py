"""The messages between the kernel and its child processes."""

from __future__ import annotations

import msgspec

from nerve.config.logs_section import LogsConfig
from nerve.eventqueue import LaneBacklog
from nerve.events.model import ErrorDetail, Status
from nerve.events.trigger import Trigger
from nerve.ipc.progress import Archived, ArchiveProgress
from nerve.reload.codebase import Version
from nerve.reload.update import Update


class Run(msgspec.Struct, frozen=True, kw_only=True, tag=1):
    """Kernel to worker: run this compute now.

    `version` is the code of the sense, or None if the worker was last sent this version. The signal of `trigger`
    carries JSON text. `timeout` is in seconds, `max_payload` in bytes. With `measure_memory` the result reports the
    worker's memory. A prefetched run has `after`: how many runs the kernel had sent by the link before it.
    """

    run_id: str
    sense: str
    version: Version | None = None
    trigger: Trigger
    timeout: float
    max_payload: int
    redact: tuple[str, ...] = ()
    measure_memory: bool = False
    after: int = 0


class Finish(msgspec.Struct, frozen=True, tag=2):
    """Kernel to any child: finish your work, then exit."""


class GetReport(msgspec.Struct, frozen=True, tag=3):
    """Kernel to writer or archiver: reply with a WriterReport or an ArchiverReport."""


class ArchiveNow(msgspec.Struct, frozen=True, tag=4):
    """Kernel to archiver: archive now what is older than `retention` seconds.

    With `vacuum` the database file is rebuilt afterwards.
    """

    retention: float
    vacuum: bool


class SetLogsConfig(msgspec.Struct, frozen=True, tag=5):
    """Kernel to archiver: use this configuration from now on, and schedule the next run by it."""

    logs: LogsConfig


class Rescan(msgspec.Struct, frozen=True, tag=6):
    """Kernel to watcher: read all files again, treat every valid one as changed, and reply with number `request`."""

    request: int


class Lanes(msgspec.Struct, frozen=True, tag=7):
    """Kernel to writer: lanes in `live` have or will have a producer, the producers of those in `gone` have exited."""

    live: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


class Ready(msgspec.Struct, frozen=True, tag=1):
    """Child to kernel: the child is up and serves."""


class Failed(msgspec.Struct, frozen=True, tag=2):
    """Child to kernel: the child can't do its work and exits; `message` is the reason in one line."""

    message: str


class RunResult(msgspec.Struct, frozen=True, kw_only=True, tag=3):
    """Worker to kernel: how a run ended.

    `signal` is JSON text, or None if the compute returned None. If `out_of_memory`, the worker exits after this run.
    `rss_bytes` is the worker's memory, where the run asked for it. `db_close_ms` is the time spent on closing the
    databases that the run had opened; `duration_ms` does not include it. `dropped_entries` counts the entries that
    could not be stored.
    """

    run_id: str
    status: Status
    duration_ms: float
    signal: str | None = None
    error: ErrorDetail | None = None
    out_of_memory: bool = False
    rss_bytes: int | None = None
    db_close_ms: float = 0.0
    dropped_entries: int = 0


class WriterReport(msgspec.Struct, frozen=True, kw_only=True, tag=4):
    """Writer to kernel: its counters.

    `committed` counts the entries since the writer started; `events_per_s` covers the last seconds. `outage` is the
    reason why the disk refuses to be written at present, or None.
    """

    committed: int
    events_per_s: float
    lag_ms: float
    queue_depth: int
    wal_bytes: int
    outage: str | None = None
    lanes: tuple[LaneBacklog, ...] = ()


class Committed(msgspec.Struct, frozen=True, tag=6):
    """Writer to kernel: the position that the kernel waits for in its lane is committed."""


class LaneCorrupt(msgspec.Struct, frozen=True, tag=11):
    """Writer to kernel: a lane is corrupt, for this reason, and its producer has to be replaced."""

    producer: str
    reason: str


class ArchiverReport(msgspec.Struct, frozen=True, tag=5):
    """Archiver to kernel: its last and next run in unix ms, and the UTC day up to which everything is archived.

    `problems` are sentences for the user.
    """

    last_ts: int | None
    next_ts: int
    archived_up_to: str | None
    problems: tuple[str, ...] = ()


class UnwatchedFolders(msgspec.Struct, frozen=True, tag=9):
    """Watcher to kernel: all folders whose changes it can't notice, each with the reason in one line."""

    folders: tuple[str, ...]


ToChild = Run | Finish | GetReport | ArchiveNow | SetLogsConfig | Rescan | Lanes
FromChild = (
    Ready
    | Failed
    | RunResult
    | WriterReport
    | Committed
    | LaneCorrupt
    | ArchiverReport
    | Archived
    | Update
    | UnwatchedFolders
    | ArchiveProgress
)
