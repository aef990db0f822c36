"""The life of a run in the kernel: a real pool of fake workers, and a recorder that commits when the test says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from support.clock import WALL_MS, FakeClock
from support.pool import PoolRig, version_of

from nerve.config.config import Config, ReflexConfig, SenseConfig
from nerve.events.model import ErrorDetail, LogEvent, Status
from nerve.kernel.dispatcher import Dispatcher, make_schedule
from nerve.kernel.recorder import Recorder
from nerve.processes.messages import Run, RunResult
from nerve.processes.prefetch import PACKET_BYTES
from nerve.processes.worker_handle import STALL_SECONDS, WorkerHandle
from nerve.reload.revision import Revision

QUICK_MS = 0.1


class FakeRecorder:
    """Keeps the events that are submitted; `stuck` closes it with the next batch."""

    def __init__(self) -> None:
        self.open = True
        self.stuck = False
        self.batches: list[list[LogEvent]] = []
        self.waiting: list[Callable[[], None]] = []

    @property
    def events(self) -> list[LogEvent]:
        """All events in order."""
        return [event for batch in self.batches for event in batch]

    def submit(self, events: Sequence[LogEvent], committed: Callable[[], None] | None = None) -> None:
        """Keep a batch."""
        self.batches.append(list(events))
        if committed:
            self.waiting.append(committed)
        if self.stuck:
            self.open = self.stuck = False

    def commit(self) -> None:
        """Commit everything."""
        while self.waiting:
            self.waiting.pop(0)()

    def of(self, type: str) -> list[dict[str, Any]]:
        """Return the payloads of the events of one type."""
        return [json.loads(event.payload) for event in self.events if event.type == type]


def revision_of(*senses: SenseConfig, reflexes: tuple[ReflexConfig, ...] = ()) -> Revision:
    """Make a revision with these senses and reflexes."""
    config = Config(senses={sense.name: sense for sense in senses}, reflexes=reflexes)
    return Revision(config, {sense.name: version_of("d1", sense.name) for sense in senses})


EYE, HAND = SenseConfig("eye", "/w/eye.py"), SenseConfig("hand", "/w/hand.py")
REFLEXES = (ReflexConfig("look", "eye", interval=10.0), ReflexConfig("grasp", "hand", on=("eye",)))


class Rig:
    """A dispatcher with two senses: `eye` runs every 10 s, `hand` whenever `eye` signals."""

    def __init__(self, workers: int = 2, revision: Revision | None = None) -> None:
        self.clock = FakeClock(100.0)
        self.workers = PoolRig(workers)
        self.workers.start(self.clock.time)
        self.pool = self.workers.pool
        self.recorder = FakeRecorder()
        revision = revision or revision_of(EYE, HAND, reflexes=REFLEXES)
        self.dispatcher = Dispatcher(
            revision,
            make_schedule(revision.config, self.clock.time),
            self.pool,
            cast(Recorder, self.recorder),
            self.clock,
        )

    def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, and start everything that is due."""
        self.clock.advance(seconds)
        self.dispatcher.advance(self.clock.time)

    def trigger(self, sense: str, payload: str | None = None, announced: list[Any] | None = None) -> str | None:
        """Trigger a sense by hand; `announced` gets the id and the status of the run."""
        announce = None if announced is None else lambda *run: announced.append(run)
        return self.dispatcher.trigger(sense, payload, self.clock.time, announce)

    @property
    def sent(self) -> list[Run]:
        """The runs that workers were sent, by link or pipe, in the order of their starts."""
        messages = [m for child in self.workers.children for m in (*child.received, *child.prefetch.put_there)]
        starts = [event.ref_id for event in self.recorder.events if event.type == "run_start"]
        return sorted((m for m in messages if isinstance(m, Run)), key=lambda run: starts.index(run.run_id))

    @property
    def open(self) -> list[str]:
        """The senses that are running."""
        return [worker.open_run.run.sense for worker in self.workers.workers() if worker.open_run]

    def worker(self, sense: str) -> WorkerHandle:
        """Return the worker that runs a sense."""
        [worker] = [w for w in self.pool.busy if w.open_run and w.open_run.run.sense == sense]
        return worker

    def end(
        self,
        sense: str,
        status: Status = "ok",
        signal: str | None = None,
        error: ErrorDetail | None = None,
        ms: float = 12.3456,
    ) -> str:
        """Have the worker of a sense send the result of its run; return the id of the run."""
        worker = self.worker(sense)
        assert worker.open_run
        run_id = worker.open_run.run.run_id
        result = RunResult(run_id=run_id, status=status, duration_ms=ms, signal=signal, error=error)
        self.workers.child_of(worker).says(result)
        self.receive(worker)
        return run_id

    def die(self, sense: str) -> None:
        """Kill the worker of a sense, and fork another one."""
        self.workers.child_of(self.worker(sense)).ends(-9)
        self.dispatcher.record_ends(self.pool.reap(self.clock.time), self.clock.time)
        self.workers.start(self.clock.time)

    def receive(self, *workers: WorkerHandle) -> None:
        """Handle the messages of some workers, all in one call of the dispatcher."""
        ended = [ended for worker in workers for ended in self.pool.receive(worker, self.clock.time)]
        self.dispatcher.record_ends(ended, self.clock.time)

    def make_quick(self, sense: str) -> None:
        """Let every worker do a short run of a sense, so that it is quick and its code known everywhere."""
        for _ in self.workers.workers():
            self.trigger(sense)
            self.advance()
            self.end(sense, ms=QUICK_MS)
            [worker, *_] = self.workers.workers()
            self.pool.workers[worker.child.pid] = self.pool.workers.pop(worker.child.pid)  # the next one comes first


