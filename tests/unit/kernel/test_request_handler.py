"""Control requests in the kernel: which are answered at once, which later, and which are refused."""

from __future__ import annotations

import pytest
from support.clock import FakeClock
from support.pool import PoolRig
from support.services import ServicesRig

from nerve.config.config import MAX_WORKERS, Config
from nerve.control.protocol import (
    Accepted,
    Answer,
    Finished,
    GetStatus,
    Refused,
    ReloadFiles,
    Reply,
    Request,
    RunArchive,
    Scaled,
    ScaleWorkers,
    StatusReply,
    StopEngine,
    TriggerSense,
)
from nerve.control.status import KernelStatus, SenseStatus
from nerve.ipc.progress import Archived, ArchiveProgress
from nerve.kernel.dispatcher import Announce
from nerve.kernel.request_handler import RequestHandler
from nerve.kernel.status_collector import StatusCollector
from nerve.processes.messages import ArchiveNow
from nerve.reload.revision import Revision


class FakeEngine:
    """The kernel itself, its dispatcher and its reloader, as far as requests need them."""

    def __init__(self) -> None:
        self.revision = Revision(Config(), {})
        self.size = 3
        self.unacknowledged = 0
        self.scaled: list[tuple[int, str]] = []
        self.stopped: list[str] = []
        self.reloads: list[Answer] = []
        self.triggered: list[tuple[str, str | None]] = []
        self.announces: list[Announce | None] = []
        self.refusal: str | None = None

    def stop(self, reason: str) -> None:
        """Note a stop."""
        self.stopped.append(reason)

    def scale(self, workers: int, by: str) -> int:
        """Note another number of workers."""
        self.scaled.append((workers, by))
        before, self.size = self.size, workers
        return before

    def ask(self, answer: Answer) -> None:
        """Note a reload."""
        self.reloads.append(answer)

    def trigger(self, sense: str, payload: str | None, now: float, announce: Announce | None) -> str | None:
        """Note a trigger, or refuse it."""
        self.triggered.append((sense, payload))
        self.announces.append(announce)
        return self.refusal

    def statuses(self, now: float) -> list[SenseStatus]:
        """Return no senses."""
        return []


