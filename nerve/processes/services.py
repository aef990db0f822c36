"""All services of the engine, started in their order, heard, and reaped; in the kernel."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nerve.config.logs_section import LogsConfig
from nerve.errors import WireError
from nerve.ipc.event_loop import Loop
from nerve.processes.child import Child, Role, describe_exit
from nerve.processes.messages import ArchiveSettings, Failed, Finish, FromChild, Ready
from nerve.processes.restart import LONGEST_DELAY_SECONDS, PATIENT_DELAY_SECONDS, restart_delay

logger = logging.getLogger("nerve.kernel")


@dataclass(frozen=True, slots=True)
class Roles:
    """What runs inside the kernel's children, handed in as data: the kernel imports none of it."""

    compute: Role
    writer: Role
    archiver: Role
    watcher: Role
    diagnostics: Role


class Services:
    """The diagnostics process, the writer, the archiver and the watcher; `heed` is told what they say of their work."""

    def __init__(
        self, roles: Roles, fork: Callable[[Role, float], Child], loop: Loop, heed: Callable[[FromChild], None]
    ) -> None:
        self._fork = fork
        self._loop = loop
        self._heed = heed
        self.diagnostics = self._service(roles.diagnostics)
        self.writer = self._service(roles.writer)
        self.archiver = self._service(roles.archiver, PATIENT_DELAY_SECONDS)
        self.watcher = self._service(roles.watcher)
        self._all = (self.diagnostics, self.writer, self.archiver, self.watcher)
        self._first = (self.diagnostics, self.writer)

    def start(self, now: float) -> None:
        """Fork those whose moment has come; the archiver and the watcher once the log exists."""
        for service in self._startable:
            service.start(now)

    def next_moment(self) -> float | None:
        """The moment at which `start` has something to do."""
        return min((at for service in self._startable if (at := service.start_at) is not None), default=None)

    def reap(self, now: float) -> Iterator[tuple[Service, Death]]:
        """Notice those that have ended though they should not have, after hearing their last words."""
        for service in self._all:
            self._hear(service)
            death = service.reap(now)
            if death:
                yield service, death

    def finish_readers(self) -> None:
        """Have those end that the shutdown does not need: the archiver and the watcher. May be called twice."""
        self.archiver.finish()
        self.watcher.finish()

    def kill_readers(self) -> None:
        """Kill those, if they are still there."""
        self.archiver.kill()
        self.watcher.kill()

    @property
    def readers_ended(self) -> bool:
        """They are gone, and won't come back."""
        return self.archiver.ended and self.watcher.ended

    def archive_by(self, logs: LogsConfig) -> None:
        """Tell the archiver how it is to work from now on; one that is started later knows."""
        settings = ArchiveSettings(logs.retention, logs.archive_interval, logs.compress, logs.max_size)
        if self.archiver.child:
            self.archiver.child.send(settings)

    def end(self, last_seconds: float) -> None:
        """Kill what is left; the diagnostics process may take `last_seconds` for printing what it has."""
        self.writer.kill()
        self.kill_readers()
        self.diagnostics.hang_up(last_seconds)

    def problems(self) -> list[str]:
        """Name those that are given up."""
        return [f"the {service.role.name} is given up: {service.gave_up}" for service in self._all if service.gave_up]

    @property
    def _startable(self) -> tuple[Service, ...]:
        return self._all if self.writer.ever_ready else self._first

    def _service(self, role: Role, longest_delay: float = LONGEST_DELAY_SECONDS) -> Service:
        def watch(child: Child) -> None:
            self._loop.watch(child.link, lambda: self._hear(service))

        service = Service(role, self._fork, watch, lambda child: self._loop.forget(child.link), longest_delay)
        return service

    def _hear(self, service: Service) -> None:
        child = service.child
        if child is None:
            return
        try:
            for message in child.link.receive():
                self._take(service, message)
        except WireError as error:
            service.failed(f"what it sent made no sense: {error}")
            child.link.ended = True
            child.signal(signal.SIGKILL)
        child.link.flush()
        if child.link.ended:
            self._loop.forget(child.link)

    def _take(self, service: Service, message: FromChild) -> None:
        match message:
            case Ready():
                service.became_ready()
            case Failed(message=reason):
                service.failed(reason)
            case _:
                self._heed(message)


