"""A service: one child that is always there, until it is told to finish or does not come to serve."""

from __future__ import annotations

import signal
import time
from typing import cast

import pytest
from support.children import FakeChild, enter
from support.waiting import wait_until

from nerve.processes.child import Boot, Child, ChildContext, Role
from nerve.processes.messages import Finish, Ready
from nerve.processes.restart import FAILED_STARTS_LIMIT, LONGEST_DELAY_SECONDS
from nerve.processes.services import Death, Service

NOW = 100.0


class Rig:
    """A service of fake children, which remembers what it forked, watched and forgot."""

    def __init__(self) -> None:
        self.children: list[FakeChild] = []
        self.watched: list[int] = []
        self.forgotten: list[int] = []
        self.can_fork = True
        self.service = Service(
            Role("writer", lambda _context: None),
            self._fork,
            lambda child: self.watched.append(child.pid),
            lambda child: self.forgotten.append(child.pid),
        )

    @property
    def child(self) -> FakeChild:
        """Give the last child that was forked."""
        return self.children[-1]

    def serving(self) -> FakeChild:
        """Start the service, and have it serve."""
        self.service.start(NOW)
        self.service.became_ready()
        return self.child

    def dies(self, now: float, code: int = 1) -> Death:
        """Have the child die, and the kernel notice."""
        self.child.ends(code)
        death = self.service.reap(now)
        assert death
        return death

    def _fork(self, role: Role, now: float) -> Child:
        if not self.can_fork:
            raise OSError(11, "Resource temporarily unavailable")
        self.children.append(FakeChild(role.name, now))
        return cast(Child, self.children[-1])


@pytest.fixture
def rig() -> Rig:
    """Give a service that was not started yet."""
    return Rig()


def test_a_service_is_started_once_and_watched(rig: Rig) -> None:
    """It serves from when it says so, and that it ever did is remembered."""
    assert (rig.service.start_at, rig.service.ended) == (0.0, False)
    rig.service.start(NOW)
    rig.service.start(NOW + 1)
    assert rig.watched == [rig.child.pid]
    assert (rig.service.ready, rig.service.ever_ready, rig.service.start_at) == (False, False, None)
    rig.service.became_ready()
    assert (rig.service.ready, rig.service.ever_ready) == (True, True)
    assert rig.service.reap(NOW) is None
    rig.dies(NOW)
    assert (rig.service.ready, rig.service.ever_ready) == (False, True)


def test_a_service_that_dies_is_started_again(rig: Rig) -> None:
    """At once after the first time; the dead child is forgotten before it is closed, and its end is told."""
    child = rig.serving()
    assert rig.dies(NOW, -signal.SIGKILL) == Death("killed by SIGKILL", -signal.SIGKILL, 0.0)
    assert rig.forgotten == [child.pid]
    assert child.closed
    assert rig.service.reap(NOW) is None
    assert rig.service.start_at == NOW
    rig.service.start(NOW)
    assert rig.child is not child


def test_an_exit_in_good_order_is_a_death_too_unless_it_was_asked_for(rig: Rig) -> None:
    """A service that stops by itself is not there."""
    rig.serving()
    assert rig.dies(NOW, 0) == Death("exit code 0", 0, 0.0)


def test_further_deaths_are_followed_by_longer_and_longer_waits(rig: Rig) -> None:
    """The service waits for its moment, which never lies far off, and is not given up while it comes to serve."""
    now, waits = NOW, []
    for _ in range(20):
        rig.service.start(now)
        rig.service.became_ready()
        wait = rig.dies(now).restart_in
        assert wait is not None
        assert rig.service.start_at == now + wait
        if wait:
            count = len(rig.children)
            rig.service.start(now + wait / 2)
            assert len(rig.children) == count
        waits.append(wait)
        now += wait
    assert waits == sorted(waits)
    assert waits[0] == 0
    assert waits[-1] <= LONGEST_DELAY_SECONDS
    assert rig.service.gave_up is None


