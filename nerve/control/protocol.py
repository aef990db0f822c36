"""The control socket: typed requests and replies between `nerve ...` commands and the running kernel."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from nerve.control.status import EngineStatus
from nerve.events.model import Status
from nerve.ipc.progress import Archived, ArchiveProgress

PROTOCOL = 1


class GetStatus(msgspec.Struct, frozen=True, tag=1):
    """Ask for the state of the engine."""


class TriggerSense(msgspec.Struct, frozen=True, tag=2):
    """Ask for a run of a sense; `payload` is JSON text. With `wait`, a Finished follows the Accepted."""

    sense: str
    payload: str | None
    wait: bool


class StopEngine(msgspec.Struct, frozen=True, tag=3):
    """Ask for a graceful stop; the connection is closed when the kernel ends."""


class RunArchive(msgspec.Struct, frozen=True, tag=4):
    """Ask for a run of the archiver now; `retention` in seconds, None for the configured one."""

    retention: float | None
    vacuum: bool


class ScaleWorkers(msgspec.Struct, frozen=True, tag=5):
    """Ask for another number of workers."""

    workers: int


class ReloadFiles(msgspec.Struct, frozen=True, tag=6):
    """Ask to read nerve.yaml and all senses now, and to reload everything that is valid."""


class Envelope(msgspec.Struct, frozen=True):
    """A request, with the version of this protocol that the client speaks."""

    protocol: int
    request: GetStatus | TriggerSense | StopEngine | RunArchive | ScaleWorkers | ReloadFiles


class Refused(msgspec.Struct, frozen=True, tag=1):
    """The request is refused; `message` says why, in one line."""

    message: str


class Accepted(msgspec.Struct, frozen=True, tag=2):
    """The request will be carried out."""


class StatusReply(msgspec.Struct, frozen=True, tag=3):
    """The state of the engine."""

    status: EngineStatus


class Finished(msgspec.Struct, frozen=True, tag=4):
    """The requested run has ended, and all its entries are committed."""

    run_id: str
    status: Status


class Scaled(msgspec.Struct, frozen=True, tag=6):
    """The number of workers is changed; `before` is what it was."""

    before: int


class Reloaded(msgspec.Struct, frozen=True, tag=7):
    """The files were read: changes of the configuration, senses that were reloaded, and problems found in files."""

    changes: tuple[str, ...]
    senses: tuple[str, ...]
    problems: tuple[str, ...]


Request = GetStatus | TriggerSense | StopEngine | RunArchive | ScaleWorkers | ReloadFiles
Reply = Refused | Accepted | StatusReply | Finished | Archived | Scaled | Reloaded | ArchiveProgress
Answer = Callable[[Reply], None]
