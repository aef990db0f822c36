"""The life of a run in the kernel, with a pool and a recorder that do nothing but remember."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from nerve.clock import Stamp
from nerve.config.config import Config, ReflexConfig, SenseConfig
from nerve.events.model import ErrorDetail, LogEvent, Status
from nerve.kernel.dispatcher import Dispatcher, make_schedule
from nerve.kernel.recorder import Recorder
from nerve.processes.messages import Run, RunResult
from nerve.processes.pool import Pool
from nerve.processes.worker_handle import EndedRun, OpenRun
from nerve.reload.codebase import Module, Version
from nerve.reload.revision import Revision
from nerve.scheduling.slots import Places

WALL = 1_700_000_000_000


def version_of(sense: str, digest: str = "d1") -> Version:
    """Make a version of a sense."""
    return Version(Module(f"senses.{sense}", f"/w/{sense}.py", b"", digest))


class FakeClock:
    """A clock that is set by hand, in seconds."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        """Monotonic seconds."""
        return self.time

    def stamp(self) -> Stamp:
        """The moment, as an event bears it."""
        return Stamp(WALL + round((self.time - 100) * 1000), round(self.time * 1e9))


class FakePool:
    """Workers that never answer by themselves."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.runs: list[Run] = []
        self.returned: list[Run] = []
        self.refusing: list[Run] = []
        self.quick: set[str] = set()

    def places(self, is_quick: Callable[[str], bool]) -> Places:
        """Give the places that there are; nobody waits behind another here."""
        self.quick = {sense for sense in ("eye", "hand") if is_quick(sense)}
        return Places(self.free)

    def dispatch(self, runs: deque[Run], now: float, is_quick: Callable[[str], bool]) -> list[Run]:
        """Take as many runs as there are workers, and refuse what was to be refused."""
        while runs and self.free:
            self.free -= 1
            self.runs.append(runs.popleft())
        refused, self.refusing = self.refusing, []
        return refused


class FakeRecorder:
    """Remembers what is submitted; commits when told to."""

    def __init__(self) -> None:
        self.open = True
        self.events: list[LogEvent] = []
        self.waiting: list[Callable[[], None]] = []

    def submit(self, events: Sequence[LogEvent], committed: Callable[[], None] | None = None) -> None:
        """Take events."""
        self.events += events
        if committed:
            self.waiting.append(committed)

    def commit(self) -> None:
        """Tell everybody that their events are committed."""
        while self.waiting:
            self.waiting.pop(0)()

    def of(self, type: str) -> list[dict[str, Any]]:
        """The payloads of a type."""
        return [json.loads(event.payload) for event in self.events if event.type == type]


class Bench:
    """The runs of a small configuration, between two fakes."""

    def __init__(self, free: int = 2) -> None:
        senses = {name: SenseConfig(name, f"/w/{name}.py") for name in ("eye", "hand")}
        reflexes = (ReflexConfig("look", "eye", interval=10.0), ReflexConfig("grasp", "hand", on=("eye",)))
        self.revision = Revision(Config(senses=senses, reflexes=reflexes), {name: version_of(name) for name in senses})
        self.clock = FakeClock()
        self.pool = FakePool(free)
        self.recorder = FakeRecorder()
        self.runs = Dispatcher(
            self.revision,
            make_schedule(self.revision.config, self.clock.time),
            cast("Pool", self.pool),
            cast("Recorder", self.recorder),
            self.clock,
        )

    def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, and everything start that is due."""
        self.clock.time += seconds
        self.runs.advance(self.clock.time)

    def end(
        self,
        run: Run,
        status: Status = "ok",
        signal: str | None = None,
        error: ErrorDetail | None = None,
        ms: float = 12.3456,
    ) -> None:
        """Have a worker tell the end of a run."""
        self.pool.free += 1
        outcome = RunResult(run.run_id, status, ms, signal, error)
        open_run = OpenRun(run, self.clock.time, self.clock.time)
        self.runs.ended(iter([EndedRun(open_run, outcome, 77, died=status == "died")]), self.clock.time)


@pytest.fixture
def bench() -> Bench:
    """Give the runs of a small configuration."""
    return Bench()


def test_the_beats_of_many_reflexes_are_spread() -> None:
    """Of five that all beat each second, the last waits a little; the few of most workspaces don't."""
    senses = {f"s{n}": SenseConfig(f"s{n}", "/w/s.py") for n in range(5)}
    reflexes = tuple(ReflexConfig(f"r{n}", name, interval=1.0) for n, name in enumerate(senses))
    schedule = make_schedule(Config(senses=senses, reflexes=reflexes), 100.0)
    assert [schedule.due(name) for name in senses] == [100.0] * 4 + [100.004]


