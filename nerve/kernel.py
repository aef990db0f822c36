"""The kernel: one single-threaded loop over timers, children and control requests; it does no work of its own.

It never imports user code and never opens logs.db. It decides when runs start, hands them to the pool, records how
they end, restarts what dies, and at the end climbs down the shutdown ladder.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
from dataclasses import dataclass

from nerve import events
from nerve.children import Boot, Child, Role
from nerve.clock import Clock
from nerve.config import Config
from nerve.control import ControlServer
from nerve.errors import StartError, WireError
from nerve.eventqueue import Lane
from nerve.events import ErrorDetail
from nerve.loop import Loop
from nerve.messages import Archived, ArchiveProgress, ArchiverReport, Failed, FromChild, Ready, WriterReport
from nerve.pool import Pool, Worker
from nerve.recorder import Recorder
from nerve.requests import Requests
from nerve.runs import Runs, make_schedule
from nerve.service import Death, Service
from nerve.shutdown import Ladder, Stage
from nerve.signals import STOP_SIGNALS, SignalQueue
from nerve.status import KernelStatus
from nerve.version import __version__

logger = logging.getLogger("nerve.kernel")

LAST_SECONDS = 0.5
"""How long the diagnostics process has for printing what is left, after everybody else has ended."""


@dataclass(frozen=True, slots=True)
class Roles:
    """What runs inside the kernel's children, handed in as data: the kernel imports none of it."""

    compute: Role
    writer: Role
    archiver: Role
    diagnostics: Role


