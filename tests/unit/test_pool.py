"""The pool: one run a worker at a time, and a worker's death costs that run and nothing else."""

from __future__ import annotations

import faulthandler
import select
import signal
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.children import FakeChild, enter

from nerve.children import Boot, Child, ChildContext, Role
from nerve.codebase import Version
from nerve.events import ErrorDetail
from nerve.messages import Failed, Finish, Outcome, Ready, Run, ToChild
from nerve.pool import TRACE_SECONDS, Ended, Pool, Worker
from nerve.trigger import Trigger
from nerve.wire import Channel

NOW = 100.0
TIMEOUT, GRACE = 30.0, 5.0
BY_INTERVAL = Trigger("interval", "a-reflex", None, 0, 0)


def run_of(sense: str = "disk", number: int = 1, version: Version | None = None) -> Run:
    """Make a run."""
    return Run(f"{sense}/{number}", sense, version, BY_INTERVAL, TIMEOUT, GRACE, 1000)


def ok(run: Run, signal: str | None = None) -> Outcome:
    """Make the outcome of a run that went well."""
    return Outcome(run.run_id, "ok", 12.0, signal)


class Rig:
    """A pool of fake children, which remembers what it forked, watched and forgot."""

    def __init__(self, size: int = 2) -> None:
        self.children: list[FakeChild] = []
        self.watched: list[int] = []
        self.forgotten: list[int] = []
        self.can_fork = True
        self.pool = Pool(self._fork, self._watch, self._forget, size)

    def start(self, now: float = NOW) -> None:
        """Fill the pool, and have every worker say that it is ready."""
        self.pool.fill(now)
        for worker in self.workers():
            self.child_of(worker).says(Ready())
            assert list(self.pool.hear(worker)) == []

    def workers(self) -> list[Worker]:
        """Give the workers that the pool has."""
        return list(self.pool.workers.values())

    def child_of(self, worker: Worker) -> FakeChild:
        """Give the fake that a worker is."""
        return cast(FakeChild, worker.child)

    def busy(self, run: Run, now: float = NOW) -> tuple[Worker, FakeChild]:
        """Dispatch a run; gives who has it."""
        self.pool.dispatch(run, now)
        [worker] = [worker for worker in self.pool.busy if worker.open_run and worker.open_run.run is run]
        return worker, self.child_of(worker)

    def _fork(self, now: float) -> Child:
        if not self.can_fork:
            raise OSError(11, "Resource temporarily unavailable")
        self.children.append(FakeChild(now=now))
        return cast(Child, self.children[-1])

    def _watch(self, worker: Worker) -> None:
        self.watched.append(worker.child.pid)

    def _forget(self, worker: Worker) -> None:
        self.forgotten.append(worker.child.pid)


@pytest.fixture
def rig() -> Rig:
    """Give a pool of two workers, both idle."""
    rig = Rig()
    rig.start()
    return rig


# Filling.


def test_a_pool_forks_what_is_missing_and_watches_it() -> None:
    """As many workers as its size, once; each is free from when it says that it is ready."""
    rig = Rig(size=3)
    rig.pool.fill(NOW)
    rig.pool.fill(NOW)
    assert len(rig.children) == len(rig.pool.workers) == 3
    assert rig.watched == [child.pid for child in rig.children]
    assert rig.pool.free == 0
    rig.children[1].says(Ready())
    for worker in rig.workers():
        assert list(rig.pool.hear(worker)) == []
    assert (rig.pool.free, [worker.state for worker in rig.workers()]) == (1, ["idle"] * 3)


def test_a_pool_that_can_not_fork_tries_again_later() -> None:
    """It never gives up, never asks at once, and says when it will try."""
    rig = Rig()
    rig.can_fork = False
    now = NOW
    for _ in range(30):
        rig.pool.fill(now)
        assert rig.pool.workers == {}
        due = rig.pool.next_moment()
        assert due is not None
        assert now <= due <= now + 2
        now = max(due, now + 0.01)
    rig.can_fork = True
    rig.pool.fill(now + 2)
    assert len(rig.pool.workers) == 2


def test_a_worker_that_dies_idle_is_replaced() -> None:
    """At once or a little later; nothing has ended with it."""
    rig = Rig()
    rig.start()
    dead = rig.children[0]
    dead.ends(-signal.SIGKILL)
    assert list(rig.pool.reap(NOW)) == []
    assert dead.closed
    assert dead.pid not in rig.pool.workers
    assert dead.pid in rig.forgotten
    due = rig.pool.next_moment()
    assert due is not None
    rig.pool.fill(due)
    assert len(rig.pool.workers) == 2


