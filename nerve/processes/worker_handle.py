"""One worker of the pool, seen from the kernel: the runs that it has, and how each of them ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from nerve.events.model import ErrorDetail, Status
from nerve.processes.child import Child, describe_exit
from nerve.processes.messages import Run, RunResult
from nerve.reload.codebase import Version
from nerve.units import format_duration

WorkerState = Literal["idle", "busy", "stopping"]

STALL_SECONDS = 0.005
"""How long a quick run may take before the runs that are queued behind it are taken back."""


class RecordedRun(msgspec.Struct, frozen=True):
    """A run whose start is recorded: the message for the worker, and what only the kernel needs.

    `version` is the code that it runs; `run` is without it. `grace_period` is in seconds. `quick`: it is expected to
    be so short that it may be queued behind another quick run, and others behind it.
    """

    run: Run
    version: Version
    grace_period: float
    quick: bool = False


class EndedRun(msgspec.Struct, frozen=True):
    """A run that has ended on the worker `pid`; `died` if it cost the worker."""

    run: Run
    result: RunResult
    pid: int
    died: bool


@dataclass(slots=True, eq=False)
class WorkerHandle:
    """One worker of the pool: `open_run` is the run that it has, `queued` are those that it has prefetched."""

    child: Child
    open_run: RecordedRun | None = None
    started: float = 0.0
    """When it got its open run, in monotonic seconds."""
    deadline: float = 0.0
    """When the timeout and the grace period of its open run are over."""
    queued: deque[RecordedRun] = field(default_factory=deque)
    reserved: int = 0
    """How many slots of it are reserved for runs that it does not have yet."""
    quick: bool = False
    """Quick runs may be queued on it: its open run, or the one that reserved it, is expected to end soon."""
    stopping: bool = False
    runs: int = 0
    rss_bytes: int | None = None
    sent_by_link: int = 0
    versions: dict[str, Version] = field(default_factory=dict)
    """The version of each sense that it was last sent."""
    protocol_error: bool = False
    """It sent an invalid message, and nothing is read from it any more."""
    kill_reason: Status | None = None
    """Why it is being killed, and so the status of its run: timeout or cancelled."""
    kill_at: float | None = None

    @property
    def state(self) -> WorkerState:
        """What it is doing, as `nerve status` shows it."""
        if self.stopping:
            return "stopping"
        return "busy" if self.open_run else "idle"

    @property
    def is_free(self) -> bool:
        """It would begin with a run at once."""
        if self.open_run or self.reserved or self.stopping:
            return False
        return self.child.ready and not self.child.link.ended

    @property
    def room(self) -> int:
        """How many further quick runs can be queued on it."""
        if not self.quick or self.stopping or self.child.link.ended or self.child.prefetch is None:
            return 0
        free = self.child.prefetch.capacity - len(self.queued) - self.reserved
        return free if self.open_run else free + 1  # one of the reserved slots is that of its first run

    @property
    def stalls_at(self) -> float | None:
        """When its queued runs are to be taken back; None if there are none, or the open run is not a quick one."""
        return self.started + STALL_SECONDS if self.queued and self.quick else None

    def hand_over(self, runs: Sequence[RecordedRun], now: float) -> Sequence[RecordedRun]:
        """Send the runs for which it was reserved, in order; return those that its pipe has no room for.

        An idle worker gets the first one by its link; all others are queued. These are put into the pipe first: a
        worker that was woken by the link could be done, and asleep again, before it saw them.
        """
        self.reserved = 0
        first = runs[0] if self.open_run is None else None
        queue = runs[1:] if first else runs
        after = self.sent_by_link + 1 if first else self.sent_by_link
        queued = 0
        while queued < len(queue) and self._put(queue[queued], after):
            self.queued.append(queue[queued])
            queued += 1
        if first:
            self._send(first)
            self._open(first, now)
        return queue[queued:]

    def end_run(self, now: float) -> None:
        """Note that its run has ended; the next one is the first of those that it has prefetched."""
        self.open_run = self.kill_at = self.kill_reason = None
        self.quick = False
        if self.queued:
            self._open(self.queued.popleft(), now)

    def take_back(self, now: float) -> list[RecordedRun]:
        """Take back and return the runs that it has not begun; nothing more is queued behind its current run."""
        if self.child.prefetch is None or self.open_run is None:
            return []
        self.quick = False
        ids = {run.run_id for run in self.child.prefetch.take_back()}
        taken = [recorded for recorded in (self.open_run, *self.queued) if recorded.run.run_id in ids]
        self.queued = deque(recorded for recorded in self.queued if recorded.run.run_id not in ids)
        if self.open_run.run.run_id in ids:  # the run before has ended, and the worker has not come to this one
            self.runs -= 1
            self.end_run(now)
        return taken

    def unbegun(self, now: float) -> list[RecordedRun]:
        """Take back and return the runs that it has not begun, once it is dead and all its messages are read.

        A worker sends the result of a run before it begins the next one. So it has not begun any queued run, even if
        it has read it from the pipe; unless it sent an invalid message, which may have been a result.
        """
        runs = [*([self.open_run] if self.open_run else []), *self.queued]
        ids = {recorded.run.run_id for recorded in self.take_back(now)}
        if not self.protocol_error:
            ids |= {recorded.run.run_id for recorded in self.queued}
        return [recorded for recorded in runs if recorded.run.run_id in ids]

    def died(self, code: int, now: float) -> list[EndedRun]:
        """Return the ends of the runs that died with it: the open one; after a protocol error the queued ones, too."""
        trace = self.child.crash_trace()
        ended = [self._died(self.open_run.run, code, trace, now - self.started)] if self.open_run else []
        if self.protocol_error:
            ended += [self._died(recorded.run, code, trace, 0.0) for recorded in self.queued]
        return ended

    def _put(self, recorded: RecordedRun, after: int) -> bool:
        prefetch = self.child.prefetch
        return prefetch is not None and prefetch.put(msgspec.structs.replace(recorded.run, after=after))

    def _send(self, recorded: RecordedRun) -> None:
        run = recorded.run
        if self.versions.get(run.sense) is recorded.version:
            self.child.send(run)
        else:
            self.child.send(msgspec.structs.replace(run, version=recorded.version))
            self.versions[run.sense] = recorded.version
        self.sent_by_link += 1

    def _open(self, recorded: RecordedRun, now: float) -> None:
        self.open_run, self.started, self.quick = recorded, now, recorded.quick
        self.deadline = now + recorded.run.timeout + recorded.grace_period
        self.runs += 1

    def _died(self, run: Run, code: int, trace: str | None, seconds: float) -> EndedRun:
        pid = self.child.pid
        status: Status = self.kill_reason or "died"
        match status:
            case "cancelled":
                error = None
            case "timeout":
                message = (
                    f"{run.sense} took longer than its timeout of {format_duration(run.timeout)} and did not react to "
                    f"being interrupted: its worker (pid {pid}) was killed"
                )
                error = ErrorDetail("timeout", message, exception="TimeoutError", traceback=trace)
            case _:
                reason = self.child.failure or describe_exit(code)
                message = f"the worker (pid {pid}) that ran {run.sense} died: {reason}"
                error = ErrorDetail("worker_died", message, traceback=trace, exit_code=code)
        result = RunResult(run_id=run.run_id, status=status, duration_ms=seconds * 1000, error=error)
        return EndedRun(run, result, pid, died=True)