def test_what_never_comes_to_serve_is_given_up_with_its_own_words(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """After a few starts in a row another one would not help; it has ended, and why is kept and logged."""
    now = NOW
    for attempt in range(FAILED_STARTS_LIMIT):
        assert not rig.service.ended
        rig.service.start(now)
        rig.service.failed("the disk is full")
        death = rig.dies(now)
        assert death.message == "the disk is full"
        assert (death.restart_in is None) == (attempt == FAILED_STARTS_LIMIT - 1)
        now += death.restart_in or 0
    assert (rig.service.ended, rig.service.start_at) == (True, None)
    assert rig.service.gave_up == "the disk is full"
    assert "the writer is given up: the disk is full" in caplog.text
    rig.service.start(now + 1000)
    assert len(rig.children) == FAILED_STARTS_LIMIT


def test_who_is_killed_from_outside_is_not_given_up(rig: Rig) -> None:
    """A SIGKILL while it starts says nothing about the next start; it only waits longer and longer for that."""
    now = NOW
    for _ in range(3 * FAILED_STARTS_LIMIT):
        rig.service.start(now)
        death = rig.dies(now, -signal.SIGKILL)
        assert death is not None
        assert death.restart_in is not None
        now += death.restart_in
    assert rig.service.gave_up is None


def test_serving_once_forgives_the_starts_that_failed(rig: Rig) -> None:
    """Only failures in a row count."""
    now = NOW
    for _ in range(3):
        for _ in range(FAILED_STARTS_LIMIT - 1):
            rig.service.start(now)
            now += rig.dies(now).restart_in or 0
        rig.service.start(now)
        rig.service.became_ready()
        death = rig.dies(now)
        assert death.restart_in is not None
        now += death.restart_in


def test_a_fork_that_fails_is_tried_again_without_end(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """It is the system that has no room: that passes, and until then somebody should know."""
    rig.can_fork = False
    now = NOW
    for _ in range(3 * FAILED_STARTS_LIMIT):
        rig.service.start(now)
        assert not rig.service.ended
        due = rig.service.start_at
        assert due is not None
        assert now <= due <= now + LONGEST_DELAY_SECONDS
        now = due
    assert "can't fork the writer" in caplog.text
    rig.can_fork = True
    rig.service.start(now)
    assert len(rig.children) == 1


def test_finishing_is_told_once_and_ends_well(rig: Rig) -> None:
    """A good end that was asked for is nobody's death, and nothing is started after it."""
    child = rig.serving()
    rig.service.finish()
    rig.service.finish()
    assert child.told == [Finish()]
    assert not rig.service.ended
    child.ends(0)
    assert rig.service.reap(NOW) is None
    assert (rig.service.ended, rig.service.start_at) == (True, None)
    rig.service.start(NOW + 1000)
    assert len(rig.children) == 1


def test_a_service_may_be_finished_before_it_was_started(rig: Rig) -> None:
    """Then it never is."""
    rig.service.finish()
    rig.service.start(NOW)
    assert (rig.service.ended, rig.children) == (True, [])


def test_a_service_that_waits_for_its_restart_may_be_finished(rig: Rig) -> None:
    """There is nobody to tell, and nobody will come."""
    rig.serving()
    rig.dies(NOW)
    rig.service.finish()
    assert (rig.service.ended, rig.service.start_at) == (True, None)
    rig.service.start(NOW + 1000)
    assert len(rig.children) == 1


def test_a_death_while_finishing_is_told_and_promises_no_restart(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """What it had still to do is not done: that is an error, but not one that another start could mend."""
    rig.serving()
    rig.service.finish()
    assert rig.dies(NOW, -signal.SIGKILL) == Death("killed by SIGKILL", -signal.SIGKILL, None)
    assert rig.service.ended
    assert rig.service.gave_up is None
    assert "given up" not in caplog.text


def test_killing_ends_it_for_good(rig: Rig) -> None:
    """It is gone once that was noticed, which is no news; killing may be done twice, or before it was started."""
    child = rig.serving()
    rig.service.kill()
    rig.service.kill()
    assert child.signals == [signal.SIGKILL] * 2
    assert rig.service.reap(NOW) is None
    assert rig.service.ended
    unborn = Rig()
    unborn.service.kill()
    assert unborn.service.ended


def test_hanging_up_gives_it_its_time_and_lets_go_of_it(rig: Rig) -> None:
    """The link is forgotten before it is closed; may be done twice, or before it was started."""
    child = rig.serving()
    rig.service.hang_up(0.5)
    rig.service.hang_up(0.5)
    assert rig.forgotten == [child.pid]
    assert (child.link.closed, child.joined, child.closed) == (True, [0.5], True)
    assert rig.service.ended
    Rig().service.hang_up(0.5)


# For real.


def until_hangup(context: ChildContext) -> None:
    """Serve until the kernel hangs up (child)."""
    link = enter(context)
    link.send(Ready())
    while not link.ended:
        if link.wait(None) == [Finish()]:
            return


def deaf(context: ChildContext) -> None:
    """Serve, and ignore the kernel's hang-up until the tests are gone (child)."""
    until_hangup(context)
    for _ in range(3000):
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("ending", ["finish", "hang up", "deaf", "kill"])
def test_a_real_service_ends_in_every_way(ending: str) -> None:
    """A process of each kind is gone in the end, and soon."""
    service = Service(
        Role("writer", deaf if ending == "deaf" else until_hangup),
        lambda role, now: Child(role, cast(Boot, None), now),
        lambda child: None,
        lambda child: None,
    )
    service.start(NOW)
    child = service.child
    assert child
    assert wait_until(lambda: child.link.wait(1), "it serves") == [Ready()]
    service.became_ready()
    begun = time.monotonic()
    match ending:
        case "finish":
            service.finish()
            wait_until(lambda: service.reap(NOW) or service.ended, "it has ended")
        case "kill":
            service.kill()
            assert service.reap(NOW) is None  # which is no news
        case "hang up":
            service.hang_up(30)
        case _:
            service.hang_up(0.05)
    assert time.monotonic() - begun < 15
    assert (service.ended, service.child) == (True, None)