@pytest.fixture
def rig() -> Rig:
    """Return a dispatcher with two workers."""
    return Rig()


def test_first_ticks_of_many_reflexes_are_staggered() -> None:
    """Of five reflexes that all tick each second, the fifth is due a little later."""
    senses = {f"s{n}": SenseConfig(f"s{n}", "/w/s.py") for n in range(5)}
    reflexes = tuple(ReflexConfig(f"r{n}", name, interval=1.0) for n, name in enumerate(senses))
    schedule = make_schedule(Config(senses=senses, reflexes=reflexes), 100.0)
    assert [schedule.due(name) for name in senses] == [100.0] * 4 + [100.004]


# Starts.


def test_a_start_is_recorded_before_its_run_is_handed_out(rig: Rig) -> None:
    """While the writer is away nothing starts; when it is back, the start is recorded with its lateness."""
    rig.recorder.open = False
    rig.advance()
    assert (rig.recorder.events, rig.sent) == ([], [])
    rig.recorder.open = True
    rig.advance(3)
    [start] = rig.recorder.of("run_start")
    [run] = rig.sent
    assert run.run_id.startswith("eye/")
    assert start["lateness_ms"] == 3000
    assert start["scheduled_ts"] == run.trigger.scheduled_ts == WALL_MS


def test_a_run_whose_record_is_stuck_is_held_without_a_slot(rig: Rig) -> None:
    """A start that has not left the process keeps its run in the kernel; the workers are free meanwhile."""
    rig.recorder.stuck = True
    rig.advance()
    assert len(rig.recorder.of("run_start")) == 1
    assert (rig.sent, rig.workers.free) == ([], 2)
    rig.recorder.open = True
    rig.advance()
    assert [run.sense for run in rig.sent] == ["eye"]
    assert len(rig.recorder.of("run_start")) == 1


def test_nothing_is_recorded_while_there_is_no_slot() -> None:
    """What is pending stays in the schedule, where further triggers join it."""
    rig = Rig(workers=1)
    rig.advance()
    rig.trigger("hand", "1")
    rig.advance(1)
    rig.trigger("hand", "2")
    assert rig.open == ["eye"]
    assert len(rig.recorder.of("run_start")) == 1
    rig.end("eye")
    rig.advance()
    [_eye, hand] = rig.recorder.of("run_start")
    assert (hand["coalesced"], hand["lateness_ms"]) == (1, 1000)


def test_held_runs_come_before_all_that_are_not_recorded_yet() -> None:
    """A recorded run that found no worker blocks further starts, so that nobody passes it."""
    rig = Rig(workers=1)
    rig.recorder.stuck = True
    rig.advance()
    rig.workers.child_of(rig.workers.workers()[0]).ends(-9)
    rig.pool.reap(rig.clock.time)
    rig.recorder.open = True
    rig.trigger("hand")
    rig.advance()
    assert len(rig.recorder.of("run_start")) == 1
    rig.workers.start(rig.clock.time + 1)
    rig.advance()
    assert rig.open == ["eye"]


def test_a_signal_starts_the_reflexes_that_are_on_its_sense(rig: Rig) -> None:
    """The run that signalled is the cause of the run that follows, and its payload travels as JSON text."""
    rig.advance()
    eye = rig.end("eye", signal='{"n":1}')
    rig.advance()
    [_, hand] = rig.sent
    assert hand.sense == "hand"
    assert hand.trigger.signal is not None
    assert hand.trigger.signal.payload == '{"n":1}'
    assert rig.recorder.of("run_start")[1]["cause"] == eye
    [complete] = rig.recorder.of("run_complete")
    pid = rig.workers.children[0].pid
    assert complete == {"sense": "eye", "status": "ok", "duration_ms": 12.346, "signal": True, "worker": pid}