class Rig:
    """A request handler of a fake engine, with real services of fake children."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.services = ServicesRig().start()
        self.archiver = self.services.children["archiver"]
        self.replies: list[Reply] = []
        clock = FakeClock()
        status = StatusCollector(
            lambda: KernelStatus(1, "b", 2, "v"),
            self.engine,
            PoolRig().pool,
            self.engine,
            self.services.services,
            clock,
            (),
        )
        self.handler = RequestHandler(
            self.engine, self.engine, self.services.services.archiver, self.engine, status, clock
        )

    def ask(self, request: Request) -> None:
        """Make a request."""
        self.handler.handle(request, self.replies.append)


@pytest.fixture
def rig() -> Rig:
    """Return a request handler."""
    return Rig()


def test_scaling_is_answered_with_the_number_before(rig: Rig) -> None:
    """The engine records the command as the cause."""
    rig.ask(ScaleWorkers(8))
    rig.ask(ScaleWorkers(1))
    assert rig.replies == [Scaled(3), Scaled(8)]
    assert rig.engine.scaled == [(8, "nerve scale"), (1, "nerve scale")]


@pytest.mark.parametrize("workers", [0, -1, MAX_WORKERS + 1, 10**9])
def test_an_impossible_number_of_workers_is_refused(rig: Rig, workers: int) -> None:
    """Whatever a client sends, the kernel does not fork a million processes."""
    rig.ask(ScaleWorkers(workers))
    assert rig.replies == [Refused(f"there can be 1 to {MAX_WORKERS} workers, not {workers}")]
    assert rig.engine.scaled == []


def test_a_reload_is_answered_when_it_is_done(rig: Rig) -> None:
    """The client waits for the watcher, the kernel does not."""
    rig.ask(ReloadFiles())
    assert rig.replies == []
    rig.engine.reloads[0](Accepted())
    assert rig.replies == [Accepted()]


def test_a_stop_is_accepted_before_it_begins(rig: Rig) -> None:
    """The client gets the answer, and then sees its connection end."""
    rig.ask(StopEngine())
    assert (rig.replies, rig.engine.stopped) == ([Accepted()], ["nerve stop"])


def test_a_status_waits_for_reports(rig: Rig) -> None:
    """With services that serve it is not answered at once; without them it is."""
    rig.ask(GetStatus())
    assert rig.replies == []
    rig.services.services.writer.finish()
    rig.services.services.archiver.finish()
    rig.ask(GetStatus())
    [reply] = rig.replies
    assert isinstance(reply, StatusReply)


# Triggers.


def test_a_trigger_is_accepted_and_its_run_not_waited_for(rig: Rig) -> None:
    """Without `wait` there is one reply, and no announcement is asked for."""
    rig.ask(TriggerSense("disk", '{"n":1}', wait=False))
    assert (rig.replies, rig.engine.triggered) == ([Accepted()], [("disk", '{"n":1}')])
    assert rig.engine.announces == [None]


@pytest.mark.parametrize(
    ("run_id", "reply"),
    [
        ("disk/1", Finished("disk/1", "ok")),
        (None, Refused("the run was cancelled: the engine is stopping, or the sense was removed")),
    ],
)
def test_a_trigger_with_wait_is_answered_twice(rig: Rig, run_id: str | None, reply: Reply) -> None:
    """First it is accepted, then the run has finished, or will never start."""
    rig.ask(TriggerSense("disk", None, wait=True))
    assert rig.replies == [Accepted()]
    [announce] = rig.engine.announces
    assert announce
    announce(run_id, "ok")
    assert rig.replies[1:] == [reply]


def test_a_trigger_that_is_refused_is_answered_with_the_reason(rig: Rig) -> None:
    """There is no second answer."""
    rig.engine.refusal = "there is no sense 'disc'"
    rig.ask(TriggerSense("disc", None, wait=True))
    assert rig.replies == [Refused("there is no sense 'disc'")]


# Archive runs.


def test_an_archive_run_uses_the_retention_of_the_request_or_the_configuration(rig: Rig) -> None:
    """The archiver gets both, in order."""
    rig.ask(RunArchive(5.0, vacuum=True))
    rig.ask(RunArchive(None, vacuum=False))
    retention = rig.engine.revision.config.logs.retention
    assert rig.archiver.received == [ArchiveNow(5.0, vacuum=True), ArchiveNow(retention, vacuum=False)]


def test_progress_goes_to_all_clients_and_each_outcome_to_the_first(rig: Rig) -> None:
    """Archive runs are done one after the other; each outcome, a failure too, goes to the client that asked for it."""
    others: list[Reply] = []
    rig.ask(RunArchive(None, vacuum=False))
    rig.handler.handle(RunArchive(None, vacuum=False), others.append)
    progress = ArchiveProgress("2026-11-01", 1, 0, 10)
    rig.handler.archived(progress)
    assert (rig.replies, others) == ([progress], [progress])
    rig.handler.archived(Archived(1, 2, notes=("a note",)))
    assert (rig.replies[1:], others[1:]) == ([Archived(1, 2, notes=("a note",))], [])
    rig.handler.archived(Archived(0, 0, "the disk is full"))
    assert others[1:] == [Archived(0, 0, "the disk is full")]
    rig.handler.archived(Archived(0, 0))
    assert (len(rig.replies), len(others)) == (2, 2)


def test_clients_of_an_archiver_that_dies_are_answered(rig: Rig) -> None:
    """All of them, once."""
    rig.ask(RunArchive(None, vacuum=False))
    rig.ask(RunArchive(None, vacuum=False))
    rig.handler.archiver_died("killed by SIGKILL")
    rig.handler.archiver_died("killed by SIGKILL")
    assert rig.replies == [Refused("the archiver died (killed by SIGKILL): nothing is lost, try again")] * 2


def test_an_archive_run_without_an_archiver_is_refused(rig: Rig) -> None:
    """Before it is ready, and while it finishes."""
    rig.archiver.ready = False
    rig.ask(RunArchive(None, vacuum=False))
    rig.archiver.ready = True
    rig.services.services.archiver.finish()
    rig.ask(RunArchive(None, vacuum=False))
    assert rig.replies == [Refused("the archiver is not running: see `nerve status`")] * 2
