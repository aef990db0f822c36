"""One worker of the pool, the parent's side: what it has to do, and how that ended; in the kernel."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from nerve.children import Child, describe_exit
from nerve.codebase import Version
from nerve.events import ErrorDetail, Status
from nerve.messages import Look, Outcome, Run
from nerve.places import STALL_SECONDS
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


class Ended(msgspec.Struct, frozen=True):
    """A run that has ended, with the worker that had it; `died` when it cost the worker."""

    open_run: OpenRun
    outcome: Outcome
    pid: int
    died: bool


@dataclass(slots=True, eq=False)
class Worker:
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
        return self.open_run is not None and self.open_run.quick and not self.stopping

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

    def hand_over(self) -> list[Run]:
        """Send the runs that it was given, with the code of their senses unless it has that.

        Several are put where it prefetches from, before it is woken up: or else it would be done with the first,
        and asleep again, before it saw the second. Gives those that there was no room for.
        """
        outgoing, self.outgoing = deque(self.outgoing), []
        alone, put = len(outgoing) == 1, False
        while outgoing:
            run = outgoing[0]
            begins = self.open_run is not None and run is self.open_run.run
            if not (alone and begins) and self._put(run):
                put = True
            elif begins:
                self._send(run)
            else:
                break
            outgoing.popleft()
        if put:
            self.child.send(Look())
        for _ in outgoing:
            self.ahead.pop()
        return list(outgoing)

    def _send(self, run: Run) -> None:
        self.child.send(self._message(run))
        self._note_code(run)
        self.linked += 1

    def _put(self, run: Run) -> bool:
        if self.child.prefetch is None or not self.child.prefetch.put(self._message(run, self.linked)):
            return False
        self._note_code(run)
        return True

    def _message(self, run: Run, after: int = 0) -> Run:
        known = run.version is not None and self.versions.get(run.sense) is run.version
        if not known and not after:
            return run
        return msgspec.structs.replace(run, version=None if known else run.version, after=after)

    def done(self, now: float) -> None:
        """Note that its run has ended: it does the next one, if it has prefetched any."""
        self.open_run = self.kill_at = self.condemned = None
        if self.ahead:
            self._open(self.ahead.popleft(), now, quick=True)

    def take_back(self, now: float) -> list[Run]:
        """Take back what it has not begun; until the run that it does is over it is given nothing more."""
        if self.child.prefetch is None or self.open_run is None:
            return []
        packets = {packet.run_id: packet for packet in self.child.prefetch.take_back()}
        taken = [run for run in (self.open_run.run, *self.ahead) if run.run_id in packets]
        self.ahead = deque(run for run in self.ahead if run.run_id not in packets)
        for run in taken:
            if packets[run.run_id].version is not None:
                self.versions.pop(run.sense, None)  # it has not got the code that came along
        if self.open_run.run.run_id in packets:  # it had not even woken up
            self.runs -= 1
            self.done(now)
        if self.open_run:
            self.open_run = msgspec.structs.replace(self.open_run, quick=False)
        return taken

    def died(self, code: int, now: float) -> list[Ended]:
        """Tell how its run ended, now that it is gone; what it had prefetched must have been taken back."""
        trace = self.child.crash_trace()
        runs = [self.open_run] if self.open_run else []
        # Only one whose words made no sense can have begun more than the kernel knows of.
        runs += [OpenRun(run, now, now) for run in self.ahead]
        return [self._died(open_run, code, trace, now) for open_run in runs]

    def _died(self, open_run: OpenRun, code: int, trace: str | None, now: float) -> Ended:
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
        outcome = Outcome(run.run_id, status, (now - open_run.started) * 1000, None, error)
        return Ended(open_run, outcome, pid, died=True)

    def _open(self, run: Run, now: float, *, quick: bool) -> None:
        self.open_run = OpenRun(run, now, now + run.timeout + run.grace_period, quick)
        self.runs += 1

    def _note_code(self, run: Run) -> None:
        if run.version is not None:
            self.versions[run.sense] = run.version
