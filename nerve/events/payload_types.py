"""The payload of each event type that nerve itself records, one struct per type; `docs/events.md` describes them.

The order of the fields is the order of the keys in the log's JSON: add new ones at the end.
"""

from __future__ import annotations

import msgspec

from nerve.events.model import ArchiveReason, Status
from nerve.events.trigger import TriggerKind


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """`system/start`: the engine's version, its kernel's pid, and the configuration that it starts with."""

    version: str
    pid: int
    workers: int
    senses: list[str]
    reflexes: list[str]


class Stop(msgspec.Struct, frozen=True):
    """`system/stop`: why the engine stopped, and how long it ran, in ms."""

    reason: str
    uptime_ms: int


class Archive(msgspec.Struct, frozen=True):
    """`system/archive`: `rows` entries of a day are in `file`, whose bytes have this SHA-256 digest."""

    rows: int
    file: str
    sha256: str
    reason: ArchiveReason


class ConfigReload(msgspec.Struct, frozen=True, omit_defaults=True):
    """`system/config_reload`: `changes` if the new nerve.yaml is active, else the `errors` for which it is not."""

    ok: bool
    changes: tuple[str, ...] | None = None
    errors: tuple[str, ...] | None = None


class SenseReload(msgspec.Struct, frozen=True, omit_defaults=True):
    """`system/sense_reload`: the version of a sense that is active now, or the `error` for which a new one is not.

    `digest` identifies the version, and `files` has the digest of each file that it consists of. With an `error`,
    `digest` is there only if no earlier version works: each run then fails with that error.
    """

    ok: bool
    error: str | None = None
    digest: str | None = None
    files: dict[str, str] | None = None


class Scale(msgspec.Struct, frozen=True):
    """`system/scale`: the number of workers before and after, and what asked for the change."""

    before: int = msgspec.field(name="from")
    after: int = msgspec.field(name="to")
    by: str


class RunStart(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`reflex/run_start`: why a run started, and with which code; `cause` is the run whose signal fired it."""

    sense: str
    reflex: str | None
    trigger: TriggerKind
    cause: str | None
    scheduled_ts: int
    lateness_ms: int
    skipped: int
    coalesced: int
    digest: str


class RunComplete(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """`reflex/run_complete`: how a run ended; `duration_ms` and `worker` (a pid) are None if no process knows them.

    `dropped_entries` counts what the run logged but could not be stored, as its payload was too large or not JSON.
    """

    sense: str
    status: Status
    duration_ms: float | None
    signal: bool
    worker: int | None
    dropped_entries: int = 0


class LoggingRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`logging/*`: a record of Python's logging; its `extra` fields come before these in the payload."""

    logger: str
    message: str
    traceback: str | None = None
    stack: str | None = None
