"""Collecting the engine's status, with reports of the writer and the archiver that arrive later; in the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nerve.clock import Clock
from nerve.control.protocol import Answer, StatusReply
from nerve.control.status import (
    ArchiverStatus,
    EngineStatus,
    KernelStatus,
    LaneStatus,
    SenseStatus,
    WatcherStatus,
    WorkerStatus,
    WriterStatus,
)
from nerve.processes.messages import ArchiverReport, GetReport, WriterReport
from nerve.processes.services import Services

REPORT_SECONDS = 1.0
"""How long a status waits for the reports of the writer and the archiver; then it is sent without them."""


class _Senses(Protocol):
    def statuses(self, now: float) -> list[SenseStatus]: ...


class _Workers(Protocol):
    def statuses(self) -> list[WorkerStatus]: ...


class _Recorder(Protocol):
    @property
    def unacknowledged(self) -> int: ...


@dataclass(slots=True, eq=False)
class _PendingStatus:
    """A request for the status, and the names of the services whose reports it still waits for."""

    answer: Answer
    awaited: set[str]
    until: float


@dataclass(slots=True)
class StatusCollector:
    """Answers requests for the status. `problem_sources` return sentences for the user."""

    kernel: Callable[[], KernelStatus]
    senses: _Senses
    workers: _Workers
    recorder: _Recorder
    services: Services
    clock: Clock
    problem_sources: Sequence[Callable[[], Iterable[str]]]
    _pending: list[_PendingStatus] = field(default_factory=list)
    _writer_report: WriterReport | None = None
    _archiver_report: ArchiverReport | None = None

    def ask(self, answer: Answer) -> None:
        """Ask the writer and the archiver for their reports, and answer with the status once they have replied."""
        asked = (self.services.writer, self.services.archiver)
        awaited = {service.role.name for service in asked if service.request(GetReport())}
        now = self.clock.now()
        self._pending.append(_PendingStatus(answer, awaited, now + REPORT_SECONDS))
        self.expire(now)

    def reported(self, report: WriterReport | ArchiverReport) -> None:
        """Keep a report, and answer the requests that waited for nothing else."""
        if isinstance(report, WriterReport):
            self._writer_report, service = report, self.services.writer
        else:
            self._archiver_report, service = report, self.services.archiver
        for pending in self._pending:
            pending.awaited.discard(service.role.name)
        self.expire(self.clock.now())

    def expire(self, now: float) -> None:
        """Answer the requests that wait for nothing more, or have waited long enough."""
        for pending in list(self._pending):
            if not pending.awaited or now >= pending.until:
                self._pending.remove(pending)
                pending.answer(StatusReply(self._status(pending.awaited, now)))

    def next_deadline(self) -> float | None:
        """Return when `expire` has something to do next, in monotonic seconds; None for never."""
        return min((pending.until for pending in self._pending), default=None)

    def _status(self, silent: set[str], now: float) -> EngineStatus:
        writer_report = None if self.services.writer.role.name in silent else self._writer_report
        problems = [problem for source in self.problem_sources for problem in source()]
        problems += [f"the {name} did not report within {REPORT_SECONDS:g} s" for name in silent]
        if writer_report and writer_report.outage:
            problems.append(f"the log can't be written, senses are paused: {writer_report.outage}")
        if self._archiver_report:
            problems += self._archiver_report.problems
        return EngineStatus(
            kernel=self.kernel(),
            workers=self.workers.statuses(),
            writer=self._writer_status(writer_report),
            archiver=self._archiver_status(self._archiver_report),
            watcher=WatcherStatus(self.services.watcher.pid),
            senses=self.senses.statuses(now),
            problems=problems,
            lanes=self._lanes(),
        )

    def _lanes(self) -> list[LaneStatus]:
        lanes = self._writer_report.lanes if self._writer_report else ()
        return [LaneStatus(lane.producer, lane.pid, lane.bytes, lane.age_ms) for lane in lanes]

    def _writer_status(self, report: WriterReport | None) -> WriterStatus:
        return WriterStatus(
            pid=self.services.writer.pid,
            committed=report.committed if report else None,
            events_per_s=report.events_per_s if report else None,
            lag_ms=report.lag_ms if report else None,
            queue_depth=report.queue_depth if report else None,
            wal_bytes=report.wal_bytes if report else None,
            unacknowledged=self.recorder.unacknowledged,
        )

    def _archiver_status(self, report: ArchiverReport | None) -> ArchiverStatus:
        return ArchiverStatus(
            pid=self.services.archiver.pid,
            last_ts=report.last_ts if report else None,
            next_ts=report.next_ts if report else None,
            archived_up_to=report.archived_up_to if report else None,
        )