def test_workers_that_never_come_to_serve_are_forked_more_and_more_slowly() -> None:
    """A worker that breaks at its start must not make for a storm of forks."""
    rig = Rig(size=1)
    now, waits = NOW, []
    for _ in range(8):
        rig.pool.fill(now)
        rig.children[-1].ends(1)
        assert list(rig.pool.reap(now)) == []
        due = rig.pool.next_moment()
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == sorted(waits)
    assert waits[-1] > waits[1] > 0
    rig.pool.fill(now)
    rig.children[-1].says(Ready())
    assert list(rig.pool.hear(rig.workers()[0])) == []
    rig.children[-1].ends(0)
    assert list(rig.pool.reap(now)) == []
    assert (rig.pool.next_moment() or 0) - now < waits[-1]


# Runs.


def test_a_run_goes_to_an_idle_worker_and_its_outcome_comes_back(rig: Rig) -> None:
    """One run a worker; with the outcome it is free again."""
    first, second = run_of("a"), run_of("b")
    worker, child = rig.busy(first)
    other, _ = rig.busy(second)
    assert other is not worker
    assert child.told == [first]
    assert (rig.pool.free, worker.state, worker.runs) == (0, "busy", 1)
    child.says(ok(first, "1"))
    [ended] = rig.pool.hear(worker)
    assert (ended.open_run.run, ended.outcome, ended.pid, ended.died) == (first, ok(first, "1"), child.pid, False)
    assert (rig.pool.free, worker.state) == (1, "idle")


def test_nothing_is_dispatched_to_a_worker_that_can_not_take_it(rig: Rig) -> None:
    """Neither to one that isn't ready, nor to one whose link has ended."""
    rig.children[0].link.hung_up = True
    for worker in rig.workers():
        assert list(rig.pool.hear(worker)) == []
    assert rig.pool.free == 1
    _, child = rig.busy(run_of())
    assert child is rig.children[1]
    assert rig.children[0].pid in rig.forgotten


def test_an_outcome_of_another_run_ends_nothing(rig: Rig) -> None:
    """A worker's slip of the tongue is noted, and its run goes on."""
    run = run_of()
    worker, child = rig.busy(run)
    child.says(ok(run_of("other")), Ready(), ok(run))
    assert [ended.outcome for ended in rig.pool.hear(worker)] == [ok(run)]
    assert child.failure == "it sent an unexpected Outcome"
    child.says(ok(run))
    assert list(rig.pool.hear(worker)) == []


def test_a_worker_that_dies_ends_its_run_as_died(rig: Rig) -> None:
    """The end says which worker, how it died, and where, if it could tell; the next worker comes at once."""
    run = run_of()
    _, child = rig.busy(run)
    child.trace = "Fatal Python error: Segmentation fault"
    child.ends(-signal.SIGSEGV)
    [ended] = rig.pool.reap(NOW + 2)
    assert (ended.died, ended.pid) == (True, child.pid)
    assert (ended.outcome.run_id, ended.outcome.status, ended.outcome.signal) == (run.run_id, "died", None)
    assert ended.outcome.duration_ms == 2000
    assert ended.outcome.error == ErrorDetail(
        "worker_died",
        f"the worker (pid {child.pid}) that ran disk died: killed by SIGSEGV",
        traceback="Fatal Python error: Segmentation fault",
        exit_code=-signal.SIGSEGV,
    )
    rig.pool.fill(NOW + 2)
    assert len(rig.pool.workers) == 2


def test_a_worker_that_says_why_it_ends_is_quoted(rig: Rig) -> None:
    """Its own words say more than its exit code."""
    worker, child = rig.busy(run_of())
    child.says(Failed("the sense of it all is gone"))
    assert list(rig.pool.hear(worker)) == []
    child.ends(1)
    [ended] = rig.pool.reap(NOW)
    assert ended.outcome.error
    assert ended.outcome.error.message.endswith("died: the sense of it all is gone")


def test_an_outcome_that_came_just_before_the_death_counts(rig: Rig) -> None:
    """The run went well; that the worker died right after it is another matter."""
    run = run_of()
    _, child = rig.busy(run)
    child.ends(-signal.SIGKILL, ok(run))
    [ended] = rig.pool.reap(NOW)
    assert (ended.outcome, ended.died) == (ok(run), False)
    assert len(rig.pool.workers) == 1


