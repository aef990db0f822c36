"""All services together: in which order they come, what they say, and how they go."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.children import FakeChild

from nerve.processes.child import Child, Role
from nerve.processes.messages import Failed, FromChild, Ready, RunResult, WriterReport
from nerve.processes.services import Roles, Service, Services
from nerve.reload.update import Update

NOW = 100.0


def role(name: str) -> Role:
    """Make a role that nobody plays."""
    return Role(name, lambda _context: None)


class Rig:
    """The services as fake children, and a loop that remembers whom it watches."""

    def __init__(self) -> None:
        self.children: dict[str, FakeChild] = {}
        self.forked: list[str] = []
        self.watched: dict[int, Any] = {}
        self.heard: list[FromChild] = []
        loop = SimpleNamespace(
            watch=lambda link, act: self.watched.update({id(link): act}),
            forget=lambda link: self.watched.pop(id(link), None),
        )
        roles = Roles(*map(role, ("worker", "writer", "archiver", "watcher", "diagnostics")))
        self.services = Services(roles, self._fork, cast(Any, loop), self.heard.append)

    def _fork(self, role: Role, now: float) -> Child:
        self.forked.append(role.name)
        self.children[role.name] = FakeChild(role.name, now)
        return cast(Child, self.children[role.name])

    def says(self, name: str, *messages: FromChild) -> None:
        """Have a service say something, and the loop notice."""
        child = self.children[name]
        child.says(*messages)
        self.watched[id(child.link)]()

    def serving(self) -> Rig:
        """Have all of them serve."""
        self.services.start(NOW)
        self.says("writer", Ready())
        self.services.start(NOW)
        for name in ("diagnostics", "archiver", "watcher"):
            self.says(name, Ready())
        return self


@pytest.fixture
def rig() -> Rig:
    """Give services that have not been started."""
    return Rig()


def test_the_readers_come_once_the_log_exists(rig: Rig) -> None:
    """Diagnostics first, so that all others can say what they have to; each is forked once."""
    rig.services.start(NOW)
    rig.services.start(NOW)
    assert rig.forked == ["diagnostics", "writer"]
    assert rig.services.next_moment() is None
    rig.says("writer", Ready())
    assert rig.services.next_moment() is not None
    rig.services.start(NOW)
    assert rig.forked == ["diagnostics", "writer", "archiver", "watcher"]
    assert rig.services.next_moment() is None


def test_what_they_say_of_their_work_is_passed_on(rig: Rig) -> None:
    """That they serve, or can't, is theirs; anything else is the kernel's to understand."""
    report, update = WriterReport(1, 1.0, 1.0, 0, 0), Update()
    rig.serving()
    rig.says("writer", report)
    rig.says("watcher", update, Failed("no room to watch anything"))
    assert rig.heard == [report, update]
    assert rig.children["watcher"].failure == "no room to watch anything"
    assert rig.services.watcher.ready


@pytest.mark.parametrize("name", ["diagnostics", "writer", "archiver", "watcher"])
def test_each_of_them_is_started_again(rig: Rig, name: str) -> None:
    """After its last words were heard; the others are left alone."""
    rig.serving()
    before = dict(rig.children)
    last = RunResult("a/1", "ok", 1.0)
    before[name].ends(-signal.SIGKILL, last)
    [(service, death)] = rig.services.reap(NOW)
    assert isinstance(service, Service)
    assert (service.role.name, death.message, death.restart_in) == (name, "killed by SIGKILL", 0.0)
    assert rig.heard == [last]
    assert id(before[name].link) not in rig.watched
    rig.services.start(NOW)
    assert rig.children[name] is not before[name]
    assert [other for other in before if rig.children[other] is not before[other]] == [name]
    assert list(rig.services.reap(NOW)) == []


def test_one_that_talks_nonsense_is_killed(rig: Rig) -> None:
    """And started again: it must not end the engine."""
    rig.serving()
    watcher = rig.children["watcher"]
    watcher.link.garbage = True
    rig.watched[id(watcher.link)]()
    assert watcher.signals == [signal.SIGKILL]
    assert id(watcher.link) not in rig.watched
    watcher.ends(-signal.SIGKILL)
    [(service, death)] = rig.services.reap(NOW)
    assert service is rig.services.watcher
    assert "made no sense" in death.message
    assert death.restart_in is not None


def test_one_that_never_comes_to_serve_is_given_up_and_told(rig: Rig) -> None:
    """`nerve status` shows it, with its own words; the rest goes on."""
    rig.services.start(NOW)
    rig.says("writer", Ready())
    now = NOW
    while not rig.services.problems():
        rig.services.start(now)
        rig.children["watcher"].ends(1, Failed("it has no eyes"))
        assert len(list(rig.services.reap(now))) == 1
        now += 10
    assert rig.services.problems() == ["the watcher is given up: it has no eyes"]
    assert rig.services.next_moment() is None


def test_the_readers_end_first(rig: Rig) -> None:
    """They are told once; the writer goes on until it is told itself."""
    rig.serving()
    rig.services.finish_readers()
    rig.services.finish_readers()
    told = {name: len(child.told) for name, child in rig.children.items()}
    assert told == {"diagnostics": 0, "writer": 0, "archiver": 1, "watcher": 1}
    assert not rig.services.readers_ended
    for name in ("archiver", "watcher"):
        rig.children[name].ends(0)
    assert list(rig.services.reap(NOW)) == []
    assert rig.services.readers_ended
    assert rig.services.next_moment() is None


def test_readers_that_do_not_end_are_killed(rig: Rig) -> None:
    """A watcher that is stuck in a file system must not hold up the stop."""
    rig.serving()
    rig.services.finish_readers()
    rig.services.kill_readers()
    assert [child.signals for child in rig.children.values()] == [[], [], [signal.SIGKILL], [signal.SIGKILL]]


def test_services_that_were_never_started_end_at_once(rig: Rig) -> None:
    """A start that fails early has nothing to wait for."""
    rig.services.finish_readers()
    assert rig.services.readers_ended
    rig.services.end(0.5)
    assert rig.forked == []


def test_in_the_end_nobody_is_left(rig: Rig) -> None:
    """Whatever was forgotten is killed; the diagnostics have their time to print what there is."""
    rig.serving()
    rig.services.end(0.5)
    assert all(child.code is not None for child in rig.children.values())
    assert rig.children["diagnostics"].joined == [0.5]