def test_a_start_is_recorded_before_its_run_is_handed_out(bench: Bench) -> None:
    """While the writer is away, nothing starts at all; when it is back, record and run go out together."""
    bench.recorder.open = False
    bench.advance()
    assert bench.recorder.events == []
    assert bench.pool.runs == []
    bench.recorder.open = True
    bench.advance(3)
    [start] = bench.recorder.of("run_start")
    [run] = bench.pool.runs
    assert run.run_id.startswith("eye/")
    assert start["lateness_ms"] == 3000
    assert start["scheduled_ts"] == WALL
    assert run.trigger.scheduled_ts == WALL


def test_a_run_whose_record_is_stuck_waits_in_the_kernel(bench: Bench) -> None:
    """If the record is not out of the process at once, the run is held until it is."""
    bench.recorder.submit = lambda events, committed=None: (  # type: ignore[method-assign]
        FakeRecorder.submit(bench.recorder, events, committed),
        setattr(bench.recorder, "open", False),
    )[0]
    bench.advance()
    assert len(bench.recorder.of("run_start")) == 1
    assert bench.pool.runs == []
    bench.recorder.open = True
    bench.advance()
    assert len(bench.pool.runs) == 1


def test_a_signal_starts_what_is_on_it_with_its_cause(bench: Bench) -> None:
    """The run that signalled is the cause of the run that follows, and its payload travels as text."""
    bench.advance()
    bench.end(bench.pool.runs[0], signal='{"n":1}')
    bench.advance()
    eye, hand = bench.pool.runs
    assert hand.sense == "hand"
    assert hand.trigger.signal is not None
    assert hand.trigger.signal.payload == '{"n":1}'
    assert bench.recorder.of("run_start")[1]["cause"] == eye.run_id
    [complete] = bench.recorder.of("run_complete")
    assert complete == {"sense": "eye", "status": "ok", "duration_ms": 12.346, "signal": True, "worker": 77}


def test_a_failed_run_has_one_error_before_its_complete(bench: Bench) -> None:
    """Error and complete bear the run's id; the history of the sense counts the failure."""
    bench.advance()
    run = bench.pool.runs[0]
    bench.end(run, "error", error=ErrorDetail("compute", "ValueError: no", "ValueError", "Traceback ..."))
    assert [event.type for event in bench.recorder.events] == ["run_start", "error", "run_complete"]
    assert {event.ref_id for event in bench.recorder.events} == {run.run_id}
    [eye, _hand] = bench.runs.statuses(bench.clock.time)
    assert (eye.last_run, eye.last_status, eye.consecutive_failures) == (run.run_id, "error", 1)


def test_the_back_off_of_a_poison_sense_is_part_of_its_error(bench: Bench) -> None:
    """From the second death in a row on, the error says for how long the sense is put off."""
    for n in range(2):
        bench.advance(10 * n)
        bench.end(bench.pool.runs[-1], "died", error=ErrorDetail("worker_died", "it died"))
    first, second = bench.recorder.of("error")
    assert "backoff_ms" not in first
    assert second["backoff_ms"] == 1000
    assert bench.runs.statuses(bench.clock.time)[0].state == "backoff"


def test_who_waits_for_a_run_is_told_once_it_is_committed(bench: Bench) -> None:
    """Not before: what they then look up in the log must be there."""
    told: list[tuple[str | None, Status]] = []
    assert bench.runs.trigger("hand", "1", bench.clock.time, lambda *what: told.append(what)) is None
    bench.advance()
    run = next(run for run in bench.pool.runs if run.sense == "hand")
    bench.end(run)
    assert told == []
    bench.recorder.commit()
    assert told == [(run.run_id, "ok")]


def test_who_waits_for_a_run_that_will_never_be_is_told_so(bench: Bench) -> None:
    """A stop drops what is pending, and answers for it."""
    told: list[tuple[str | None, Status]] = []
    bench.runs.trigger("hand", None, bench.clock.time, lambda *what: told.append(what))
    bench.runs.halt(bench.clock.time)
    assert told == [(None, "cancelled")]
    assert bench.runs.trigger("hand", None, bench.clock.time, None) == "the engine is stopping"


def test_a_held_run_ends_as_cancelled_at_a_stop(bench: Bench) -> None:
    """Its start is in the log already, so its complete must be, too."""
    bench.pool.free = 1
    bench.advance()
    bench.runs._held.append(bench.pool.runs[0])
    bench.runs.halt(bench.clock.time)
    [complete] = bench.recorder.of("run_complete")
    assert complete["status"] == "cancelled"
    assert complete["worker"] is None


def test_a_trigger_that_can_not_be_is_refused_in_words(bench: Bench) -> None:
    """An unknown sense is met with the nearest name, a huge payload with its limit."""
    assert "did you mean 'hand'?" in (bench.runs.trigger("hnad", None, 0, None) or "")
    assert "eye, hand" in (bench.runs.trigger("zzz", None, 0, None) or "")
    assert "max_payload" in (bench.runs.trigger("hand", "1" * 100_000, 0, None) or "")


