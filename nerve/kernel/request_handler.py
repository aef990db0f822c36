"""Answering control requests, at once or later; in the kernel, and never holding it up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from nerve.clock import Clock
from nerve.config.config import MAX_WORKERS
from nerve.control.protocol import (
    Accepted,
    Answer,
    ArchiveDone,
    Finished,
    GetStatus,
    Refused,
    ReloadFiles,
    Request,
    RunArchive,
    Scaled,
    ScaleWorkers,
    StatusReply,
    StopEngine,
    TriggerSense,
)
from nerve.control.status import (
    ArchiverStatus,
    EngineStatus,
    KernelStatus,
    LaneStatus,
    WatcherStatus,
    WorkerStatus,
    WriterStatus,
)
from nerve.events.model import Status
from nerve.ipc.progress import ArchiveProgress
from nerve.kernel.dispatcher import Dispatcher
from nerve.kernel.recorder import Recorder
from nerve.kernel.reloader import Reloader
from nerve.processes.messages import Archived, ArchiveNow, ArchiverReport, GetReport, WriterReport
from nerve.processes.pool import Pool
from nerve.processes.services import Services

_NOT_RUN = "it will not run: the engine stops, or the sense was removed"

REPORT_SECONDS = 1.0
"""How long a status waits for the writer and the archiver to report; then it is given without."""


@dataclass(slots=True, eq=False)
class _PendingStatus:
    """Somebody who waits for a status, and for whose reports it still waits."""

    answer: Answer
    awaited: set[str]
    until: float


@dataclass(slots=True)
class RequestHandler:
    """Handles every request of a command; what takes time is answered later."""

    runs: Dispatcher
    pool: Pool
    recorder: Recorder
    services: Services
    reloads: Reloader
    clock: Clock
    stop: Callable[[str], None]
    scale: Callable[[int, str], int]
    kernel: Callable[[], KernelStatus]
    problems: Callable[[], list[str]]
    _inquiries: list[_PendingStatus] = field(default_factory=list)
    _archiving: deque[Answer] = field(default_factory=deque)
    _writer_report: WriterReport | None = None
    _archiver_report: ArchiverReport | None = None

    def handle(self, request: Request, answer: Answer) -> None:
        """Answer a request, now or later."""
        match request:
            case GetStatus():
                self._ask_for_reports(answer)
            case TriggerSense():
                self._trigger(request, answer)
            case StopEngine():
                answer(Accepted())
                self.stop("nerve stop")
            case RunArchive(retention, vacuum):
                self._archive(retention, answer, vacuum=vacuum)
            case ScaleWorkers(workers):
                self._scale(workers, answer)
            case ReloadFiles():
                self.reloads.ask(answer)

    def reported(self, report: WriterReport | ArchiverReport) -> None:
        """Take a report, and answer those who waited for nothing else."""
        if isinstance(report, WriterReport):
            self._writer_report, name = report, self.services.writer.role.name
        else:
            self._archiver_report, name = report, self.services.archiver.role.name
        for inquiry in self._inquiries:
            inquiry.awaited.discard(name)
        self._answer_inquiries(self.clock.now())

    def archived(self, message: ArchiveProgress | Archived) -> None:
        """Take how far a run of the archiver is, or its outcome, for those who have asked for one."""
        if isinstance(message, ArchiveProgress):
            for waiting in self._archiving:
                waiting(message)
        elif self._archiving:
            done = ArchiveDone(message.files, message.rows, message.notes)
            self._archiving.popleft()(Refused(message.error) if message.error else done)

    def archiver_died(self, reason: str) -> None:
        """Tell those who waited for the archiver that it is gone."""
        while self._archiving:
            self._archiving.popleft()(Refused(f"the archiver died ({reason}): nothing is lost, ask again"))

    def expire(self, now: float) -> None:
        """Answer those who have waited long enough with what is known."""
        self._answer_inquiries(now)

    def next_moment(self) -> float | None:
        """The moment at which `expire` has something to do."""
        return min((inquiry.until for inquiry in self._inquiries), default=None)

    def _trigger(self, request: TriggerSense, answer: Answer) -> None:
        def announce(run_id: str | None, status: Status) -> None:
            answer(Finished(run_id, status) if run_id else Refused(_NOT_RUN))

        refusal = self.runs.trigger(
            request.sense, request.payload, self.clock.now(), announce if request.wait else None
        )
        answer(Refused(refusal) if refusal else Accepted())

    def _scale(self, workers: int, answer: Answer) -> None:
        if 1 <= workers <= MAX_WORKERS:
            answer(Scaled(self.scale(workers, "nerve scale")))
        else:
            answer(Refused(f"there can be 1 to {MAX_WORKERS} workers, not {workers}"))

    def _archive(self, retention: float | None, answer: Answer, *, vacuum: bool) -> None:
        if self.services.archiver.child is None or not self.services.archiver.ready or self.services.archiver.finishing:
            answer(Refused("the archiver is not there: see `nerve status`"))
            return
        seconds = self.reloads.revision.config.logs.retention if retention is None else retention
        self.services.archiver.child.send(ArchiveNow(seconds, vacuum))
        self._archiving.append(answer)

    def _ask_for_reports(self, answer: Answer) -> None:
        awaited = set()
        for service in (self.services.writer, self.services.archiver):
            if service.child and service.ready:
                service.child.send(GetReport())
                awaited.add(service.role.name)
        now = self.clock.now()
        self._inquiries.append(_PendingStatus(answer, awaited, now + REPORT_SECONDS))
        self._answer_inquiries(now)

    def _answer_inquiries(self, now: float) -> None:
        for inquiry in list(self._inquiries):
            if not inquiry.awaited or now >= inquiry.until:
                self._inquiries.remove(inquiry)
                inquiry.answer(StatusReply(self._status(inquiry.awaited, now)))

    def _status(self, silent: set[str], now: float) -> EngineStatus:
        problems = [*self.problems(), *self.reloads.problems]
        problems += [f"the {name} did not report within {REPORT_SECONDS:g} s" for name in silent]
        if self._writer_report and self._writer_report.outage and self.services.writer.role.name not in silent:
            problems.append(f"the log can't be written, everybody waits: {self._writer_report.outage}")
        if self._archiver_report:
            problems += self._archiver_report.problems
        watcher = self.services.watcher.child
        return EngineStatus(
            self.kernel(),
            [
                WorkerStatus(
                    worker.child.pid,
                    worker.state,
                    worker.open_run.run.run_id if worker.open_run else None,
                    worker.open_run.run.sense if worker.open_run else None,
                    None,
                    worker.runs,
                )
                for worker in self.pool.workers.values()
            ],
            self._writer_status(self.services.writer.role.name in silent),
            self._archiver_status(),
            WatcherStatus(watcher.pid if watcher else None),
            self.runs.statuses(now),
            problems,
            self._lanes(),
        )

    def _lanes(self) -> list[LaneStatus]:
        lanes = self._writer_report.lanes if self._writer_report else ()
        return [LaneStatus(lane.producer, lane.pid, lane.bytes, lane.age_ms) for lane in lanes]

    def _writer_status(self, silent: bool) -> WriterStatus:  # noqa: FBT001 - private, and named at its one call
        pid = self.services.writer.child.pid if self.services.writer.child else None
        report = None if silent else self._writer_report
        unacknowledged = self.recorder.unacknowledged
        if report is None:
            return WriterStatus(pid, None, None, None, None, None, unacknowledged)
        return WriterStatus(
            pid,
            report.committed,
            report.events_per_s,
            report.lag_ms,
            report.queue_depth,
            report.wal_bytes,
            unacknowledged,
        )

    def _archiver_status(self) -> ArchiverStatus:
        pid = self.services.archiver.child.pid if self.services.archiver.child else None
        report = self._archiver_report
        if report is None:
            return ArchiverStatus(pid, None, None, None)
        return ArchiverStatus(pid, report.last_ts, report.next_ts, report.archived_up_to)
