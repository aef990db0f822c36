"""The kernel: one single-threaded loop over timers, children and control requests.

It decides when runs start, hands them to the pool, records how they end, restarts children that die, and stops the
engine by the shutdown ladder. It never imports user code and never opens logs.db.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
from dataclasses import replace

from nerve.clock import Clock
from nerve.config.config import MAX_WORKERS
from nerve.control.server import ControlServer
from nerve.control.status import KernelStatus
from nerve.errors import StartError
from nerve.events import catalog
from nerve.events.model import ErrorDetail
from nerve.ipc.event_loop import Loop
from nerve.ipc.progress import Archived, ArchiveProgress
from nerve.kernel.dispatcher import Dispatcher, make_schedule
from nerve.kernel.recorder import Recorder
from nerve.kernel.reloader import Reloader, RevisionChange
from nerve.kernel.request_handler import RequestHandler
from nerve.kernel.shutdown import Ladder, Stage
from nerve.kernel.status_collector import StatusCollector
from nerve.processes.child import Boot, Child, Role
from nerve.processes.lanes import LaneKeeper
from nerve.processes.messages import (
    ArchiverReport,
    Committed,
    FromChild,
    LaneCorrupt,
    UnwatchedFolders,
    WriterReport,
)
from nerve.processes.pool import Limits, Pool
from nerve.processes.services import Death, Roles, Service, Services
from nerve.processes.signals import SCALE_SIGNALS, STOP_SIGNALS, SignalQueue
from nerve.processes.worker_handle import WorkerHandle
from nerve.reload.update import Update
from nerve.version import __version__
from nerve.workspace import CONFIG_NAME

logger = logging.getLogger("nerve.kernel")

LAST_SECONDS = 0.5
"""How long the diagnostics process has to print what is left, after all others have ended."""


class Kernel:
    """Supervises one boot of the engine, from the first fork to the last exit."""

    def __init__(
        self, boot: Boot, roles: Roles, control: socket.socket, clock: Clock, workers: int | None = None
    ) -> None:
        """`workers` is their number if it is not left to the configuration."""
        self._boot = boot
        self._clock = clock
        self._pinned = workers
        self._started = clock.now()
        self._loop = Loop()
        config = boot.revision.config
        self._roles = roles
        self._lanes = LaneKeeper(boot, roles.writer)
        self._recorder = Recorder(self._lanes.open_own(), clock, lambda: self._services.writer.ever_ready)
        self._services = Services(roles, self._fork, self._loop, self._on_message)
        self._pool = Pool(
            lambda: self._fork(roles.compute),
            self._watch_worker,
            lambda worker: self._loop.forget(worker.child.link),
            workers or config.workers,
            Limits(config.max_runs, config.max_rss),
        )
        schedule = make_schedule(config, self._started)
        self._dispatcher = Dispatcher(boot.revision, schedule, self._pool, self._recorder, clock)
        self._reloads = Reloader(boot, self._services.watcher, self._recorder, clock, workers)
        self._status = StatusCollector(
            self._kernel_status,
            self._dispatcher,
            self._pool,
            self._recorder,
            self._services,
            clock,
            (self._services.problems, self._problems, lambda: self._reloads.problems),
        )
        self._requests = RequestHandler(
            self, self._dispatcher, self._services.archiver, self._reloads, self._status, clock
        )
        self._signals = SignalQueue((*STOP_SIGNALS, *SCALE_SIGNALS, signal.SIGCHLD))
        self._loop.watch(self._signals, self._take_signals)
        self._control = ControlServer(control, self._loop, self._requests.handle, self._on_protocol_error)
        self._stage = Stage.RUNNING
        self._ladder: Ladder | None = None
        self._failure: str | None = None

    def run(self, run_for: float | None = None) -> None:
        """Run until stopped, or for `run_for` seconds; return when no child is left.

        Raises StartError if a process that the engine needs can't be started, or kept running.
        """
        stop_at = None if run_for is None else self._started + run_for
        self._lanes.reserve(self._roles.compute, self._pool.size)
        self._record_start()
        gc.collect()
        gc.freeze()  # else a collection in a child would copy every page that it shares with the kernel
        try:
            while True:
                now = self._clock.now()
                if stop_at is not None and now >= stop_at and self._ladder is None:
                    self.stop("the time to run for is over")
                self._turn(now)
                if self._stage is Stage.OVER:
                    break
                self._loop.wait(self._timeout(stop_at))
        finally:
            self._end_everything()
        if self._failure:
            raise StartError(self._failure)

    def stop(self, reason: str) -> None:
        """Begin the shutdown ladder; a second call hurries it."""
        now = self._clock.now()
        if self._ladder:
            self._ladder = self._ladder.hurried(now)
            return
        logger.info("stopping: %s", reason)
        self._ladder = Ladder.plan(reason, now, self._reloads.revision.config.shutdown_timeout)
        self._stage = Stage.COMPUTES
        self._pool.close(now)
        self._dispatcher.halt(now)
        self._services.finish_background()

    def scale(self, workers: int, by: str) -> int:
        """Set the number of workers, within its limits; return the number before. `by` is recorded as the cause."""
        before, after = self._pool.size, max(1, min(workers, MAX_WORKERS))
        if after != before:
            logger.info("workers: %d -> %d (%s)", before, after, by)
            self._recorder.submit(
                [catalog.scale(self._clock.stamp(), self._boot.boot_id, before=before, after=after, by=by)]
            )
            self._pool.resize(after, self._clock.now())
        return before

    # One turn of the loop.

    def _turn(self, now: float) -> None:
        self._recorder.maintain()
        self._services.start(now)
        self._pool.fill(now)
        self._pool.enforce(now)
        self._status.expire(now)
        if self._ladder:
            self._step_down(self._ladder, now)
        else:
            self._dispatcher.advance(now)

    def _timeout(self, stop_at: float | None) -> float | None:
        now = self._clock.now()
        moments = (
            self._pool.next_deadline(),
            self._recorder.next_deadline(),
            self._status.next_deadline(),
            self._services.next_deadline(),
            self._ladder.next_deadline(now) if self._ladder else self._dispatcher.next_deadline(),
            None if self._ladder else stop_at,
        )
        due = min((moment for moment in moments if moment is not None), default=None)
        return None if due is None else max(0.0, due - now)

    def _take_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGCHLD:
                self._reap()
            elif number in SCALE_SIGNALS:
                self.scale(self._pool.size + SCALE_SIGNALS[number], number.name)
            else:
                self.stop(number.name)

    # Children: their messages and their ends.

    def _fork(self, role: Role) -> Child:
        return self._lanes.fork(role, replace(self._boot, revision=self._reloads.revision))

    def _watch_worker(self, worker: WorkerHandle) -> None:
        self._loop.watch(worker.child.link, lambda: self._receive(worker))

    def _receive(self, worker: WorkerHandle) -> None:
        now = self._clock.now()
        self._dispatcher.record_ends(self._pool.receive(worker, now), now)

    def _on_message(self, message: FromChild) -> None:
        match message:
            case Committed():
                self._recorder.notified()
            case LaneCorrupt(producer, reason):
                self._condemn(producer, reason)
            case WriterReport() | ArchiverReport():
                self._status.reported(message)
            case ArchiveProgress() | Archived():
                self._requests.archived(message)
            case UnwatchedFolders(folders):
                self._reloads.set_unwatched(folders)
            case Update() if not self._ladder:
                if change := self._reloads.apply(message):
                    self._on_change(change)
            case Update():
                pass  # no further run could use it
            case _:
                logger.error("a service sent an unexpected %s", type(message).__name__)

    def _condemn(self, producer: str, reason: str) -> None:
        if not self._lanes.condemn(producer, reason) and self._failure is None:
            self._failure = f"the kernel's own lane of the event queue is corrupt: {reason}"
            self.stop(self._failure)

    def _reap(self) -> None:
        now = self._clock.now()
        self._dispatcher.record_ends(self._pool.reap(now), now)
        for service, death in self._services.reap(now):
            self._service_died(service, death)

    def _service_died(self, service: Service, death: Death) -> None:
        name = service.role.name
        writer = self._services.writer
        if service is writer and (service.finishing or not service.ever_ready):
            early = f"the writer ended too early ({death.message}): nothing is lost; start again"
            self._failure = death.message if death.explained else early
            self._stage = Stage.OVER
            return
        then = "it is not restarted" if death.restart_in is None else "it is restarted"
        message = f"the {name} died ({death.message}): {then}"
        logger.warning(message)
        detail = ErrorDetail("process_died", message, exit_code=death.exit_code)
        self._recorder.submit([catalog.error(self._clock.stamp(), name, detail)])
        if service is self._services.archiver:
            self._requests.archiver_died(death.message)
        if service is self._services.watcher:
            self._reloads.watcher_died(death.message)
        if service is writer and death.restart_in is None:
            self._failure = f"the writer can't be kept running: {death.message}"
            self.stop(self._failure)

    # Changes while it runs.

    def _on_change(self, change: RevisionChange) -> None:
        """Apply a new revision; runs that have started finish under the old one."""
        before, after = change
        now = self._clock.now()
        self._dispatcher.apply(after, now)
        config = after.config
        self._pool.limits = Limits(config.max_runs, config.max_rss)
        if config.logs != before.config.logs:
            self._services.set_logs_config(config.logs)
        if config.workers != before.config.workers and self._pinned is None:
            self.scale(config.workers, CONFIG_NAME)

    # The shutdown ladder.

    def _step_down(self, ladder: Ladder, now: float) -> None:
        if self._stage is Stage.COMPUTES:
            self._end_computes(ladder, now)
        if self._stage is Stage.RECORD and (self._recorder.settled or now >= ladder.record_by):
            self._stage = Stage.DRAIN
            self._services.writer.finish()
        if self._stage is Stage.DRAIN and not self._services.writer.ended and now >= ladder.end_at:
            self._failure = (
                "the writer was not done in time and had to be killed: what it had not committed waits in "
                f"{self._boot.workspace.lanes_dir}, and the next start writes it"
            )
            self._stage = Stage.OVER
        if self._stage is Stage.DRAIN and self._services.writer.ended:
            self._stage = Stage.OVER

    def _end_computes(self, ladder: Ladder, now: float) -> None:
        if now >= ladder.interrupt_at:
            self._pool.interrupt()
        if now >= ladder.kill_at:
            self._pool.kill(now)
            self._services.kill_background()
        if not self._pool.workers and self._services.background_ended:
            self._stage = Stage.RECORD
            uptime_ms = round((now - self._started) * 1000)
            stop = catalog.stop(self._clock.stamp(), self._boot.boot_id, reason=ladder.reason, uptime_ms=uptime_ms)
            self._recorder.submit([stop], committed=lambda: None)  # the callback makes the writer wake this loop

    def _end_everything(self) -> None:
        """Kill the children that have not ended by themselves, and let the diagnostics process print what is left."""
        for worker in self._pool.workers.values():
            worker.child.kill()
        self._services.end(LAST_SECONDS)
        self._control.close()
        self._recorder.close()
        self._lanes.close(discard=not self._services.writer.ever_ready)  # no run has begun
        self._signals.retire()
        self._loop.close()

    # What the kernel reports of itself.

    def _record_start(self) -> None:
        config = self._boot.revision.config
        start = catalog.start(
            self._clock.stamp(),
            self._boot.boot_id,
            version=__version__,
            pid=os.getpid(),
            workers=self._pool.size,
            senses=list(config.senses),
            reflexes=[reflex.name for reflex in config.reflexes],
        )
        self._recorder.submit([start])

    def _on_protocol_error(self, message: str) -> None:
        logger.warning(message)
        self._recorder.submit([catalog.error(self._clock.stamp(), "kernel", ErrorDetail("wire", message))])

    def _kernel_status(self) -> KernelStatus:
        uptime_ms = round((self._clock.now() - self._started) * 1000)
        return KernelStatus(os.getpid(), self._boot.boot_id, uptime_ms, __version__)

    def _problems(self) -> list[str]:
        problems = []
        if self._ladder:
            problems.append(f"the engine is stopping: {self._ladder.reason}")
        if not self._recorder.open:
            problems.append("the writer is behind or away: no further run starts until it has caught up")
        return problems