def test_runs_that_end_together_are_recorded_together(bench: Bench) -> None:
    """In the order of their ends, and each waiting hand is told of its own."""
    told: list[str | None] = []
    bench.runs.trigger("hand", None, bench.clock.time, lambda run_id, _status: told.append(run_id))
    bench.advance()
    endings = [
        EndedRun(OpenRun(run, 0, 0), RunResult(run.run_id, "ok", 1.0), 77, died=False) for run in bench.pool.runs
    ]
    batches: list[int] = []
    submit = bench.recorder.submit
    bench.recorder.submit = lambda events, committed=None: (  # type: ignore[method-assign]
        batches.append(len(events)),
        submit(events, committed),
    )[1]
    bench.runs.ended(endings, bench.clock.time)
    assert batches == [2]
    bench.recorder.commit()
    assert told == [run.run_id for run in bench.pool.runs if run.sense == "hand"]


def test_a_run_that_was_taken_back_is_first_in_line_and_recorded_once(bench: Bench) -> None:
    """Its start is in the log: it is dispatched again as it is, before anything else starts."""
    bench.pool.free = 1
    bench.advance()
    [run] = bench.pool.runs
    bench.pool.returned.append(run)
    bench.runs.trigger("hand", None, bench.clock.time, None)
    bench.advance()
    assert bench.pool.runs == [run]
    bench.pool.free = 1
    bench.advance()
    assert bench.pool.runs == [run, run]
    assert len(bench.recorder.of("run_start")) == 1


def test_a_run_that_was_taken_back_ends_as_cancelled_at_a_stop(bench: Bench) -> None:
    """Nobody has begun it, and nobody will."""
    bench.advance()
    bench.pool.returned.append(bench.pool.runs[0])
    bench.runs.halt(bench.clock.time)
    assert [complete["status"] for complete in bench.recorder.of("run_complete")] == ["cancelled"]


@pytest.mark.parametrize(
    ("ends", "quick"),
    [
        ([], False),
        ([("ok", 0.1)], True),
        ([("ok", 0.1), ("ok", 900.0)], False),
        ([("ok", 0.4), ("ok", 0.1)], True),
        ([("ok", 900.0), ("ok", 0.1)], False),
        ([("error", 0.1)], True),
        ([("died", 0.1)], False),
        ([("ok", 0.1), ("cancelled", 0.0)], True),
    ],
)
def test_only_a_sense_that_has_been_quick_may_wait_behind_others(
    bench: Bench, ends: list[tuple[Status, float]], *, quick: bool
) -> None:
    """A slow run, or one that cost its worker, is remembered for a while."""
    for status, ms in ends:
        bench.runs.trigger("hand", None, bench.clock.time, None)
        bench.advance(100)
        bench.end(next(run for run in reversed(bench.pool.runs) if run.sense == "hand"), status, ms=ms)
    bench.advance()
    assert ("hand" in bench.pool.quick) is quick


def test_a_sense_with_a_throttle_never_waits_behind_others() -> None:
    """The throttle counts from its start, so that must be when it begins."""
    senses = {"eye": SenseConfig("eye", "/w/eye.py", throttle=0.001)}
    revision = Revision(Config(senses=senses), {"eye": version_of("eye")})
    bench = Bench()
    bench.runs.follow(revision, bench.clock.time)
    bench.runs.trigger("eye", None, bench.clock.time, None)
    bench.advance()
    bench.end(bench.pool.runs[0], ms=0.1)
    bench.advance()
    assert bench.pool.quick == set()


def test_a_run_that_found_no_room_is_first_in_line_and_its_sense_waits_nowhere_again(bench: Bench) -> None:
    """Or else it would be refused again and again, and others would pass it."""
    bench.runs.trigger("hand", None, bench.clock.time, None)
    bench.advance()
    hand = next(run for run in bench.pool.runs if run.sense == "hand")
    bench.end(hand, ms=0.1)
    bench.advance()
    assert "hand" in bench.pool.quick
    bench.pool.refusing = [hand]
    bench.runs.trigger("hand", None, bench.clock.time, None)
    bench.advance(100)
    done = len(bench.pool.runs)
    bench.pool.free = 1
    bench.advance()
    assert bench.pool.runs[done:] == [hand]
    bench.pool.free = 1
    bench.advance()
    assert "hand" not in bench.pool.quick


def test_two_starts_of_a_throttled_sense_are_never_recorded_closer_than_its_throttle() -> None:
    """However late in a turn of the loop the first is recorded: that is when the throttle begins."""
    senses = {"eye": SenseConfig("eye", "/w/eye.py", throttle=1.0)}
    revision = Revision(Config(senses=senses), {"eye": version_of("eye")})
    bench = Bench()
    bench.runs.follow(revision, bench.clock.time)
    bench.runs.trigger("eye", None, bench.clock.time, None)
    decided = bench.clock.time
    bench.clock.time += 0.25  # the turn has taken so long by now
    bench.runs.advance(decided)
    bench.end(bench.pool.runs[0], ms=0.1)
    bench.runs.trigger("eye", None, bench.clock.time, None)
    bench.advance(0.8)
    assert len(bench.pool.runs) == 1
    bench.advance(0.2)
    assert len(bench.pool.runs) == 2