def test_two_starts_of_a_throttled_sense_are_recorded_no_closer_than_its_throttle() -> None:
    """The throttle begins when the first one is recorded, however late in a turn of the loop that is."""
    rig = Rig(revision=revision_of(SenseConfig("eye", "/w/eye.py", throttle=1.0)))
    rig.trigger("eye")
    decided = rig.clock.time
    rig.clock.advance(0.25)  # the turn has taken that long
    rig.dispatcher.advance(decided)
    rig.end("eye")
    rig.trigger("eye")
    rig.advance(0.8)
    assert len(rig.sent) == 1
    rig.advance(0.2)
    assert len(rig.sent) == 2


# Queued runs.


def test_quick_runs_are_queued_when_no_worker_is_idle() -> None:
    """A run is queued only if its own sense and the running one have been quick."""
    rig = Rig(workers=1)
    for sense in ("eye", "hand"):
        rig.make_quick(sense)
    sent = len(rig.sent)
    rig.trigger("hand")
    rig.trigger("eye")
    rig.advance(1)
    assert [run.sense for run in rig.sent[sent:]] == ["hand", "eye"]
    rig.end("hand", ms=900.0)
    rig.end("eye", ms=QUICK_MS)
    rig.trigger("hand")
    rig.trigger("eye")
    rig.advance(1)
    assert rig.open == ["hand"]
    assert len(rig.sent) == sent + 3


def test_whether_a_run_is_quick_is_decided_when_it_is_recorded() -> None:
    """A held run that was decided to be quick is still queued after a slow run of its sense was recorded."""
    rig = Rig(workers=1)
    for sense in ("eye", "hand"):
        rig.make_quick(sense)
    rig.trigger("hand")
    rig.advance(1)
    rig.trigger("eye")
    rig.recorder.stuck = True
    rig.advance()
    rig.recorder.open = True
    rig.dispatcher.apply(revision_of(SenseConfig("eye", "/w/eye.py", throttle=1.0), HAND), rig.clock.time)
    rig.advance()
    [worker] = rig.workers.workers()
    assert [recorded.run.sense for recorded in worker.queued] == ["eye"]


def test_a_run_with_a_payload_too_large_for_a_pipe_is_never_queued() -> None:
    """It waits in the schedule for an idle worker; a smaller one is queued."""
    rig = Rig(workers=1)
    for sense in ("eye", "hand"):
        rig.make_quick(sense)
    rig.trigger("eye")
    rig.advance(1)
    rig.trigger("hand", f'"{"x" * PACKET_BYTES}"')
    rig.advance()
    [worker] = rig.workers.workers()
    starts = len(rig.recorder.of("run_start"))
    assert list(worker.queued) == []
    rig.end("eye", ms=QUICK_MS)
    rig.advance()
    assert (rig.open, len(rig.recorder.of("run_start"))) == (["hand"], starts + 1)


def test_a_run_that_was_taken_back_is_first_in_line_and_recorded_once() -> None:
    """Its start is in the log: it is dispatched again as it is, before anything else starts."""
    rig = Rig(workers=1)
    for sense in ("eye", "hand"):
        rig.make_quick(sense)
    rig.trigger("hand")
    rig.trigger("eye")
    rig.advance(1)
    starts = len(rig.recorder.of("run_start"))
    [worker] = rig.workers.workers()
    [queued] = worker.queued
    rig.clock.advance(STALL_SECONDS)
    rig.pool.enforce(rig.clock.time)
    assert list(worker.queued) == []
    rig.end("hand", ms=900.0)
    rig.trigger("hand")
    rig.advance()
    assert worker.open_run is queued
    assert len(rig.recorder.of("run_start")) == starts


def test_nobody_passes_a_run_that_is_held() -> None:
    """It has to wait for an idle worker, because the pipe refused it; only runs recorded before it come first."""
    senses = [SenseConfig(name, f"/w/{name}.py") for name in ("eye", "ear", "hand", "nose")]
    rig = Rig(workers=1, revision=revision_of(*senses))
    for sense in senses:
        rig.make_quick(sense.name)
    [worker] = rig.workers.workers()
    rig.workers.child_of(worker).prefetch.room = 1
    for sense in ("eye", "ear", "hand"):
        rig.trigger(sense)
    rig.advance(1)
    rig.workers.child_of(worker).prefetch.room = 100
    starts = len(rig.recorder.of("run_start"))
    rig.trigger("nose")
    rig.advance()
    assert [recorded.run.sense for recorded in worker.queued] == ["ear"]
    assert len(rig.recorder.of("run_start")) == starts
    rig.clock.advance(STALL_SECONDS)
    rig.pool.enforce(rig.clock.time)
    rig.advance()
    for sense in ("eye", "ear", "hand"):
        assert rig.open == [sense]
        rig.end(sense, ms=900.0)
        rig.advance()
    assert rig.open == ["nose"]


