"""The control socket: typed requests and replies between `nerve ...` commands and the running kernel."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from nerve.control.status import EngineStatus
from nerve.events.model import Status
from nerve.ipc.progress import Archived, ArchiveProgress

PROTOCOL = 1


class GetStatus(msgspec.Struct, frozen=True, tag=1):
    """Ask how the engine is."""


class TriggerSense(msgspec.Struct, frozen=True, tag=2):
    """Ask for a run of a sense; `payload` is JSON text. With `wait` a Finished follows the Accepted."""

    sense: str
    payload: str | None
    wait: bool


class StopEngine(msgspec.Struct, frozen=True, tag=3):
    """Ask for a graceful stop; the connection ends when the kernel does."""


class RunArchive(msgspec.Struct, frozen=True, tag=4):
    """Ask for a run of the archiver at once; `retention` in seconds, None for the configured one."""

    retention: float | None
    vacuum: bool


class ScaleWorkers(msgspec.Struct, frozen=True, tag=5):
    """Ask for another number of workers."""

    workers: int


class ReloadFiles(msgspec.Struct, frozen=True, tag=6):
    """Ask to look at nerve.yaml and all senses now, and to load all that is good anew."""


class Envelope(msgspec.Struct, frozen=True):
    """What every request travels in: the version of this protocol that the client speaks."""

    protocol: int
    request: GetStatus | TriggerSense | StopEngine | RunArchive | ScaleWorkers | ReloadFiles


class Refused(msgspec.Struct, frozen=True, tag=1):
    """The kernel won't, and says why in one line."""

    message: str


class Accepted(msgspec.Struct, frozen=True, tag=2):
    """The kernel will."""


class StatusReply(msgspec.Struct, frozen=True, tag=3):
    """How the engine is."""

    status: EngineStatus


class Finished(msgspec.Struct, frozen=True, tag=4):
    """A run that was waited for has ended, and all of it is committed."""

    run_id: str
    status: Status


class Scaled(msgspec.Struct, frozen=True, tag=6):
    """The number of workers was `before`, and is what was asked for from now on."""

    before: int


class Reloaded(msgspec.Struct, frozen=True, tag=7):
    """What is in force now: the changes of the configuration, the senses loaded anew, and what is wrong with files."""

    changes: tuple[str, ...]
    senses: tuple[str, ...]
    problems: tuple[str, ...]


Request = GetStatus | TriggerSense | StopEngine | RunArchive | ScaleWorkers | ReloadFiles
Reply = Refused | Accepted | StatusReply | Finished | Archived | Scaled | Reloaded | ArchiveProgress
Answer = Callable[[Reply], None]
