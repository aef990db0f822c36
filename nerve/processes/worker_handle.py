"""One worker of the pool, the parent's side: what it has to do, and how that ended; in the kernel."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from nerve.events.model import ErrorDetail, Status
from nerve.processes.child import Child, describe_exit
from nerve.processes.messages import Run, RunResult
from nerve.reload.codebase import Version
from nerve.scheduling.slots import STALL_SECONDS
from nerve.units import format_duration

WorkerState = Literal["idle", "busy", "stopping"]


class OpenRun(msgspec.Struct, frozen=True):
    """A run that a worker has: since when, and when its worker is killed (monotonic seconds).

    `quick`: it is expected to be over so soon that others may wait behind it.
    """

    run: Run
    started: float
    kill_at: float
    quick: bool = False


class EndedRun(msgspec.Struct, frozen=True):
    """A run that has ended, with the worker that had it; `died` when it cost the worker."""

    open_run: OpenRun
    outcome: RunResult
    pid: int
    died: bool


@dataclass(slots=True, eq=False)
class WorkerHandle:
    """One worker of the pool: `open_run` is what it does now, `ahead` what it has prefetched."""

    child: Child
    open_run: OpenRun | None = None
    ahead: deque[Run] = field(default_factory=deque)
    outgoing: list[Run] = field(default_factory=list)
    stopping: bool = False
    runs: int = 0
    rss_bytes: int | None = None
    linked: int = 0
    """How many runs it was sent by its link."""
    versions: dict[str, Version] = field(default_factory=dict)
    """What it was last sent of each sense."""
    garbled: bool = False
    """What it said made no sense, and it was heard no further."""
    condemned: Status | None = None
    """Why it is being killed, which is then how its run ends: timeout or cancelled."""
    kill_at: float | None = None

    @property
    def state(self) -> WorkerState:
        """What it is doing, in the words of `nerve status`."""
        if self.stopping:
            return "stopping"
        return "busy" if self.open_run else "idle"

    @property
    def is_free(self) -> bool:
        """It would begin with a run at once."""
        return self.child.ready and self.open_run is None and not self.stopping and not self.child.link.ended

    @property
    def has_patience(self) -> bool:
        """Quick runs may be put behind what it does."""
        waits = self.open_run is not None and self.open_run.quick
        return waits and not self.stopping and not self.child.link.ended

    @property
    def stalls_at(self) -> float | None:
        """The moment at which what it has prefetched is to be taken back, if there is anything."""
        if self.ahead and self.open_run and self.open_run.quick:
            return self.open_run.started + STALL_SECONDS
        return None

    def take_on(self, run: Run, now: float, *, quick: bool) -> None:
        """Give it a run: to begin with, while it is free, or else behind what it has. It is sent by `hand_over`."""
        self.outgoing.append(run)
        if self.open_run is None:
            self._open(run, now, quick=quick)
        else:
            self.ahead.append(run)

    def knows(self, run: Run) -> bool:
        """Tell whether it has the code of a run: without that, nothing is put where it prefetches from."""
        return self.versions.get(run.sense) is run.version

    def hand_over(self) -> list[Run]:
        """Send the runs that it was given; gives those that there was no room for.

        What comes behind is put there first: woken up by a run that it is to begin with, it would be done with that,
        and asleep again, before it saw the next one.
        """
        outgoing, self.outgoing = self.outgoing, []
        begins = self.open_run is not None and outgoing[0] is self.open_run.run
        behind = deque(outgoing[1:] if begins else outgoing)
        while behind and self._put(behind[0], self.linked + begins):
            behind.popleft()
        if begins:
            self._send(outgoing[0])
        for _ in behind:
            self.ahead.pop()
        return list(behind)

    def _put(self, run: Run, after: int) -> bool:
        prefetch = self.child.prefetch
        return prefetch is not None and prefetch.put(msgspec.structs.replace(run, version=None, after=after))

    def _send(self, run: Run) -> None:
        self.child.send(msgspec.structs.replace(run, version=None) if self.knows(run) else run)
        self.linked += 1
        if run.version is not None:
            self.versions[run.sense] = run.version

    def done(self, now: float) -> None:
        """Note that its run has ended: it does the next one, if it has prefetched any."""
        self.open_run = self.kill_at = self.condemned = None
        if self.ahead:
            self._open(self.ahead.popleft(), now, quick=True)

    def take_back(self, now: float) -> list[Run]:
        """Take back what it has not begun; until the run that it does is over it is given nothing more."""
        if self.child.prefetch is None or self.open_run is None:
            return []
        ids = {packet.run_id for packet in self.child.prefetch.take_back()}
        taken = [run for run in (self.open_run.run, *self.ahead) if run.run_id in ids]
        self.ahead = deque(run for run in self.ahead if run.run_id not in ids)
        if self.open_run.run.run_id in ids:  # the one before has ended, and it has not come to this one
            self.runs -= 1
            self.done(now)
        if self.open_run:
            self.open_run = msgspec.structs.replace(self.open_run, quick=False)
        return taken

    def died(self, code: int, now: float) -> list[EndedRun]:
        """Tell how its run ended, now that it is gone and heard to its last word; what it did not come to is `left`."""
        trace = self.child.crash_trace()
        runs = [self.open_run] if self.open_run else []
        if self.garbled:  # it can have done more than anybody has understood
            runs += [OpenRun(run, now, now) for run in self.ahead]
        return [self._died(open_run, code, trace, now) for open_run in runs]

    def left(self, now: float) -> list[Run]:
        """Give what it has not begun, now that it is gone.

        It begins with nothing before the end of the run before is out: so behind the one that is open that is all of
        it, whether the worker had taken it or not.
        """
        runs = [*([self.open_run.run] if self.open_run else []), *self.ahead]
        left = {run.run_id for run in self.take_back(now)}
        if not self.garbled:
            left |= {run.run_id for run in self.ahead}
        return [run for run in runs if run.run_id in left]

    def _died(self, open_run: OpenRun, code: int, trace: str | None, now: float) -> EndedRun:
        run, pid = open_run.run, self.child.pid
        status: Status = self.condemned or "died"
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
        outcome = RunResult(run.run_id, status, (now - open_run.started) * 1000, None, error)
        return EndedRun(open_run, outcome, pid, died=True)

    def _open(self, run: Run, now: float, *, quick: bool) -> None:
        self.open_run = OpenRun(run, now, now + run.timeout + run.grace_period, quick)
        self.runs += 1