def test_a_run_that_has_used_up_the_worker_s_memory_costs_the_worker(rig: Rig) -> None:
    """The worker ends by itself, gets no further run, and is replaced at once."""
    run = run_of()
    worker, child = rig.busy(run)
    child.says(Outcome(run.run_id, "error", 1.0, None, ErrorDetail("compute", "MemoryError"), spent=True))
    [ended] = rig.pool.hear(worker)
    assert ended.died
    assert (worker.state, rig.pool.free) == ("stopping", 1)
    child.ends(0)
    assert list(rig.pool.reap(NOW)) == []
    rig.pool.fill(NOW)
    assert len(rig.pool.workers) == 2


@pytest.mark.parametrize("busy", [True, False])
def test_a_worker_that_speaks_nonsense_is_killed_and_costs_its_run_at_most(rig: Rig, *, busy: bool) -> None:
    """Bytes that are no message never get further than the pool."""
    worker, child = rig.busy(run_of()) if busy else (rig.workers()[0], rig.children[0])
    child.link.garbage = True
    assert list(rig.pool.hear(worker)) == []
    assert child.signals == [signal.SIGKILL]
    assert rig.forgotten == [child.pid]
    assert rig.pool.free == 1
    child.code = -signal.SIGKILL
    endings = list(rig.pool.reap(NOW))
    assert [ended.outcome.status for ended in endings] == ["died"] * busy
    for ended in endings:
        assert ended.outcome.error
        assert "no message" in ended.outcome.error.message
    rig.pool.fill(NOW)
    assert len(rig.pool.workers) == 2


# Deadlines.


def test_a_run_past_its_timeout_and_grace_is_asked_where_it_hangs_and_then_killed(rig: Rig) -> None:
    """Not a moment earlier; the run ends as a timeout with the trace, and the loop knows each moment beforehand."""
    run = run_of()
    _, child = rig.busy(run)
    deadline = NOW + TIMEOUT + GRACE
    assert rig.pool.next_moment() == deadline
    rig.pool.enforce(deadline - 0.001)
    assert child.signals == []
    rig.pool.enforce(deadline)
    assert child.signals == [signal.SIGUSR2]
    assert rig.pool.next_moment() == deadline + TRACE_SECONDS
    rig.pool.enforce(deadline + TRACE_SECONDS / 2)
    assert child.signals == [signal.SIGUSR2]
    rig.pool.enforce(deadline + TRACE_SECONDS)
    assert child.signals == [signal.SIGUSR2, signal.SIGKILL]
    child.trace = "in compute"
    child.ends(-signal.SIGKILL)
    [ended] = rig.pool.reap(deadline + 1)
    assert (ended.outcome.status, ended.died) == ("timeout", True)
    assert ended.outcome.error
    assert (ended.outcome.error.kind, ended.outcome.error.traceback) == ("timeout", "in compute")
    assert "longer than its timeout of 30s" in ended.outcome.error.message


def test_a_killed_worker_that_is_not_gone_yet_neither_spins_the_loop_nor_is_killed_again(rig: Rig) -> None:
    """A process can take its time to die; another one has its place meanwhile."""
    _, child = rig.busy(run_of())
    for late in range(60, 70):
        rig.pool.fill(NOW + late)
        rig.pool.enforce(NOW + late)
    assert child.signals == [signal.SIGUSR2, signal.SIGKILL]
    assert rig.pool.next_moment() is None
    assert len(rig.children) == 3


def test_an_outcome_just_before_the_kill_counts_and_the_dying_worker_gets_no_other_run(rig: Rig) -> None:
    """What was in the link when the kill was sent is heard first."""
    run = run_of()
    worker, child = rig.busy(run)
    rig.pool.enforce(NOW + 60)
    rig.pool.enforce(NOW + 61)
    assert child.signals[-1] == signal.SIGKILL
    child.says(ok(run))
    assert [ended.outcome.status for ended in rig.pool.hear(worker)] == ["ok"]
    assert rig.pool.free == 1
    child.ends(-signal.SIGKILL)
    assert list(rig.pool.reap(NOW + 61)) == []
    rig.pool.fill(NOW + 61)
    assert len(rig.pool.workers) == 2


def test_an_outcome_between_question_and_kill_spares_the_worker(rig: Rig) -> None:
    """It has come back after all: what it wrote about where it hung is not mistaken for a later run's."""
    run = run_of()
    worker, child = rig.busy(run)
    rig.pool.enforce(NOW + 60)
    child.trace = "where it hung"
    child.says(ok(run))
    assert len(list(rig.pool.hear(worker))) == 1
    rig.pool.enforce(NOW + 100)
    assert child.signals == [signal.SIGUSR2]
    rig.pool.dispatch(run_of(), NOW + 100)
    rig.pool.dispatch(run_of(), NOW + 100)
    child.ends(-signal.SIGKILL)
    [ended] = rig.pool.reap(NOW + 101)
    assert ended.outcome.error
    assert (ended.outcome.status, ended.outcome.error.traceback) == ("died", None)


