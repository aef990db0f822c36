"""The pool's state is consistent after every history of runs, deaths, edits, scales and stops."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.pool import NOW, PoolRig, ok, recorded, run_of, version_of

from nerve.config.config import MAX_WORKERS
from nerve.processes.messages import Finish, Ready, Run, RunResult
from nerve.processes.pool import Limits, Slot
from nerve.processes.prefetch import MAX_QUEUED_RUNS
from nerve.processes.worker_handle import EndedRun, RecordedRun, WorkerHandle
from nerve.reload.codebase import Version


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens in whatever order: every run that was dispatched ends exactly once, or is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = PoolRig(size=3)
        self.now = NOW
        self.open: set[str] = set()
        self.versions: dict[str, Version] = {}
        self.known: dict[int, Version] = {}
        self.seen: dict[int, int] = {}
        self.held: deque[RecordedRun] = deque()
        self.ended: list[str] = []
        self.started = 0
        self.version = version_of("d0")

    def end(self, endings: Iterable[EndedRun]) -> None:
        """Note runs that have ended."""
        for ended in endings:
            self.ended.append(ended.result.run_id)
            self.open.remove(ended.result.run_id)

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        """Let the loop turn at a later moment."""
        self.now += seconds
        self.rig.pool.fill(self.now)
        self.rig.pool.enforce(self.now)

    @rule(number=st.integers(1, 12), quick=st.booleans(), stuck=st.booleans())
    def dispatch(self, number: int, *, quick: bool, stuck: bool) -> None:
        """Start runs, as many as there are slots for; returned runs come first.

        A run whose record is `stuck` in the kernel gives its slot up, and is held.
        """
        self.held.extendleft(reversed(self.rig.pool.take_returned()))
        assigned: list[tuple[RecordedRun, Slot]] = []
        while self.held and (slot := self.reserve(self.held[0].version, quick=self.held[0].quick)):
            assigned.append((self.held.popleft(), slot))
        self.rig.pool.dispatch(assigned, self.now)
        if self.held:
            return
        assigned = []
        while len(assigned) < number and (slot := self.reserve(self.version, quick=quick)):
            assigned.append((self.start(slot), slot))
        if stuck:
            self.rig.pool.release(slot for _run, slot in assigned)
            self.held += [run for run, _slot in assigned]
        else:
            self.rig.pool.dispatch(assigned, self.now)

    def reserve(self, version: Version, *, quick: bool) -> Slot | None:
        """Reserve a slot, and check that its worker may be given a run."""
        slot = self.rig.pool.reserve("a", version, quick=quick)
        if slot is None:
            assert self.rig.free == 0
        else:
            assert slot.quick == quick
            assert slot.worker.state != "stopping"
            assert slot.worker.open_run is None or (quick and slot.worker.open_run.quick)
        return slot

    def start(self, slot: Slot) -> RecordedRun:
        """Record the start of a run that has a slot."""
        self.started += 1
        run = recorded("a", self.started, self.version, quick=slot.quick)
        self.open.add(run.run.run_id)
        self.versions[run.run.run_id] = self.version
        return run

    @precondition(lambda self: self.rig.pool.workers)
    @rule(data=st.data(), room=st.integers(0, 3))
    def shrink_the_pipe(self, data: st.DataObject, room: int) -> None:
        """Let a worker's pipe refuse runs, as it does those that are too large."""
        worker = data.draw(st.sampled_from(self.rig.workers()))
        self.rig.child_of(worker).prefetch.room = room

    @precondition(lambda self: self.rig.pool.workers)
    @rule(data=st.data())
    def begin_one(self, data: st.DataObject) -> None:
        """Have a worker begin with its run."""
        self.begin(data.draw(st.sampled_from(self.rig.workers())))

    def begin(self, worker: WorkerHandle) -> None:
        """Have a worker take its open run from the pipe, if it came that way and was not taken before."""
        prefetch = self.rig.child_of(worker).prefetch
        if worker.open_run and prefetch.waiting and prefetch.waiting[0].run_id == worker.open_run.run.run_id:
            self.see(worker, prefetch.take())

    def see(self, worker: WorkerHandle, message: Run) -> None:
        """Check that a worker has the right code for a run that it got."""
        version = message.version or self.known[worker.child.pid]
        assert version is self.versions[message.run_id]
        self.known[worker.child.pid] = version

    @rule(digest=st.sampled_from(["d1", "d2"]))
    def edit(self, digest: str) -> None:
        """Use another version from now on."""
        self.version = version_of(digest)

    @rule(size=st.integers(1, 5) | st.integers(1, MAX_WORKERS))
    def scale(self, size: int) -> None:
        """Set another number of workers."""
        self.rig.pool.resize(size, self.now)

    @rule(max_runs=st.none() | st.integers(1, 3))
    def limit(self, max_runs: int | None) -> None:
        """Replace workers after some runs, or don't."""
        self.rig.pool.limits = Limits(max_runs)

    @precondition(lambda self: self.rig.pool.workers)
    @rule(data=st.data(), what=st.sampled_from(["ready", "result", "out of memory", "wrong", "garbage", "hang up"]))
    def send(self, data: st.DataObject, what: str) -> None:
        """Have a worker send something."""
        worker = data.draw(st.sampled_from(self.rig.workers()))
        child = self.rig.child_of(worker)
        run = worker.open_run.run if worker.open_run else run_of("none")
        self.begin(worker)  # it can't send the result of a run that it has not begun
        match what:
            case "ready":
                child.says(Ready())
            case "result":
                child.says(ok(run))
            case "out of memory":
                child.says(RunResult(run_id=run.run_id, status="error", duration_ms=1.0, out_of_memory=True))
            case "wrong":
                child.says(ok(run_of("other")))
            case "garbage":
                child.link.garbage = True
            case "hang up":
                child.link.hung_up = True
        self.end(self.rig.pool.receive(worker, self.now))

    @precondition(lambda self: self.rig.pool.workers)
    @rule(data=st.data(), code=st.sampled_from([0, 1, -9, -11]), result=st.booleans())
    def die(self, data: st.DataObject, code: int, *, result: bool) -> None:
        """Have a worker die, perhaps right after its result."""
        worker = data.draw(st.sampled_from(self.rig.workers()))
        last = [ok(worker.open_run)] if result and worker.open_run else []
        if last:
            self.begin(worker)
        self.rig.child_of(worker).ends(code, *last)
        self.end(self.rig.pool.reap(self.now))

    @rule(what=st.sampled_from(["close", "interrupt", "kill"]))
    def stop(self, what: str) -> None:
        """Take a step of the engine's stop."""
        match what:
            case "close":
                self.rig.pool.close(self.now)
            case "interrupt":
                self.rig.pool.interrupt()
            case "kill":
                self.rig.pool.kill(self.now)

    @invariant()
    def every_run_is_in_one_place(self) -> None:
        """An open run is with one worker, or held; it has been returned by the pool in the latter case."""
        self.held.extendleft(reversed(self.rig.pool.take_returned()))
        places = [run.run.run_id for worker in self.rig.workers() for run in self.runs_of(worker)]
        places += [run.run.run_id for run in self.held]
        assert len(places) == len(set(places))
        assert self.open == set(places)
        assert len(self.ended) == len(set(self.ended))

    @invariant()
    def workers_have_what_they_may_have(self) -> None:
        """No slot stays reserved, only quick runs are queued, only busy workers are surplus."""
        pool = self.rig.pool
        serving = self.rig.serving()
        assert not any(worker.reserved for worker in self.rig.workers())
        for worker in self.rig.workers():
            assert len(worker.queued) <= MAX_QUEUED_RUNS
            assert not worker.queued or worker.open_run
            assert all(run.quick for run in worker.queued)
            self.check_messages(worker)
        assert self.rig.free + len(pool.busy) <= len(pool.workers)
        assert len(serving) <= pool.size or all(worker.open_run for worker in serving)
        assert not (pool.closed and self.rig.free)

    def runs_of(self, worker: WorkerHandle) -> list[RecordedRun]:
        """Return the runs that a worker has."""
        return [*([worker.open_run] if worker.open_run else []), *worker.queued]

    def check_messages(self, worker: WorkerHandle) -> None:
        """Check that a worker gets Finish at most once, and nothing after it."""
        received = self.rig.child_of(worker).received
        for message in received[self.seen.get(worker.child.pid, 0) :]:
            if isinstance(message, Run):
                self.see(worker, message)
        self.seen[worker.child.pid] = len(received)
        assert Finish() not in received[:-1]

    def teardown(self) -> None:
        """In the end all workers die, and every run has ended or is held."""
        for worker in self.rig.workers():
            self.rig.child_of(worker).ends(-9)
        self.end(self.rig.pool.reap(self.now))
        left = {run.run.run_id for run in (*self.held, *self.rig.pool.take_returned())}
        assert self.open == left
        assert len(self.ended) == self.started - len(left)
        assert all(child.closed for child in self.rig.children)


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyHistory = AnyHistory.TestCase
