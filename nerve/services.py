"""All services of the engine, started in their order, heard, and reaped; in the kernel."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nerve.children import LONGEST_DELAY_SECONDS, PATIENT_DELAY_SECONDS, Child, Role
from nerve.config.logs_section import LogsConfig
from nerve.errors import WireError
from nerve.ipc.event_loop import Loop
from nerve.messages import ArchiveSettings, Failed, FromChild, Ready
from nerve.service import Death, Service

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
