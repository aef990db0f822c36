"""A service: one child that must always be there (the writer, the archiver), restarted when it dies; in the kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from nerve.children import LONGEST_DELAY_SECONDS, Child, Role, describe_exit, restart_delay
from nerve.messages import Finish

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
        if not child.ready:
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