def test_each_deadline_is_its_run_s(rig: Rig) -> None:
    """The next moment is the earliest of them."""
    rig.busy(run_of("a"), now=NOW + 3)
    rig.busy(run_of("b"), now=NOW + 1)
    assert rig.pool.next_moment() == NOW + 1 + TIMEOUT + GRACE
    rig.pool.enforce(NOW + 2 + TIMEOUT + GRACE)
    assert sorted(child.signals for child in rig.children) == [[], [signal.SIGUSR2]]


# The end.


def test_closing_lets_everybody_finish_once(rig: Rig) -> None:
    """Idle workers are told at once, busy ones with their outcome, and no new ones are forked; it may be done twice."""
    run = run_of()
    worker, child = rig.busy(run)
    [idle] = [other for other in rig.children if other is not child]
    rig.pool.close()
    rig.pool.close()
    assert (idle.told, child.told) == ([Finish()], [run])
    assert rig.pool.free == 0
    child.says(ok(run))
    assert len(list(rig.pool.hear(worker))) == 1
    rig.pool.close()
    assert child.told == [run, Finish()]
    for each in rig.children:
        each.ends(0)
    assert list(rig.pool.reap(NOW)) == []
    rig.pool.fill(NOW + 10)
    assert rig.pool.workers == {}
    assert rig.pool.next_moment() is None


def test_a_pool_may_be_closed_before_it_was_filled() -> None:
    """Then it stays empty."""
    rig = Rig()
    rig.pool.close()
    rig.pool.fill(NOW)
    assert rig.children == []
    assert rig.pool.next_moment() is None


def test_only_running_computes_are_interrupted(rig: Rig) -> None:
    """An idle worker has nothing to interrupt."""
    _, child = rig.busy(run_of())
    rig.pool.interrupt()
    assert [other.signals for other in rig.children if other is not child] == [[]]
    assert child.signals == [signal.SIGUSR1]


def test_what_is_condemned_ends_as_cancelled(rig: Rig) -> None:
    """The engine stops: whoever still runs is killed, that is nobody's failure, and being told twice is fine."""
    run = run_of()
    _, child = rig.busy(run)
    [idle] = [other for other in rig.children if other is not child]
    rig.pool.close()
    rig.pool.condemn(NOW)
    rig.pool.condemn(NOW)
    assert child.signals == [signal.SIGUSR2]
    assert set(idle.signals) == {signal.SIGKILL}
    rig.pool.enforce(NOW + TRACE_SECONDS)
    assert child.signals == [signal.SIGUSR2, signal.SIGKILL]
    for each in rig.children:
        each.ends(-signal.SIGKILL)
    [ended] = rig.pool.reap(NOW + 1)
    assert (ended.outcome.status, ended.outcome.error) == ("cancelled", None)
    assert rig.pool.workers == {}


def test_a_run_that_is_already_late_stays_a_timeout_when_the_engine_stops(rig: Rig) -> None:
    """The first reason is the reason."""
    _, child = rig.busy(run_of())
    rig.pool.enforce(NOW + 60)
    rig.pool.condemn(NOW + 60)
    child.ends(-signal.SIGKILL)
    assert [ended.outcome.status for ended in rig.pool.reap(NOW + 61)] == ["timeout"]


