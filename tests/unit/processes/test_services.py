"""All services together: the order of their starts, their messages, and their ends."""

from __future__ import annotations

import signal

import pytest
from support.services import NAMES, NOW, ServicesRig

from nerve.config.config import Config
from nerve.processes.messages import Failed, Ready, RunResult, SetLogsConfig, WriterReport
from nerve.reload.update import Update

REPORT = WriterReport(committed=1, events_per_s=1.0, lag_ms=1.0, queue_depth=0, wal_bytes=0)


@pytest.fixture
def rig() -> ServicesRig:
    """Return services that have not been started."""
    return ServicesRig()


def test_the_archiver_and_the_watcher_start_when_the_writer_serves(rig: ServicesRig) -> None:
    """The diagnostics process comes first, so that all others can log; each service is forked once."""
    rig.services.start(NOW)
    rig.services.start(NOW)
    assert rig.forked == ["diagnostics", "writer"]
    assert rig.services.next_deadline() is None
    rig.says("writer", Ready())
    assert rig.services.next_deadline() is not None
    rig.services.start(NOW)
    assert rig.forked == ["diagnostics", "writer", "archiver", "watcher"]
    assert rig.services.next_deadline() is None


def test_messages_about_their_work_are_passed_on(rig: ServicesRig) -> None:
    """Ready and Failed are the service's own; all other messages are for the kernel."""
    update = Update()
    rig.start()
    rig.says("writer", REPORT)
    rig.says("watcher", update, Failed("no room to watch anything"))
    assert rig.messages == [REPORT, update]
    assert rig.children["watcher"].failure == "no room to watch anything"
    assert rig.services.watcher.ready


@pytest.mark.parametrize("name", NAMES)
def test_a_service_that_dies_is_started_again(rig: ServicesRig, name: str) -> None:
    """Its last messages are passed on before; the other services are left alone."""
    rig.start()
    before = dict(rig.children)
    last = RunResult(run_id="a/1", status="ok", duration_ms=1.0)
    before[name].ends(-signal.SIGKILL, last)
    [(service, death)] = rig.services.reap(NOW)
    assert (service.role.name, death.message, death.restart_in) == (name, "killed by SIGKILL", 0.0)
    assert rig.messages == [last]
    assert before[name].link not in rig.loop.watched
    rig.services.start(NOW)
    assert rig.children[name] is not before[name]
    assert [other for other in before if rig.children[other] is not before[other]] == [name]
    assert rig.services.reap(NOW) == []


def test_a_service_that_sends_an_invalid_message_is_killed_and_started_again(rig: ServicesRig) -> None:
    """Its link is no longer watched, and the engine goes on."""
    rig.start()
    watcher = rig.children["watcher"]
    watcher.link.garbage = True
    rig.says("watcher")
    assert watcher.signals == [signal.SIGKILL]
    assert watcher.link not in rig.loop.watched
    watcher.ends(-signal.SIGKILL)
    [(service, death)] = rig.services.reap(NOW)
    assert service is rig.services.watcher
    assert "it sent an invalid message" in death.message
    assert death.restart_in is not None


def test_a_service_that_never_gets_to_serve_is_a_problem(rig: ServicesRig) -> None:
    """`nerve status` shows it with its own reason; the other services go on."""
    rig.services.start(NOW)
    rig.says("writer", Ready())
    now = NOW
    while not rig.services.problems():
        rig.services.start(now)
        rig.children["watcher"].ends(1, Failed("no room to watch anything"))
        assert len(rig.services.reap(now)) == 1
        now += 10
    assert rig.services.problems() == [
        "the watcher failed to start 5 times and is not restarted: no room to watch anything"
    ]
    assert rig.services.next_deadline() is None


def test_the_archiver_gets_another_configuration(rig: ServicesRig) -> None:
    """Also before it is ready; without an archiver nothing is sent, for the next one inherits it."""
    logs = Config().logs
    rig.services.set_logs_config(logs)
    rig.services.start(NOW)
    rig.says("writer", Ready())
    rig.services.start(NOW)
    rig.services.set_logs_config(logs)
    assert rig.children["archiver"].received == [SetLogsConfig(logs)]


def test_the_background_services_finish_first(rig: ServicesRig) -> None:
    """They get Finish once; the writer goes on until it gets its own."""
    rig.start()
    rig.services.finish_background()
    rig.services.finish_background()
    received = {name: len(child.received) for name, child in rig.children.items()}
    assert received == {"diagnostics": 0, "writer": 0, "archiver": 1, "watcher": 1}
    assert not rig.services.background_ended
    for name in ("archiver", "watcher"):
        rig.children[name].ends(0)
    assert rig.services.reap(NOW) == []
    assert rig.services.background_ended
    assert rig.services.next_deadline() is None


def test_background_services_that_do_not_finish_are_killed(rig: ServicesRig) -> None:
    """A watcher that is stuck in a file system must not delay the stop."""
    rig.start()
    rig.services.finish_background()
    rig.services.kill_background()
    assert [child.signals for child in rig.children.values()] == [[], [], [signal.SIGKILL], [signal.SIGKILL]]


def test_services_that_were_never_started_have_ended_at_once(rig: ServicesRig) -> None:
    """A start that fails early has nothing to wait for."""
    rig.services.finish_background()
    assert rig.services.background_ended
    rig.services.end(0.5)
    assert rig.forked == []


def test_no_service_is_left_at_the_end(rig: ServicesRig) -> None:
    """Those that still run are killed; the diagnostics process has its time to print what it has."""
    rig.start()
    rig.services.end(0.5)
    assert all(child.code is not None for child in rig.children.values())
    assert rig.children["diagnostics"].joined == [0.5]
