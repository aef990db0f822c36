"""A compute worker: performs one run at a time, and sends its events to the writer."""

from __future__ import annotations

import os
import sys
from functools import partial
from types import TracebackType

import msgspec
import psutil

from nerve.clock import SystemClock
from nerve.eventqueue import EventSender
from nerve.events.redaction import redactor_of
from nerve.events.trigger import Trigger
from nerve.ipc.channel import Channel
from nerve.processes.child import ChildContext
from nerve.processes.messages import Run, RunResult, ToChild
from nerve.processes.programs import end_programs
from nerve.reload.code_store import CodeStore
from nerve.runtime.context import SenseContext, end_context
from nerve.runtime.interruption import Interrupter
from nerve.runtime.loader import Compute, SenseLoader
from nerve.runtime.log_handlers import EventHandler, GuardedHandler
from nerve.runtime.logging_state import LoggingState
from nerve.runtime.run_of_thread import ThreadRuns
from nerve.runtime.runner import run_sense
from nerve.runtime.surroundings import Surroundings
from nerve.runtime.worker_link import WorkerLink
from nerve.store.sense_databases import SenseDatabases
from nerve.workers import bootstrap
from nerve.workers.bootstrap import lane_of


class ComputeWorker:
    """Performs the runs that the kernel sends it, one at a time."""

    def __init__(self, context: ChildContext, link: Channel[ToChild]) -> None:
        self._pid = os.getpid()
        self._home = context.boot.workspace.home
        self._crash = context.crash
        self._clock = SystemClock()
        self._process = psutil.Process()
        self._interrupter = Interrupter()
        self._link = WorkerLink(link, context.prefetched, self._interrupter.rest)
        self._loader = SenseLoader(context.boot.workspace.senses_dir)
        self._code = CodeStore(context.boot.workspace.code_dir)
        self._databases = SenseDatabases(context.boot.workspace)
        self._events = EventSender(lane_of(context), self._interrupter)
        self._threads = ThreadRuns()
        self._records = EventHandler(self._events, self._clock, self._threads.of_this_thread)
        # The relay is last: it removes the exception from a record once it has formatted it.
        handlers = (self._records, context.boot.relay)
        self._logging = LoggingState(GuardedHandler(handler, self._interrupter) for handler in handlers)

    def __enter__(self) -> ComputeWorker:
        self._interrupter.install()
        self._loader.install()
        self._threads.install()
        self._surroundings = Surroundings(self._home, self._logging, partial(bootstrap.arm_crash_traces, self._crash))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._events.close()

    def serve(self) -> None:
        """Perform runs until told to finish, or until a run has left no memory for the next."""
        self._link.ready()
        while run := self._link.next_run():
            self._link.report(self._perform(run))

    def _perform(self, run: Run) -> RunResult:
        self._threads.begin(run.run_id)
        self._records.run_id, self._records.max_payload = run.run_id, run.max_payload
        self._records.redactor = redactor_of(run.redact)
        self._records.dropped = 0
        self._context: SenseContext | None = None
        if run.version is not None:
            self._code.keep(run.version)
        self._loader.accept(run.sense, run.version)
        outcome = run_sense(
            run, self._load, lambda trigger: self._make_context(run, trigger), self._interrupter, self._clock
        )
        if os.getpid() != self._pid:
            os._exit(0)  # a child that the compute forked has returned here: it must not go on as a worker
        if outcome.status in {"timeout", "cancelled"}:
            end_programs(self._pid, outcome.duration_ms / 1000)
        closing_ms = self._close_databases()
        dropped = self._records.dropped + (end_context(self._context) if self._context else 0)
        self._records.run_id = None
        self._threads.begin(None)
        if not self._surroundings.put_back():
            outcome = msgspec.structs.replace(outcome, out_of_memory=True)
        if closing_ms or run.measure_memory or dropped:
            rss_bytes = self._rss() if run.measure_memory else None
            return msgspec.structs.replace(
                outcome, rss_bytes=rss_bytes, db_close_ms=closing_ms, dropped_entries=dropped
            )
        return outcome

    def _load(self, sense: str) -> Compute:
        """Return the compute of a sense, in the surroundings that its file has set when it was loaded."""
        if self._loader.is_loaded(sense):
            self._surroundings.set_own(sense)
            return self._loader.load(sense)
        compute = self._loader.load(sense)
        self._surroundings.accept_loaded(sense)
        return compute

    def _close_databases(self) -> float:
        """Close the databases that the run opened; return how many ms that took."""
        if not self._databases.in_use:
            return 0.0
        began = self._clock.now()
        self._databases.close()
        return (self._clock.now() - began) * 1000

    def _rss(self) -> int:
        return int(self._process.memory_info().rss)

    def _make_context(self, run: Run, trigger: Trigger) -> SenseContext:
        self._context = SenseContext(
            run.sense,
            run.run_id,
            trigger,
            events=self._events,
            storage=self._databases,
            clock=self._clock,
            max_payload=run.max_payload,
            redactor=redactor_of(run.redact),
        )
        return self._context


def main(context: ChildContext) -> None:
    """Serve runs until told to finish, or until the kernel is gone (child)."""
    link = bootstrap.enter(context)
    bootstrap.lead_group()
    # Last, so that a sense called `random` or `email` does not shadow the standard library's module.
    sys.path.append(str(context.boot.workspace.senses_dir))
    with ComputeWorker(context, link) as worker:
        worker.serve()
