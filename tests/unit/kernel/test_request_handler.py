"""Control requests in the kernel: what is answered at once, what later, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.children import FakeChild

from nerve.config.config import MAX_WORKERS, Config
from nerve.control.protocol import (
    Accepted,
    GetStatus,
    Refused,
    ReloadFiles,
    Reply,
    Scaled,
    ScaleWorkers,
    StatusReply,
    StopEngine,
)
from nerve.control.status import EngineStatus, KernelStatus
from nerve.kernel.request_handler import REPORT_SECONDS, RequestHandler
from nerve.processes.messages import GetReport, WriterReport
from nerve.reload.revision import Revision


class Rig:
    """RequestHandler to a kernel of nothing but fakes."""

    def __init__(self) -> None:
        self.time = 100.0
        self.size = 3
        self.scaled: list[tuple[int, str]] = []
        self.stopped: list[str] = []
        self.asked: list[Any] = []
        self.replies: list[Reply] = []
        self.revision = Revision(Config(), {}, ("nerve.yaml:1: no",), {"a": "a.py:1: no", "b": "a.py:1: no"})
        self.services = {name: self._service(name) for name in ("writer", "archiver", "watcher")}
        self.requests = RequestHandler(
            runs=cast(Any, SimpleNamespace(statuses=lambda _now: [])),
            pool=cast(Any, SimpleNamespace(workers={})),
            recorder=cast(Any, SimpleNamespace(unacknowledged=4)),
            services=cast(Any, SimpleNamespace(**self.services)),
            reloads=cast(
                Any,
                SimpleNamespace(
                    ask=self.asked.append, revision=self.revision, problems=(*self.revision.problems, "senses/: unseen")
                ),
            ),
            clock=cast(Any, SimpleNamespace(now=lambda: self.time)),
            stop=self.stopped.append,
            scale=self._scale,
            kernel=lambda: KernelStatus(1, "b", 2, "v"),
            problems=lambda: ["the engine is tired"],
        )

    @staticmethod
    def _service(name: str) -> Any:
        child = FakeChild(name)
        return SimpleNamespace(child=child, ready=True, finishing=False, role=child.role)

    def _scale(self, workers: int, by: str) -> int:
        self.scaled.append((workers, by))
        before, self.size = self.size, workers
        return before

    def ask(self, request: Any) -> None:
        """Make a request."""
        self.requests.handle(request, self.replies.append)

    def status(self) -> EngineStatus:
        """Give the one status that was replied."""
        [reply] = self.replies
        assert isinstance(reply, StatusReply)
        return reply.status


@pytest.fixture
def rig() -> Rig:
    """Give requests to a kernel of fakes."""
    return Rig()


def test_scaling_tells_how_many_there_were(rig: Rig) -> None:
    """And whoever reads the log, who asked."""
    rig.ask(ScaleWorkers(8))
    rig.ask(ScaleWorkers(1))
    assert rig.replies == [Scaled(3), Scaled(8)]
    assert rig.scaled == [(8, "nerve scale"), (1, "nerve scale")]


@pytest.mark.parametrize("workers", [0, -1, MAX_WORKERS + 1, 10**9])
def test_a_number_of_workers_that_can_not_be_is_refused(rig: Rig, workers: int) -> None:
    """Whatever a client sends: the kernel forks no million of processes."""
    rig.ask(ScaleWorkers(workers))
    assert rig.replies == [Refused(f"there can be 1 to {MAX_WORKERS} workers, not {workers}")]
    assert rig.scaled == []


def test_a_reload_is_answered_when_it_is_done(rig: Rig) -> None:
    """The one who asks waits for the watcher, and the kernel for nobody."""
    rig.ask(ReloadFiles())
    assert rig.replies == []
    rig.asked[0](Accepted())
    assert rig.replies == [Accepted()]


def test_a_stop_is_accepted_before_it_begins(rig: Rig) -> None:
    """Whoever asked is told, and then sees the connection end."""
    rig.ask(StopEngine())
    assert (rig.replies, rig.stopped) == ([Accepted()], ["nerve stop"])


def test_a_status_has_the_problems_of_everything(rig: Rig) -> None:
    """Of the engine, of nerve.yaml, of the senses, each once, and of what watches them; and the watcher's pid."""
    rig.services["writer"].ready = rig.services["archiver"].ready = False
    rig.ask(GetStatus())
    status = rig.status()
    assert status.problems == ["the engine is tired", "nerve.yaml:1: no", "a.py:1: no", "senses/: unseen"]
    assert status.watcher.pid == rig.services["watcher"].child.pid
    assert (status.writer.committed, status.writer.unacknowledged) == (None, 4)


def test_a_status_waits_for_the_reports_but_not_for_ever(rig: Rig) -> None:
    """One who does not report within a second is a problem, and the rest is told all the same."""
    rig.ask(GetStatus())
    assert rig.services["writer"].child.received == rig.services["archiver"].child.received == [GetReport()]
    rig.requests.reported(
        WriterReport(committed=7, events_per_s=1.0, lag_ms=1.0, queue_depth=0, wal_bytes=0, outage="no space")
    )
    assert rig.replies == []
    assert rig.requests.next_moment() == rig.time + REPORT_SECONDS
    rig.time += REPORT_SECONDS
    rig.requests.expire(rig.time)
    status = rig.status()
    assert status.writer.committed == 7
    assert "the archiver did not report within 1 s" in status.problems
    assert "the log can't be written, everybody waits: no space" in status.problems
    assert rig.requests.next_moment() is None


def test_without_a_watcher_the_status_says_so(rig: Rig) -> None:
    """It is being started again, or is given up."""
    rig.services["watcher"].child = None
    rig.services["writer"].ready = rig.services["archiver"].ready = False
    rig.ask(GetStatus())
    assert rig.status().watcher.pid is None