# Any history.


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens in whatever order: every run that was dispatched ends exactly once."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(size=3)
        self.now = NOW
        self.open: set[str] = set()
        self.ended: list[str] = []
        self.dispatched = 0

    def _end(self, endings: Any) -> None:
        for ended in cast(list[Ended], list(endings)):
            self.ended.append(ended.outcome.run_id)
            self.open.remove(ended.outcome.run_id)

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        """Let the loop turn at a later moment."""
        self.now += seconds
        self.rig.pool.fill(self.now)
        self.rig.pool.enforce(self.now)

    @precondition(lambda self: self.rig.pool.free)
    @rule()
    def dispatch(self) -> None:
        """Start a run."""
        self.dispatched += 1
        self.open.add(f"a/{self.dispatched}")
        self.rig.pool.dispatch(run_of("a", self.dispatched), self.now)

    @precondition(lambda self: self.rig.pool.workers)
    @rule(data=st.data(), what=st.sampled_from(["ready", "outcome", "spent", "wrong", "garbage", "hang up"]))
    def speak(self, data: st.DataObject, what: str) -> None:
        """Have a worker say something."""
        worker = data.draw(st.sampled_from(self.rig.workers()))
        child = self.rig.child_of(worker)
        run = worker.open_run.run if worker.open_run else run_of("none")
        match what:
            case "ready":
                child.says(Ready())
            case "outcome":
                child.says(ok(run))
            case "spent":
                child.says(Outcome(run.run_id, "error", 1.0, None, None, spent=True))
            case "wrong":
                child.says(ok(run_of("other")))
            case "garbage":
                child.link.garbage = True
            case "hang up":
                child.link.hung_up = True
        self._end(self.rig.pool.hear(worker))

    @precondition(lambda self: self.rig.pool.workers)
    @rule(data=st.data(), code=st.sampled_from([0, 1, -9, -11]), outcome=st.booleans())
    def die(self, data: st.DataObject, code: int, *, outcome: bool) -> None:
        """Have a worker die, perhaps right after its outcome."""
        worker = data.draw(st.sampled_from(self.rig.workers()))
        last_words = [ok(worker.open_run.run)] if outcome and worker.open_run else []
        self.rig.child_of(worker).ends(code, *last_words)
        self._end(self.rig.pool.reap(self.now))

    @rule(what=st.sampled_from(["close", "interrupt", "condemn"]))
    def stop(self, what: str) -> None:
        """Stop the engine, or a part of it."""
        match what:
            case "close":
                self.rig.pool.close()
            case "interrupt":
                self.rig.pool.interrupt()
            case "condemn":
                self.rig.pool.condemn(self.now)

    @invariant()
    def books_are_in_order(self) -> None:
        """Open runs are those of busy workers; nobody is both free and busy; the pool is never too large."""
        pool = self.rig.pool
        assert self.open == {worker.open_run.run.run_id for worker in pool.busy if worker.open_run}
        assert len(self.ended) == len(set(self.ended))
        assert pool.free + len(pool.busy) <= len(pool.workers) <= pool.size
        assert not (pool.closed and pool.free)

    def teardown(self) -> None:
        """In the end everybody dies, and with that every run has ended."""
        for worker in self.rig.workers():
            self.rig.child_of(worker).ends(-9)
        self._end(self.rig.pool.reap(self.now))
        assert self.open == set()
        assert len(self.ended) == self.dispatched
        assert all(child.closed for child in self.rig.children)


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyHistory = AnyHistory.TestCase


# For real.


def serve(context: ChildContext) -> None:
    """Be a worker whose senses are called `good`, `stuck` and `deadly` (child)."""
    faulthandler.register(signal.SIGUSR2, file=context.crash, all_threads=False)
    link = enter(context)
    link.send(Ready())
    while not link.ended:
        for message in link.wait(None):
            match message:
                case Run(sense="good"):
                    link.send(ok(message, "1"))
                case Run(sense="stuck"):
                    get_stuck(link)
                case Run(sense="deadly"):
                    signal.raise_signal(signal.SIGKILL)
                case Finish():
                    return
                case _:
                    raise AssertionError(message)


def get_stuck(link: Channel[ToChild]) -> None:
    """Do nothing but wait for the kernel's end (child)."""
    while not link.ended:
        link.wait(None)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_real_workers_run_hang_die_and_finish() -> None:
    """The same with processes: one run of each kind, and in the end nobody is left."""
    role = Role("worker", serve)
    watched: dict[int, Worker] = {}
    pool = Pool(
        lambda now: Child(role, cast(Boot, None), now),
        lambda worker: watched.update({worker.child.pid: worker}),
        lambda worker: cast(None, watched.pop(worker.child.pid, None)),
        size=3,
    )
    endings: dict[str, Ended] = {}
    now = NOW

    def turn() -> None:
        select.select([worker.child.link for worker in watched.values()], [], [], 0.01)
        for worker in list(watched.values()):
            endings.update({ended.open_run.run.sense: ended for ended in pool.hear(worker)})
        endings.update({ended.open_run.run.sense: ended for ended in pool.reap(now)})
        pool.enforce(now)

    pool.fill(now)
    while pool.free < 3:
        turn()
    for sense in ("good", "stuck", "deadly"):
        pool.dispatch(run_of(sense), now)
    while endings.keys() < {"good", "deadly"}:
        turn()
    now += TIMEOUT + GRACE
    turn()
    now += TRACE_SECONDS
    while "stuck" not in endings:
        turn()
    pool.close()
    while pool.workers:
        turn()
    assert {sense: ended.outcome.status for sense, ended in endings.items()} == {
        "good": "ok",
        "stuck": "timeout",
        "deadly": "died",
    }
    stuck = endings["stuck"].outcome.error
    assert stuck
    assert "in get_stuck" in (stuck.traceback or "")
    assert watched == {}
