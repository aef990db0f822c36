"""A service: one child that is kept alive until it is asked to finish, or fails to start too often."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import cast

import pytest
from support.children import FakeChild, enter
from support.waiting import wait_until

from nerve.ipc.channel import Channel
from nerve.processes.child import Boot, Child, ChildContext, Role
from nerve.processes.messages import Failed, Finish, GetReport, Ready, ToChild, UnwatchedFolders
from nerve.processes.restart import FAILED_STARTS_LIMIT, LONGEST_DELAY_SECONDS
from nerve.processes.services import Death, Service

NOW = 100.0


class Rig:
    """A service of fake children, which remembers the ones it forked, watched and forgot."""

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
        """The last child that was forked."""
        return self.children[-1]

    def becomes_ready(self) -> None:
        """Have the child send Ready."""
        self.child.says(Ready())
        assert self.service.receive() == []

    def serving(self) -> FakeChild:
        """Start the service, and have its child send Ready."""
        self.service.start(NOW)
        self.becomes_ready()
        return self.child

    def dies(self, now: float, code: int = 1) -> Death:
        """Have the child die, and the kernel notice."""
        self.child.ends(code)
        death = self.service.reap(now)
        assert death
        return death

    def _fork(self, role: Role) -> Child:
        if not self.can_fork:
            raise OSError(11, "Resource temporarily unavailable")
        self.children.append(FakeChild(role.name))
        return cast(Child, self.children[-1])


@pytest.fixture
def rig() -> Rig:
    """Return a service that was not started yet."""
    return Rig()


def test_a_service_is_forked_once_and_watched(rig: Rig) -> None:
    """It is ready after its child has sent Ready; that it once was ready is remembered."""
    assert (rig.service.start_at, rig.service.ended, rig.service.pid) == (0.0, False, None)
    rig.service.start(NOW)
    rig.service.start(NOW + 1)
    assert rig.watched == [rig.child.pid] == [rig.service.pid]
    assert (rig.service.ready, rig.service.ever_ready, rig.service.start_at) == (False, False, None)
    rig.becomes_ready()
    assert (rig.service.ready, rig.service.ever_ready) == (True, True)
    assert rig.service.reap(NOW) is None
    rig.dies(NOW)
    assert (rig.service.ready, rig.service.ever_ready) == (False, True)


def test_a_service_that_dies_is_started_again(rig: Rig) -> None:
    """At once after the first death; the dead child is forgotten before it is closed."""
    child = rig.serving()
    assert rig.dies(NOW, -signal.SIGKILL) == Death("killed by SIGKILL", -signal.SIGKILL, 0.0)
    assert rig.forgotten == [child.pid]
    assert child.closed
    assert rig.service.reap(NOW) is None
    assert rig.service.start_at == NOW
    rig.service.start(NOW)
    assert rig.child is not child


def test_an_exit_in_good_order_is_a_death_too_unless_it_was_asked_for(rig: Rig) -> None:
    """A service that exits by itself is missing."""
    rig.serving()
    assert rig.dies(NOW, 0) == Death("exit code 0", 0, 0.0)


def test_the_delay_grows_with_each_further_death(rig: Rig) -> None:
    """It never exceeds its limit, and a service that gets to serve is always started again."""
    now, delays = NOW, []
    for _ in range(20):
        rig.service.start(now)
        rig.becomes_ready()
        delay = rig.dies(now).restart_in
        assert delay is not None
        assert rig.service.start_at == now + delay
        if delay:
            count = len(rig.children)
            rig.service.start(now + delay / 2)
            assert len(rig.children) == count
        delays.append(delay)
        now += delay
    assert delays == sorted(delays)
    assert delays[0] == 0
    assert delays[-1] <= LONGEST_DELAY_SECONDS
    assert rig.service.problem is None


def test_a_service_that_never_gets_to_serve_is_not_started_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """After some failed starts in a row it has ended; its own reason is kept and logged."""
    now = NOW
    for attempt in range(FAILED_STARTS_LIMIT):
        assert not rig.service.ended
        rig.service.start(now)
        rig.child.says(Failed("the disk is full"))
        assert rig.service.receive() == []
        death = rig.dies(now)
        assert (death.message, death.explained) == ("the disk is full", True)
        assert (death.restart_in is None) == (attempt == FAILED_STARTS_LIMIT - 1)
        now += death.restart_in or 0
    assert (rig.service.ended, rig.service.start_at) == (True, None)
    assert rig.service.problem == "the writer failed to start 5 times and is not restarted: the disk is full"
    assert rig.service.problem in caplog.text
    rig.service.start(now + 1000)
    assert len(rig.children) == FAILED_STARTS_LIMIT


def test_a_service_that_is_killed_from_outside_is_not_given_up(rig: Rig) -> None:
    """A SIGKILL while it starts says nothing about the next start, which is only delayed more and more."""
    now = NOW
    for _ in range(3 * FAILED_STARTS_LIMIT):
        rig.service.start(now)
        death = rig.dies(now, -signal.SIGKILL)
        assert death is not None
        assert death.restart_in is not None
        now += death.restart_in
    assert rig.service.gave_up is None


def test_serving_once_resets_the_failed_starts(rig: Rig) -> None:
    """Only failures in a row count."""
    for _ in range(3):
        for _ in range(FAILED_STARTS_LIMIT - 1):
            rig.service.start(rig.service.start_at or NOW)
            assert rig.dies(rig.service.start_at or NOW).restart_in is not None
        rig.service.start(rig.service.start_at or NOW)
        rig.becomes_ready()
        assert rig.dies(NOW).restart_in is not None


def test_a_failed_fork_is_tried_again_without_end(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The system has no room, which passes; each attempt is logged."""
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


# Messages.


