"""A compute worker: performs one run at a time, and sends its events to the writer."""

from __future__ import annotations

import logging
import os
import sys
from types import TracebackType

import msgspec
import psutil

from nerve.clock import SystemClock
from nerve.eventqueue import EventSender
from nerve.events.redaction import redactor_of
from nerve.events.trigger import Trigger
from nerve.ipc.channel import Channel
from nerve.processes import log_relay
from nerve.processes.child import ChildContext
from nerve.processes.messages import Run, RunResult, ToChild
from nerve.reload.code_store import CodeStore
from nerve.runtime.context import SenseContext
from nerve.runtime.interruption import Interrupter
from nerve.runtime.loader import SenseLoader
from nerve.runtime.log_handlers import EventHandler, GuardedHandler
from nerve.runtime.runner import run_sense
from nerve.runtime.worker_link import WorkerLink
from nerve.store.sense_databases import SenseDatabases
from nerve.workers import bootstrap
from nerve.workers.bootstrap import lane_of


class ComputeWorker:
    """Performs the runs that the kernel sends it, one at a time."""

    def __init__(self, context: ChildContext, link: Channel[ToChild]) -> None:
        self._pid = os.getpid()
        self._clock = SystemClock()
        self._process = psutil.Process()
        self._interrupter = Interrupter()
        self._link = WorkerLink(link, context.prefetched, self._interrupter.rest)
        self._loader = SenseLoader(context.boot.workspace.senses_dir)
        self._code = CodeStore(context.boot.workspace.code_dir)
        self._databases = SenseDatabases(context.boot.workspace)
        self._events = EventSender(lane_of(context), self._interrupter)
        self._records = EventHandler(self._events, self._clock)
        root = logging.getLogger()
        relay = context.boot.relay
        log_relay.install(GuardedHandler(relay, self._interrupter))
        # Before the relay, which removes the exception from a record once it has formatted it.
        root.handlers.insert(0, GuardedHandler(self._records, self._interrupter))

    def __enter__(self) -> ComputeWorker:
        self._interrupter.install()
        self._loader.install()
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
        self._records.run_id, self._records.max_payload = run.run_id, run.max_payload
        self._records.redactor = redactor_of(run.redact)
        if run.version is not None:
            self._code.keep(run.version)
        self._loader.accept(run.sense, run.version)
        outcome = run_sense(
            run, self._loader.load, lambda trigger: self._context(run, trigger), self._interrupter, self._clock
        )
        if os.getpid() != self._pid:
            os._exit(0)  # a child that the compute forked has returned here: it must not go on as a worker
        closing_ms = self._close_databases()
        self._records.run_id = None
        if closing_ms or run.measure_memory:
            rss_bytes = self._rss() if run.measure_memory else None
            return msgspec.structs.replace(outcome, rss_bytes=rss_bytes, db_close_ms=closing_ms)
        return outcome

    def _close_databases(self) -> float:
        """Close the databases that the run opened; return how many ms that took."""
        if not self._databases.in_use:
            return 0.0
        began = self._clock.now()
        self._databases.close()
        return (self._clock.now() - began) * 1000

    def _rss(self) -> int:
        return int(self._process.memory_info().rss)

    def _context(self, run: Run, trigger: Trigger) -> SenseContext:
        return SenseContext(
            run.sense,
            run.run_id,
            trigger,
            events=self._events,
            storage=self._databases,
            clock=self._clock,
            max_payload=run.max_payload,
            redactor=redactor_of(run.redact),
        )


def main(context: ChildContext) -> None:
    """Serve runs until told to finish, or until the kernel is gone (child)."""
    link = bootstrap.enter(context)
    # Last, so that a sense called `random` or `email` does not shadow the standard library's module.
    sys.path.append(str(context.boot.workspace.senses_dir))
    with ComputeWorker(context, link) as worker:
        worker.serve()
