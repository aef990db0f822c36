"""Handling the requests of `nerve` commands: answered at once or later, without blocking the kernel."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from nerve.clock import Clock
from nerve.config.config import MAX_WORKERS
from nerve.control.protocol import (
    Accepted,
    Answer,
    Finished,
    GetStatus,
    Refused,
    ReloadFiles,
    Request,
    RunArchive,
    Scaled,
    ScaleWorkers,
    StopEngine,
    TriggerSense,
)
from nerve.events.model import Status
from nerve.ipc.progress import Archived, ArchiveProgress
from nerve.kernel.dispatcher import Announce
from nerve.kernel.status_collector import StatusCollector
from nerve.processes.messages import ArchiveNow
from nerve.processes.services import Service
from nerve.reload.revision import Revision

_CANCELLED = "the run was cancelled: the engine is stopping, or the sense was removed"


class _Engine(Protocol):
    def stop(self, reason: str) -> None: ...

    def scale(self, workers: int, by: str) -> int: ...


class _Dispatcher(Protocol):
    def trigger(self, sense: str, payload: str | None, now: float, announce: Announce | None) -> str | None: ...


class _Reloader(Protocol):
    revision: Revision

    def ask(self, answer: Answer) -> None: ...


@dataclass(slots=True)
class RequestHandler:
    """Handles each request of a command; those that take time are answered later."""

    engine: _Engine
    dispatcher: _Dispatcher
    archiver: Service
    reloader: _Reloader
    status: StatusCollector
    clock: Clock
    _awaiting_archive: deque[Answer] = field(default_factory=deque)

    def handle(self, request: Request, answer: Answer) -> None:
        """Answer a request, now or later."""
        match request:
            case GetStatus():
                self.status.ask(answer)
            case TriggerSense():
                self._trigger(request, answer)
            case StopEngine():
                answer(Accepted())
                self.engine.stop("nerve stop")
            case RunArchive():
                self._archive(request, answer)
            case ScaleWorkers(workers):
                self._scale(workers, answer)
            case ReloadFiles():
                self.reloader.ask(answer)

    def archived(self, message: ArchiveProgress | Archived) -> None:
        """Pass on the progress of an archive run to all who wait for one, its outcome to the first of them."""
        if isinstance(message, ArchiveProgress):
            for answer in self._awaiting_archive:
                answer(message)
        elif self._awaiting_archive:
            self._awaiting_archive.popleft()(message)

    def archiver_died(self, reason: str) -> None:
        """Answer all who wait for an archive run that the archiver died."""
        while self._awaiting_archive:
            self._awaiting_archive.popleft()(Refused(f"the archiver died ({reason}): nothing is lost, try again"))

    def _trigger(self, request: TriggerSense, answer: Answer) -> None:
        def announce(run_id: str | None, status: Status) -> None:
            answer(Finished(run_id, status) if run_id else Refused(_CANCELLED))

        refusal = self.dispatcher.trigger(
            request.sense, request.payload, self.clock.now(), announce if request.wait else None
        )
        answer(Refused(refusal) if refusal else Accepted())

    def _scale(self, workers: int, answer: Answer) -> None:
        if 1 <= workers <= MAX_WORKERS:
            answer(Scaled(self.engine.scale(workers, "nerve scale")))
        else:
            answer(Refused(f"there can be 1 to {MAX_WORKERS} workers, not {workers}"))

    def _archive(self, request: RunArchive, answer: Answer) -> None:
        retention = request.retention
        if retention is None:
            retention = self.reloader.revision.config.logs.retention
        if self.archiver.request(ArchiveNow(retention, request.vacuum)):
            self._awaiting_archive.append(answer)
        else:
            answer(Refused("the archiver is not running: see `nerve status`"))
