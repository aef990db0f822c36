"""The services of an engine as fake children, and a loop that watches them for the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from nerve.ipc.event_loop import Loop, Source
from nerve.processes.child import Child, Role
from nerve.processes.messages import FromChild, Ready
from nerve.processes.services import Roles, Services
from support.children import FakeChild

NOW = 100.0
NAMES = ("diagnostics", "writer", "archiver", "watcher")


class FakeLoop(Loop):
    """A loop without a selector: the test calls what it would call."""

    def __init__(self) -> None:
        self.watched: dict[Source, Callable[[], None]] = {}

    def watch(self, source: Source, act: Callable[[], None]) -> None:
        """Remember a source."""
        self.watched[source] = act

    def forget(self, source: Source) -> None:
        """Forget a source."""
        self.watched.pop(source, None)


class ServicesRig:
    """The services, which fork fake children; `messages` are those that they pass on."""

    def __init__(self) -> None:
        self.children: dict[str, FakeChild] = {}
        self.forked: list[str] = []
        self.loop = FakeLoop()
        self.messages: list[FromChild] = []
        roles = Roles(*(Role(name, lambda _context: None) for name in ("worker", *NAMES[1:], NAMES[0])))
        self.services = Services(roles, self._fork, self.loop, self.messages.append)

    def _fork(self, role: Role) -> Child:
        self.forked.append(role.name)
        self.children[role.name] = FakeChild(role.name)
        return cast(Child, self.children[role.name])

    def says(self, name: str, *messages: FromChild) -> None:
        """Have a service send messages, and the loop notice."""
        child = self.children[name]
        child.says(*messages)
        self.loop.watched[cast(Source, child.link)]()

    def start(self) -> ServicesRig:
        """Start all services, and have them send Ready."""
        self.services.start(NOW)
        self.says("writer", Ready())
        self.services.start(NOW)
        for name in ("diagnostics", "archiver", "watcher"):
            self.says(name, Ready())
        return self