logger = logging.getLogger("nerve.kernel")


@dataclass(frozen=True, slots=True)
class Death:
    """How a service ended, in one line, `explained` if it said so itself.

    It is started again in `restart_in` seconds; None when it is not.
    """

    message: str
    exit_code: int
    restart_in: float | None
    explained: bool = False


@dataclass(slots=True)
class Service:
    """Keeps one child of a role alive until it is told to finish."""

    role: Role
    fork: Callable[[Role, float], Child]
    watch: Callable[[Child], None]
    forget: Callable[[Child], None]
    longest_delay: float = LONGEST_DELAY_SECONDS
    child: Child | None = None
    finishing: bool = False
    gave_up: str | None = None
    ever_ready: bool = False
    killed: bool = False
    """The kernel has killed it: its death is no news."""
    _deaths: list[float] = field(default_factory=list)
    _failed_starts: int = 0
    _start_at: float | None = 0.0

    @property
    def ready(self) -> bool:
        """It is there, and serves."""
        return self.child is not None and self.child.ready

    @property
    def ended(self) -> bool:
        """It is not there, and will not come back."""
        return self.child is None and (self._start_at is None or self.finishing)

    @property
    def start_at(self) -> float | None:
        """The moment at which it is started (again); None when it runs, or won't."""
        return None if self.child or self.finishing else self._start_at

    def start(self, now: float) -> None:
        """Fork it, when its moment has come. A fork that fails is tried again: it is the system that has no room."""
        if self.child or self._start_at is None or now < self._start_at or self.finishing:
            return
        try:
            self.child = self.fork(self.role, now)
        except OSError as error:
            logger.warning("can't fork the %s, and will try again: %s", self.role.name, error.strerror)
            self._failed(now, f"it can't be forked: {error.strerror}")
            return
        self.watch(self.child)

    def became_ready(self) -> None:
        """Note that it serves."""
        if self.child:
            self.child.ready = self.ever_ready = True
            self._failed_starts = 0

    def failed(self, reason: str) -> None:
        """Note why it says that it can't serve; its end follows."""
        if self.child:
            self.child.failure = reason

    def finish(self) -> None:
        """Have it end in good order. May be called twice, or before it was started."""
        if not self.finishing and self.child:
            self.child.send(Finish())
        self.finishing = True

    def reap(self, now: float) -> Death | None:
        """Notice that it has ended; None while it lives, and when it was told to and did so in good order."""
        if self.child is None:
            return None
        code = self.child.reap()
        if code is None:
            return None
        child, self.child = self.child, None
        self.forget(child)
        child.close()
        reason = child.failure or describe_exit(code)
        if self.killed:
            return None
        if self.finishing:
            return Death(reason, code, None, child.failure is not None) if code else None
        # Who was killed from outside did not fail by itself: the next one may well serve.
        if not child.ready and code != -signal.SIGKILL:
            self._failed_starts += 1
        return Death(reason, code, self._failed(now, reason), child.failure is not None)

    def kill(self) -> None:
        """Kill it, if it is there, and don't start it again."""
        self.finishing = self.killed = True
        if self.child:
            self.child.kill()

    def hang_up(self, timeout: float) -> None:
        """Close the link, wait at most `timeout` seconds for the end that follows from it, then kill."""
        self.finishing = True
        if self.child:
            self.forget(self.child)
            self.child.link.close()
            self.child.join(timeout)
            self.child.kill()
            self.child.close()
            self.child = None

    def _failed(self, now: float, reason: str) -> float | None:
        self._deaths = [*self._deaths[-50:], now]
        delay = restart_delay(self._deaths, self._failed_starts, now, self.longest_delay)
        self._start_at = None if delay is None else now + delay
        if delay is None:
            self.gave_up = reason
            logger.error("the %s is given up: %s", self.role.name, reason)
        return delay