# Ends.


def test_a_failed_run_has_one_error_before_its_complete(rig: Rig) -> None:
    """Both refer to the run's id, and the status of the sense counts the failure."""
    rig.advance()
    run_id = rig.end("eye", "error", error=ErrorDetail("compute", "ValueError: no", "ValueError", "Traceback ..."))
    assert [event.type for event in rig.recorder.events] == ["run_start", "error", "run_complete"]
    assert {event.ref_id for event in rig.recorder.events} == {run_id}
    [eye, _hand] = rig.dispatcher.statuses(rig.clock.time)
    assert (eye.last_run, eye.last_status, eye.consecutive_failures) == (run_id, "error", 1)


def test_the_back_off_of_a_sense_that_kills_its_workers_is_in_the_error(rig: Rig) -> None:
    """From the second death in a row on, the error has the ms for which the sense can't start."""
    for n in range(2):
        rig.advance(10 * n)
        rig.die("eye")
    first, second = rig.recorder.of("error")
    assert "backoff_ms" not in first
    assert second["backoff_ms"] == 1000
    assert rig.dispatcher.statuses(rig.clock.time)[0].state == "backoff"


def test_runs_that_end_together_are_recorded_as_one_batch(rig: Rig) -> None:
    """Each is announced to those who wait for it when the batch is committed."""
    announced: list[Any] = []
    rig.trigger("hand", None, announced)
    rig.advance()
    ids = {}
    for worker in rig.pool.busy:
        assert worker.open_run
        run = worker.open_run.run
        ids[run.sense] = run.run_id
        rig.workers.child_of(worker).says(RunResult(run_id=run.run_id, status="ok", duration_ms=1.0))
    rig.receive(*rig.workers.workers())
    assert [event.type for event in rig.recorder.batches[-1]] == ["run_complete"] * 2
    assert announced == []
    rig.recorder.commit()
    assert announced == [(ids["hand"], "ok")]


def test_a_run_that_will_never_start_is_announced_at_a_stop(rig: Rig) -> None:
    """A stop drops what is pending; triggers after it are refused."""
    announced: list[Any] = []
    rig.trigger("hand", None, announced)
    rig.dispatcher.halt(rig.clock.time)
    assert announced == [(None, "cancelled")]
    assert rig.trigger("hand") == "the engine is stopping"


def test_a_held_run_ends_as_cancelled_at_a_stop(rig: Rig) -> None:
    """Its start is in the log already, so its complete must be, too."""
    rig.recorder.stuck = True
    rig.advance()
    rig.dispatcher.halt(rig.clock.time)
    [complete] = rig.recorder.of("run_complete")
    assert (complete["status"], complete["worker"]) == ("cancelled", None)


def test_a_run_that_was_taken_back_ends_as_cancelled_at_a_stop() -> None:
    """No worker has begun it, and none will."""
    rig = Rig(workers=1)
    for sense in ("eye", "hand"):
        rig.make_quick(sense)
    rig.trigger("hand")
    rig.trigger("eye")
    rig.advance(1)
    completes = len(rig.recorder.of("run_complete"))
    rig.pool.close(rig.clock.time)
    rig.dispatcher.halt(rig.clock.time)
    assert [end["status"] for end in rig.recorder.of("run_complete")[completes:]] == ["cancelled"]


# Changes and refusals.


def test_a_removed_sense_finishes_its_run(rig: Rig) -> None:
    """Its end is recorded; it has no status any more, and a pending start of it is announced as cancelled."""
    announced: list[Any] = []
    rig.advance()
    rig.trigger("eye", None, announced)
    rig.dispatcher.apply(revision_of(HAND), rig.clock.time)
    assert announced == [(None, "cancelled")]
    rig.end("eye")
    assert [end["sense"] for end in rig.recorder.of("run_complete")] == ["eye"]
    assert [status.name for status in rig.dispatcher.statuses(rig.clock.time)] == ["hand"]


def test_a_trigger_that_is_refused_says_why(rig: Rig) -> None:
    """An unknown sense with the nearest name, or all names; a payload that is too large with its limit."""
    assert rig.trigger("hnad") == "there is no sense 'hnad': did you mean 'hand'?"
    assert rig.trigger("zzz") == "there is no sense 'zzz': there are eye, hand"
    assert rig.trigger("hand", "1" * 100_000) == "the payload is larger than max_payload (65536 bytes)"
