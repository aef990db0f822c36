"""What the kernel and its children tell each other over their links."""

from __future__ import annotations

import msgspec

from nerve.config.logs_section import LogsConfig
from nerve.events.model import ErrorDetail, Status
from nerve.events.trigger import Trigger
from nerve.ipc.progress import ArchiveProgress
from nerve.reload.codebase import Version
from nerve.reload.update import Update


class Run(msgspec.Struct, frozen=True, tag=1):
    """Kernel to worker: run this compute now. The trigger's signal carries JSON text; times are seconds.

    `version` is None where it is what the worker was sent last of this sense. `weigh` asks for the worker's
    memory at the end. `after` counts the runs that come by the link before this one, where it is prefetched.
    """

    run_id: str
    sense: str
    version: Version | None
    trigger: Trigger
    timeout: float
    grace_period: float
    max_payload: int
    redact: tuple[str, ...] = ()
    weigh: bool = False
    after: int = 0


class Finish(msgspec.Struct, frozen=True, tag=2):
    """Kernel to any child: end in good order, and lose nothing on the way."""


class GetReport(msgspec.Struct, frozen=True, tag=3):
    """Kernel to writer or archiver: say how you are."""


class ArchiveNow(msgspec.Struct, frozen=True, tag=4):
    """Kernel to archiver: do a run at once. `retention` in seconds; `vacuum` rebuilds the database file after it."""

    retention: float
    vacuum: bool


class SetLogsConfig(msgspec.Struct, frozen=True, tag=5):
    """Kernel to archiver: use this configuration from now on, and schedule the next run by it."""

    logs: LogsConfig


class Rescan(msgspec.Struct, frozen=True, tag=6):
    """Kernel to watcher: look at all files now, take everything that is good as changed, and answer with `request`."""

    request: int


class Ready(msgspec.Struct, frozen=True, tag=1):
    """Child to kernel: up and serving."""


class Failed(msgspec.Struct, frozen=True, tag=2):
    """Child to kernel: can't do the work, and why, in one line; the child ends."""

    message: str


class RunResult(msgspec.Struct, frozen=True, tag=3):
    """Worker to kernel: how a run has ended; `signal` is JSON text, None for a silent run; the duration is in ms.

    `spent`: it has used up the worker's memory, and the worker ends, for the next run would find none. `rss_bytes` is
    what memory the worker then has, where the run was to be weighed. `closing_ms` is what it took to close the
    databases that the run had opened. `dropped_entries` counts the entries that could not be stored.
    """

    run_id: str
    status: Status
    duration_ms: float
    signal: str | None = None
    error: ErrorDetail | None = None
    spent: bool = False
    rss_bytes: int | None = None
    closing_ms: float = 0.0
    dropped_entries: int = 0


class WriterReport(msgspec.Struct, frozen=True, tag=4):
    """Writer to kernel: `committed` entries since it started, rate over the last seconds, and what waits.

    `outage` tells why it can't write at present, while the disk refuses.
    """

    committed: int
    events_per_s: float
    lag_ms: float
    queue_depth: int
    wal_bytes: int
    outage: str | None = None


class ArchiverReport(msgspec.Struct, frozen=True, tag=5):
    """Archiver to kernel: its last and next run in unix ms, and the day up to which everything is archived.

    `problems` are sentences that a person should read.
    """

    last_ts: int | None
    next_ts: int
    archived_up_to: str | None
    problems: tuple[str, ...] = ()


class Archived(msgspec.Struct, frozen=True, tag=6):
    """Archiver to kernel: the outcome of ArchiveNow; `notes` are sentences that who asked should read."""

    files: int
    rows: int
    error: str | None = None
    notes: tuple[str, ...] = ()


class UnwatchedFolders(msgspec.Struct, frozen=True, tag=9):
    """Watcher to kernel: changes in these folders can't be noticed, one line each with the reason; none: all can."""

    folders: tuple[str, ...]


ToChild = Run | Finish | GetReport | ArchiveNow | SetLogsConfig | Rescan
FromChild = (
    Ready | Failed | RunResult | WriterReport | ArchiverReport | Archived | Update | UnwatchedFolders | ArchiveProgress
)
