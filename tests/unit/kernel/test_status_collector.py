"""The engine's status: its parts, its problems, and the reports that it waits for."""

from __future__ import annotations

import msgspec
import pytest
from support.clock import FakeClock
from support.pool import PoolRig, recorded
from support.services import NOW, ServicesRig

from nerve.control.protocol import Reply, StatusReply
from nerve.control.status import EngineStatus, KernelStatus, SenseStatus
from nerve.kernel.status_collector import REPORT_SECONDS, StatusCollector
from nerve.processes.messages import ArchiverReport, GetReport, WriterReport

SENSE = SenseStatus(
    name="disk", state="idle", last_run=None, last_status=None, last_ts=None, next_due_ts=None, consecutive_failures=0
)
WRITER = WriterReport(committed=7, events_per_s=1.5, lag_ms=2.5, queue_depth=3, wal_bytes=4)
ARCHIVER = ArchiverReport(5, 6, "2026-11-01", ("a day went early",))


class Rig:
    """A status collector with real services of fake children."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.services = ServicesRig().start()
        self.workers = PoolRig(1)
        self.workers.start()
        self.unacknowledged = 4
        self.replies: list[Reply] = []
        self.collector = StatusCollector(
            lambda: KernelStatus(1, "b", 2, "v"),
            self,
            self.workers.pool,
            self,
            self.services.services,
            self.clock,
            (lambda: ["the engine is stopping"], lambda: ("nerve.yaml:1: no", "a.py:1: no")),
        )

    def statuses(self, now: float) -> list[SenseStatus]:
        """Return the status of one sense."""
        return [SENSE]

    def ask(self) -> None:
        """Ask for the status."""
        self.collector.ask(self.replies.append)

    def status(self) -> EngineStatus:
        """Return the only status that was sent."""
        [reply] = self.replies
        assert isinstance(reply, StatusReply)
        return reply.status


@pytest.fixture
def rig() -> Rig:
    """Return a status collector."""
    return Rig()


def test_a_status_has_all_parts_in_the_order_of_its_json(rig: Rig) -> None:
    """The reports' fields stand beside the pids; the JSON is what `nerve status --json` prints."""
    worker, _ = rig.workers.busy(recorded("disk", 9))
    rig.ask()
    rig.collector.reported(WRITER)
    rig.collector.reported(ARCHIVER)
    pids = {name: child.pid for name, child in rig.services.children.items()}
    expected = {
        "kernel": {"pid": 1, "boot_id": "b", "uptime_ms": 2, "version": "v"},
        "workers": [
            {
                "pid": worker.child.pid,
                "state": "busy",
                "run": "disk/9",
                "sense": "disk",
                "rss_bytes": None,
                "runs": 1,
            }
        ],
        "writer": {
            "pid": pids["writer"],
            "committed": 7,
            "events_per_s": 1.5,
            "lag_ms": 2.5,
            "queue_depth": 3,
            "wal_bytes": 4,
            "unacknowledged": 4,
        },
        "archiver": {"pid": pids["archiver"], "last_ts": 5, "next_ts": 6, "archived_up_to": "2026-11-01"},
        "watcher": {"pid": pids["watcher"]},
        "senses": [msgspec.to_builtins(SENSE)],
        "problems": ["the engine is stopping", "nerve.yaml:1: no", "a.py:1: no", "a day went early"],
        "lanes": [],
        "notes": [],
    }
    assert msgspec.json.encode(rig.status()) == msgspec.json.encode(expected)


def test_a_status_waits_for_both_reports(rig: Rig) -> None:
    """The writer and the archiver are asked, and the answer comes with the second report."""
    rig.ask()
    for name in ("writer", "archiver"):
        assert rig.services.children[name].received == [GetReport()]
    rig.collector.reported(WRITER)
    assert rig.replies == []
    rig.collector.reported(ARCHIVER)
    assert rig.status().writer.committed == 7
    assert rig.collector.next_deadline() is None


def test_a_status_is_sent_without_a_report_that_does_not_come(rig: Rig) -> None:
    """The missing report is a problem, and the rest is shown; the loop knows the moment."""
    rig.ask()
    rig.collector.reported(msgspec.structs.replace(WRITER, outage="no space"))
    assert rig.collector.next_deadline() == rig.clock.time + REPORT_SECONDS
    rig.collector.expire(rig.clock.time + REPORT_SECONDS - 0.001)
    assert rig.replies == []
    rig.collector.expire(rig.clock.time + REPORT_SECONDS)
    status = rig.status()
    assert (status.writer.committed, status.archiver.next_ts) == (7, None)
    assert status.problems[-2:] == [
        "the archiver did not report within 1 s",
        "the log can't be written, senses are paused: no space",
    ]
    assert rig.collector.next_deadline() is None


def test_an_old_report_of_a_writer_that_is_silent_is_not_shown(rig: Rig) -> None:
    """Neither its counters nor its outage may still be true."""
    rig.collector.reported(msgspec.structs.replace(WRITER, outage="no space"))
    rig.ask()
    rig.collector.reported(ARCHIVER)
    rig.collector.expire(rig.clock.time + REPORT_SECONDS)
    status = rig.status()
    assert (status.writer.committed, status.writer.unacknowledged) == (None, 4)
    assert "the writer did not report within 1 s" in status.problems
    assert not any("no space" in problem for problem in status.problems)


def test_services_that_do_not_serve_are_not_waited_for(rig: Rig) -> None:
    """The status is sent at once; a service without a process has no pid."""
    for name in ("writer", "archiver", "watcher"):
        rig.services.children[name].ends(-9)
    rig.services.services.reap(NOW)
    rig.ask()
    status = rig.status()
    assert (status.writer.pid, status.archiver.pid, status.watcher.pid) == (None, None, None)
    assert status.problems == ["the engine is stopping", "nerve.yaml:1: no", "a.py:1: no"]