class Kernel:
    """Supervises one boot of the engine, from the first fork to the last exit."""

    def __init__(self, config: Config, boot: Boot, roles: Roles, control: socket.socket, clock: Clock) -> None:
        self._config = config
        self._boot = boot
        self._clock = clock
        self._started = clock.now()
        self._loop = Loop()
        lane = Lane(boot.workspace.event_socket, f"kernel-{os.getpid()}/{boot.boot_id}")
        self._recorder = Recorder(lane, self._loop, clock)
        self._diagnostics, self._writer, self._archiver = self._services = (
            self._service(roles.diagnostics),
            self._service(roles.writer),
            self._service(roles.archiver),
        )
        self._pool = Pool(
            lambda now: Child(roles.compute, boot, now), self._watch_worker, self._forget_worker, config.workers
        )
        self._runs = Runs(config, make_schedule(config, self._started), self._pool, self._recorder, clock)
        self._requests = Requests(
            config, self._runs, self._pool, self._writer, self._archiver, clock, self.stop, self._status, self._problems
        )
        self._signals = SignalQueue((*STOP_SIGNALS, signal.SIGCHLD))
        self._loop.watch(self._signals, self._take_signals)
        self._control = ControlServer(control, self._loop, self._requests.handle, self._offended)
        self._stage = Stage.RUNNING
        self._ladder: Ladder | None = None
        self._failure: str | None = None

    def run(self, run_for: float | None = None) -> None:
        """Run until stopped (after `run_for` seconds, if given); returns when no child is left.

        Raises StartError when a process that the engine can't do without is not to be had.
        """
        stop_at = None if run_for is None else self._started + run_for
        self._record_start()
        gc.collect()
        gc.freeze()  # so that a collection in a child does not copy every page that it shares with the kernel
        try:
            while True:
                now = self._clock.now()
                if stop_at is not None and now >= stop_at and self._ladder is None:
                    self.stop("the time that it was to run for is over")
                self._turn(now)
                if self._stage is Stage.OVER:
                    break
                self._loop.wait(self._timeout(stop_at))
        finally:
            self._end_everything()
        if self._failure:
            raise StartError(self._failure)

    def stop(self, reason: str) -> None:
        """Begin the shutdown ladder; being told again hurries it."""
        now = self._clock.now()
        if self._ladder:
            self._ladder = self._ladder.hurried(now)
            return
        logger.info("stopping: %s", reason)
        self._ladder = Ladder.plan(reason, now, self._config.shutdown_timeout)
        self._stage = Stage.COMPUTES
        self._runs.halt(now)
        self._pool.close()
        self._archiver.finish()

    # One turn of the loop.

    def _turn(self, now: float) -> None:
        self._recorder.tend()
        self._diagnostics.start(now)
        self._writer.start(now)
        if self._writer.ever_ready:  # the log exists
            self._archiver.start(now)
        self._pool.fill(now)
        self._pool.enforce(now)
        self._requests.expire(now)
        if self._ladder:
            self._step_down(self._ladder, now)
        else:
            self._runs.advance(now)

    def _timeout(self, stop_at: float | None) -> float | None:
        now = self._clock.now()
        moments = (
            self._pool.next_moment(),
            self._recorder.next_moment(),
            self._requests.next_moment(),
            *(service.start_at for service in self._services if self._writer.ever_ready or service is self._writer),
            self._ladder.next_moment(now) if self._ladder else self._runs.next_moment(),
            None if self._ladder else stop_at,
        )
        due = min((moment for moment in moments if moment is not None), default=None)
        return None if due is None else max(0.0, due - now)

    def _take_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGCHLD:
                self._reap()
            else:
                self.stop(number.name)

    # Children: what they say, and how they end.

    def _service(self, role: Role) -> Service:
        def watch(child: Child) -> None:
            self._loop.watch(child.link, lambda: self._hear(service))

        service = Service(
            role, lambda role, now: Child(role, self._boot, now), watch, lambda child: self._loop.forget(child.link)
        )
        return service

    def _watch_worker(self, worker: Worker) -> None:
        self._loop.watch(worker.child.link, lambda: self._runs.ended(self._pool.hear(worker), self._clock.now()))

    def _forget_worker(self, worker: Worker) -> None:
        self._loop.forget(worker.child.link)

    def _hear(self, service: Service) -> None:
        child = service.child
        if child is None:
            return
        try:
            for message in child.link.receive():
                self._heed(service, message)
        except WireError as error:
            service.failed(f"what it sent made no sense: {error}")
            child.link.ended = True
            child.signal(signal.SIGKILL)
        child.link.flush()
        if child.link.ended:
            self._loop.forget(child.link)

    def _heed(self, service: Service, message: FromChild) -> None:
        match message:
            case Ready():
                service.became_ready()
            case Failed(message=reason):
                service.failed(reason)
            case WriterReport() | ArchiverReport():
                self._requests.reported(message)
            case Archived():
                self._requests.archived(message)
            case ArchiveProgress():
                self._requests.archiving(message)
            case _:
                logger.error("the %s sent an unexpected %s", service.role.name, type(message).__name__)

    def _reap(self) -> None:
        now = self._clock.now()
        self._runs.ended(self._pool.reap(now), now)
        for service in self._services:
            self._hear(service)  # its last words may say why it ended
            death = service.reap(now)
            if death:
                self._service_died(service, death)

    def _service_died(self, service: Service, death: Death) -> None:
        name = service.role.name
        if service is self._writer and (service.finishing or not service.ever_ready):
            early = f"the writer ended too early ({death.message}): what is committed is safe; start again"
            self._failure = death.message if death.explained else early
            self._stage = Stage.OVER
            return
        then = "it is given up" if death.restart_in is None else "it is restarted"
        message = f"the {name} died ({death.message}): {then}"
        logger.warning(message)
        detail = ErrorDetail("process_died", message, exit_code=death.exit_code)
        self._recorder.submit([events.error(self._clock.stamp(), name, detail)])
        if service is self._archiver:
            self._requests.archiver_died(death.message)
        if service is self._writer and death.restart_in is None:
            self._failure = f"the writer can't be kept running: {death.message}"
            self.stop(self._failure)

    # The shutdown ladder.

    def _step_down(self, ladder: Ladder, now: float) -> None:
        if self._stage is Stage.COMPUTES:
            self._end_computes(ladder, now)
        if self._stage is Stage.RECORD and (self._recorder.settled or now >= ladder.record_by):
            self._stage = Stage.DRAIN
            self._writer.finish()
        if self._stage is Stage.DRAIN and not self._writer.ended and now >= ladder.end_at:
            self._failure = "the writer was not done in time and had to be killed: what it had not committed is lost"
            self._stage = Stage.OVER
        if self._stage is Stage.DRAIN and self._writer.ended:
            self._stage = Stage.OVER

    def _end_computes(self, ladder: Ladder, now: float) -> None:
        if now >= ladder.interrupt_at:
            self._pool.interrupt()
        if now >= ladder.kill_at:
            self._pool.condemn(now)
            self._archiver.kill()
        if not self._pool.workers and self._archiver.ended:
            self._stage = Stage.RECORD
            uptime_ms = round((now - self._started) * 1000)
            stop = events.stop(self._clock.stamp(), self._boot.boot_id, reason=ladder.reason, uptime_ms=uptime_ms)
            self._recorder.submit([stop])

    def _end_everything(self) -> None:
        """Let the diagnostics print what is left, and kill whatever has not ended by itself."""
        for worker in self._pool.workers.values():
            worker.child.kill()
        self._writer.kill()
        self._archiver.kill()
        self._diagnostics.hang_up(LAST_SECONDS)
        self._recorder.close()
        self._control.close()
        self._signals.retire()
        self._loop.close()

    # What the engine says of itself.

    def _record_start(self) -> None:
        config = self._config
        start = events.start(
            self._clock.stamp(),
            self._boot.boot_id,
            version=__version__,
            pid=os.getpid(),
            workers=config.workers,
            senses=list(config.senses),
            reflexes=[reflex.name for reflex in config.reflexes],
        )
        self._recorder.submit([start])

    def _offended(self, message: str) -> None:
        logger.warning(message)
        self._recorder.submit([events.error(self._clock.stamp(), "kernel", ErrorDetail("wire", message))])

    def _status(self) -> KernelStatus:
        uptime_ms = round((self._clock.now() - self._started) * 1000)
        return KernelStatus(os.getpid(), self._boot.boot_id, uptime_ms, __version__)

    def _problems(self) -> list[str]:
        problems = [
            f"the {service.role.name} is given up: {service.gave_up}" for service in self._services if service.gave_up
        ]
        if self._ladder:
            problems.append(f"the engine is stopping: {self._ladder.reason}")
        if not self._recorder.open:
            problems.append("the writer is behind or away: no further run starts until it has caught up")
        return problems