def test_a_request_reaches_only_a_child_that_serves(rig: Rig) -> None:
    """Not before it is ready, nor while it finishes, nor after its death."""
    assert not rig.service.request(GetReport())
    rig.service.start(NOW)
    assert not rig.service.request(GetReport())
    rig.becomes_ready()
    assert rig.service.request(GetReport())
    assert rig.child.received == [GetReport()]
    rig.service.finish()
    assert not rig.service.request(GetReport())
    rig.dies(NOW)
    assert not rig.service.request(GetReport())
    assert rig.child.received == [GetReport(), Finish()]


def test_received_messages_are_those_about_its_work(rig: Rig) -> None:
    """Ready and Failed only change its state; after a hang-up its link is forgotten."""
    rig.service.start(NOW)
    rig.child.says(Ready(), UnwatchedFolders(("lib",)), Failed("no"), UnwatchedFolders(()))
    assert rig.service.receive() == [UnwatchedFolders(("lib",)), UnwatchedFolders(())]
    assert rig.forgotten == []
    rig.child.link.hung_up = True
    assert rig.service.receive() == []
    assert rig.forgotten == [rig.child.pid]


def test_a_child_that_sends_an_invalid_message_is_killed(rig: Rig) -> None:
    """Its death has the reason; it is then started again."""
    child = rig.serving()
    child.link.garbage = True
    assert rig.service.receive() == []
    assert child.signals == [signal.SIGKILL]
    death = rig.dies(NOW, -signal.SIGKILL)
    assert death.message.startswith("it sent an invalid message: ")
    assert death.restart_in == 0.0


# The end.


def test_finish_is_sent_once_and_followed_by_a_good_end(rig: Rig) -> None:
    """An end that was asked for is not a death, and nothing is started after it."""
    child = rig.serving()
    rig.service.finish()
    rig.service.finish()
    assert child.received == [Finish()]
    assert not rig.service.ended
    child.ends(0)
    assert rig.service.reap(NOW) is None
    assert (rig.service.ended, rig.service.start_at) == (True, None)
    rig.service.start(NOW + 1000)
    assert len(rig.children) == 1


def test_a_service_may_be_finished_before_it_was_started(rig: Rig) -> None:
    """It is never started then."""
    rig.service.finish()
    rig.service.start(NOW)
    assert (rig.service.ended, rig.children) == (True, [])


def test_a_service_that_waits_for_its_restart_may_be_finished(rig: Rig) -> None:
    """It is not started again."""
    rig.serving()
    rig.dies(NOW)
    rig.service.finish()
    assert (rig.service.ended, rig.service.start_at) == (True, None)
    rig.service.start(NOW + 1000)
    assert len(rig.children) == 1


def test_a_death_while_finishing_is_reported_without_a_restart(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Its remaining work is not done, which is an error; but starting it again would not help."""
    rig.serving()
    rig.service.finish()
    assert rig.dies(NOW, -signal.SIGKILL) == Death("killed by SIGKILL", -signal.SIGKILL, None)
    assert rig.service.ended
    assert rig.service.problem is None
    assert caplog.text == ""


def test_a_killed_service_ends_for_good_and_is_not_reported(rig: Rig) -> None:
    """It may be killed twice, or before it was started."""
    child = rig.serving()
    rig.service.kill()
    rig.service.kill()
    assert child.signals == [signal.SIGKILL] * 2
    assert rig.service.reap(NOW) is None
    assert rig.service.ended
    never_started = Rig()
    never_started.service.kill()
    assert never_started.service.ended


def test_hanging_up_waits_for_the_end_and_closes_the_child(rig: Rig) -> None:
    """The link is forgotten before it is closed; may be done twice, or before it was started."""
    child = rig.serving()
    rig.service.hang_up(0.5)
    rig.service.hang_up(0.5)
    assert rig.forgotten == [child.pid]
    assert (child.link.closed, child.joined, child.closed) == (True, [0.5], True)
    assert rig.service.ended
    Rig().service.hang_up(0.5)


# Real processes.


def serve(link: Channel[ToChild]) -> None:
    """Serve until the kernel hangs up, or sends Finish (child)."""
    link.send(Ready())
    while not link.ended:
        if link.wait(None) == [Finish()]:
            return


def until_hangup(context: ChildContext) -> None:
    """Be a service that ends when it should (child)."""
    serve(enter(context))


def deaf(context: ChildContext) -> None:
    """Be a service that ignores the kernel's hang-up, and waits for a signal (child)."""
    link = enter(context)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    serve(link)
    signal.sigwait([signal.SIGUSR1])


def finish(service: Service) -> None:
    """Let a service finish, and wait for its end."""
    service.finish()
    wait_until(lambda: service.reap(NOW) or service.ended, "it has ended")


def kill(service: Service) -> None:
    """Kill a service, and see that its death is not reported."""
    service.kill()
    assert service.reap(NOW) is None


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("main", "end"),
    [
        (until_hangup, finish),
        (until_hangup, kill),
        (until_hangup, lambda service: service.hang_up(30)),
        (deaf, lambda service: service.hang_up(0.05)),
    ],
    ids=["finish", "kill", "hang up", "hang up on a deaf one"],
)
def test_a_real_service_ends_in_every_way(
    main: Callable[[ChildContext], None], end: Callable[[Service], object]
) -> None:
    """No process is left, even of a service that ignores the hang-up."""
    service = Service(
        Role("writer", main),
        lambda role: Child(role, cast(Boot, None)),
        lambda child: None,
        lambda child: None,
    )
    service.start(NOW)
    child = service.child
    assert child
    wait_until(lambda: service.receive() == [] and service.ready, "it serves")
    end(service)
    assert (service.ended, service.child) == (True, None)
