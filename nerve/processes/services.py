"""The services: one child each that is kept alive (diagnostics, writer, archiver, watcher); the kernel's side."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from nerve.config.logs_section import LogsConfig
from nerve.errors import WireError
from nerve.ipc.event_loop import Loop
from nerve.processes.child import Child, Role, describe_exit
from nerve.processes.messages import Failed, Finish, FromChild, Ready, SetLogsConfig, ToChild
from nerve.processes.restart import (
    BACKGROUND_DELAY_SECONDS,
    FAILED_STARTS_LIMIT,
    LONGEST_DELAY_SECONDS,
    restart_delay,
)

logger = logging.getLogger("nerve.kernel")

DEATHS_KEPT = 50


@dataclass(frozen=True, slots=True)
class Death:
    """How a service ended, in one line; `explained` if that line is its own.

    It is started again in `restart_in` seconds, or not at all if that is None.
    """

    message: str
    exit_code: int
    restart_in: float | None
    explained: bool = False


@dataclass(slots=True)
class Service:
    """One child of a role, which is started again whenever it dies, until it is asked to finish."""

    role: Role
    fork: Callable[[Role], Child]
    watch: Callable[[Child], None]
    forget: Callable[[Child], None]
    longest_delay: float = LONGEST_DELAY_SECONDS
    child: Child | None = None
    finishing: bool = False
    gave_up: str | None = None
    """Why it is not started again."""
    ever_ready: bool = False
    killed: bool = False
    """The kernel has killed it, so its death is not reported."""
    _deaths: list[float] = field(default_factory=list)
    _failed_starts: int = 0
    _start_at: float | None = 0.0

    @property
    def pid(self) -> int | None:
        """Its process, if there is one."""
        return self.child.pid if self.child else None

    @property
    def ready(self) -> bool:
        """Its child is up, and serves."""
        return self.child is not None and self.child.ready

    @property
    def ended(self) -> bool:
        """It has no child, and will not get another one."""
        return self.child is None and (self._start_at is None or self.finishing)

    @property
    def problem(self) -> str | None:
        """Why it is not started again, in one line for the user; None if it is."""
        if self.gave_up is None:
            return None
        return f"the {self.role.name} failed to start {FAILED_STARTS_LIMIT} times and is not restarted: {self.gave_up}"

    @property
    def start_at(self) -> float | None:
        """When `start` forks its child, in monotonic seconds; None if it has one, or will not get another."""
        return None if self.child or self.finishing else self._start_at

    def start(self, now: float) -> None:
        """Fork its child if that is due. A failed fork is tried again, for the system may have room later."""
        if self.start_at is None or now < self.start_at:
            return
        try:
            self.child = self.fork(self.role)
        except OSError as error:
            logger.warning("can't fork the %s, and will try again: %s", self.role.name, error.strerror)
            self._plan_restart(now, f"it can't be forked: {error.strerror}")
            return
        self.watch(self.child)

    def request(self, message: ToChild) -> bool:
        """Send a message to a child that serves; return False if there is none, or it is finishing."""
        if self.child is None or not self.child.ready or self.finishing:
            return False
        self.child.send(message)
        return True

    def receive(self) -> list[FromChild]:
        """Return the child's messages about its work; its own state (Ready, Failed) is noted here.

        A child that sends an invalid message is killed.
        """
        child = self.child
        if child is None:
            return []
        messages: list[FromChild] = []
        try:
            for message in child.link.receive():
                match message:
                    case Ready():
                        child.ready = self.ever_ready = True
                        self._failed_starts = 0
                    case Failed(message=reason):
                        child.failure = reason
                    case _:
                        messages.append(message)
        except WireError as error:
            child.failure = f"it sent an invalid message: {error}"
            child.link.ended = True
            child.signal(signal.SIGKILL)
        child.link.flush()
        if child.link.ended:
            self.forget(child)
        return messages

    def finish(self) -> None:
        """Let it end in good order. May be called twice, or before it was started."""
        if not self.finishing and self.child:
            self.child.send(Finish())
        self.finishing = True

    def reap(self, now: float) -> Death | None:
        """Note that its child has ended; return None if it lives, was killed here, or exited well when asked to."""
        if self.child is None:
            return None
        code = self.child.reap()
        if code is None:
            return None
        child, self.child = self.child, None
        self.forget(child)
        child.close()
        explained = child.failure is not None
        reason = child.failure or describe_exit(code)
        if self.killed or (self.finishing and code == 0):
            return None
        if self.finishing:
            return Death(reason, code, None, explained)
        # A child that was killed from outside did not fail by itself: the next one may well serve.
        if not child.ready and code != -signal.SIGKILL:
            self._failed_starts += 1
        return Death(reason, code, self._plan_restart(now, reason), explained)

    def kill(self) -> None:
        """Kill its child, if there is one, and don't start it again."""
        self.finishing = self.killed = True
        if self.child:
            self.child.kill()

    def hang_up(self, timeout: float) -> None:
        """Close the link, wait at most `timeout` seconds for the child to exit because of that, then kill it."""
        self.finishing = True
        if self.child:
            self.forget(self.child)
            self.child.link.close()
            self.child.join(timeout)
            self.child.kill()
            self.child.close()
            self.child = None

    def _plan_restart(self, now: float, reason: str) -> float | None:
        """Decide when it is started again after a failure; return the delay in seconds, or None to give up."""
        self._deaths = [*self._deaths[-DEATHS_KEPT:], now]
        delay = restart_delay(self._deaths, self._failed_starts, now, self.longest_delay)
        self._start_at = None if delay is None else now + delay
        if delay is None:
            self.gave_up = reason
            logger.error(self.problem)
        return delay


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles of all children, handed in as data: the kernel does not import their code."""

    compute: Role
    writer: Role
    archiver: Role
    watcher: Role
    diagnostics: Role


class Services:
    """All services of the engine; `on_message` gets what they send about their work.

    The archiver and the watcher are in the background: they are started when the writer first serves, so that the log
    exists, and the shutdown ends them first.
    """

    def __init__(
        self, roles: Roles, fork: Callable[[Role], Child], loop: Loop, on_message: Callable[[FromChild], None]
    ) -> None:
        self._fork = fork
        self._loop = loop
        self._on_message = on_message
        self.diagnostics = self._service(roles.diagnostics)
        self.writer = self._service(roles.writer)
        self.archiver = self._service(roles.archiver, BACKGROUND_DELAY_SECONDS)
        self.watcher = self._service(roles.watcher)
        self._first = (self.diagnostics, self.writer)
        self._background = (self.archiver, self.watcher)
        self._all = (*self._first, *self._background)

    def start(self, now: float) -> None:
        """Fork the services whose start is due."""
        for service in self._startable:
            service.start(now)

    def next_deadline(self) -> float | None:
        """Return when `start` has something to do next, in monotonic seconds; None for never."""
        return min((at for service in self._startable if (at := service.start_at) is not None), default=None)

    def reap(self, now: float) -> list[tuple[Service, Death]]:
        """Return the services that have died since the last call, after their last messages were handled."""
        died = []
        for service in self._all:
            self._receive(service)
            death = service.reap(now)
            if death:
                died.append((service, death))
        return died

    def finish_background(self) -> None:
        """Let the archiver and the watcher end in good order. May be called twice."""
        for service in self._background:
            service.finish()

    def kill_background(self) -> None:
        """Kill the archiver and the watcher, if they still run."""
        for service in self._background:
            service.kill()

    @property
    def background_ended(self) -> bool:
        """The archiver and the watcher have ended for good."""
        return all(service.ended for service in self._background)

    def set_logs_config(self, logs: LogsConfig) -> None:
        """Send the archiver a new configuration; an archiver that is forked later inherits it."""
        if self.archiver.child:
            self.archiver.child.send(SetLogsConfig(logs))

    def end(self, last_seconds: float) -> None:
        """Kill all services; the diagnostics process gets `last_seconds` to print what it has."""
        self.writer.kill()
        self.kill_background()
        self.diagnostics.hang_up(last_seconds)

    def problems(self) -> list[str]:
        """Return a line for each service that is not started again."""
        return [problem for service in self._all if (problem := service.problem)]

    @property
    def _startable(self) -> tuple[Service, ...]:
        return self._all if self.writer.ever_ready else self._first

    def _service(self, role: Role, longest_delay: float = LONGEST_DELAY_SECONDS) -> Service:
        def watch(child: Child) -> None:
            self._loop.watch(child.link, lambda: self._receive(service))

        service = Service(role, self._fork, watch, lambda child: self._loop.forget(child.link), longest_delay)
        return service

    def _receive(self, service: Service) -> None:
        for message in service.receive():
            self._on_message(message)
