"""The life of every run, from the decision to start it to its recorded end, however it ends; in the kernel."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import msgspec

from nerve import events
from nerve.beats import stagger
from nerve.clock import Clock
from nerve.config import Config, ReflexConfig
from nerve.events import LogEvent, Status
from nerve.ids import new_run_id
from nerve.messages import Run
from nerve.pool import Ended, Pool
from nerve.recorder import Recorder
from nerve.reloading import InForce
from nerve.rules import Reflex, SenseRule, Start
from nerve.scheduling import Schedule
from nerve.status import SenseStatus
from nerve.trigger import MANUAL, Signal, Trigger

Announce = Callable[[str | None, Status], None]
"""Called with the id and the status of a run that was waited for, once all of it is committed.

The id is None for a run that will never be, because the engine stops.
"""


@dataclass(slots=True)
class History:
    """What `nerve status` tells of a sense: its last run that has ended, and the failures since the last good one."""

    last_run: str | None = None
    last_status: Status | None = None
    last_ts: int | None = None
    failures: int = 0


def make_schedule(config: Config, now: float) -> Schedule:
    """Make the schedule of a configuration, with the first beats from `now` on."""
    return Schedule(*_rules(config), now)


def _rules(config: Config) -> tuple[list[SenseRule], list[Reflex]]:
    rules = [SenseRule(sense.name, sense.group, sense.throttle) for sense in config.senses.values()]
    return rules, [_reflex(number, reflex) for number, reflex in enumerate(config.reflexes)]


def _reflex(number: int, reflex: ReflexConfig) -> Reflex:
    offset = 0.0 if reflex.interval is None else stagger(number, reflex.interval)
    return Reflex(reflex.name, reflex.sense, reflex.interval, reflex.on, offset)


class Runs:
    """Starts what the schedule decides, and records the start and the end of every run.

    A run is handed to a worker only when its `run_start` is out of this process: the log can't miss
    the start of a run that has left a trace. While the writer is behind or away, no further run starts.
    """

    def __init__(self, in_force: InForce, schedule: Schedule, pool: Pool, recorder: Recorder, clock: Clock) -> None:
        self._in_force = in_force
        self._schedule = schedule
        self._pool = pool
        self._recorder = recorder
        self._clock = clock
        self._held: deque[Run] = deque()
        self._tickets = count(1)
        self._announces: dict[int, Announce] = {}
        self._awaited: dict[str, tuple[int, ...]] = {}
        self._history = {name: History() for name in in_force.config.senses}

    def advance(self, now: float) -> None:
        """Start everything that is due and has a worker."""
        self._schedule.beat(now)
        self._dispatch(now)
        if self._recorder.open and not self._held:
            starts = self._schedule.take(now, self._pool.free)
            if starts:
                self._begin(starts, now)

    def follow(self, in_force: InForce, now: float) -> None:
        """Go by another configuration and other versions from the next run on; what runs is left alone."""
        before, self._in_force = self._in_force.config, in_force
        if in_force.config == before:
            return
        self._history = {name: self._history.get(name) or History() for name in in_force.config.senses}
        self._give_up(self._schedule.replace(*_rules(in_force.config), now))

    def next_moment(self) -> float | None:
        """The moment at which the schedule has something new."""
        return self._schedule.next_wake()

    def trigger(self, sense: str, payload: str | None, now: float, announce: Announce | None) -> str | None:
        """Trigger a sense by hand, with a payload as JSON text; gives the reason why not, if it can't be."""
        config = self._in_force.config
        if sense not in config.senses:
            close = difflib.get_close_matches(sense, config.senses, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(config.senses) or 'none'}"
            return f"there is no sense {sense!r}: {hint}"
        limit = config.logs.max_payload
        if payload is not None and len(payload.encode()) > limit:
            return f"the payload is larger than max_payload ({limit} bytes)"
        signal = None if payload is None else Signal(MANUAL, payload, None, self._clock.stamp().ts)
        ticket = next(self._tickets) if announce else None
        if not self._schedule.triggered(sense, now, signal=signal, ticket=ticket):
            return "the engine is stopping"
        if announce and ticket:
            self._announces[ticket] = announce
        return None

    def ended(self, endings: Iterator[Ended], now: float) -> None:
        """Record the end of runs, and pass their signals on."""
        for ending in endings:
            self._record_end(ending, now)

    def halt(self, now: float) -> None:
        """Start nothing any more; runs that were recorded but not handed out yet end as cancelled."""
        self._give_up(self._schedule.halt())
        while self._held:
            run = self._held.popleft()
            self._complete(run, "cancelled", [], duration_ms=0.0, signal=None, pid=None, now=now)

    def _give_up(self, tickets: tuple[int, ...]) -> None:
        for ticket in tickets:
            self._announces.pop(ticket)(None, "cancelled")

    def statuses(self, now: float) -> list[SenseStatus]:
        """Tell how every sense is."""
        wall = self._clock.stamp().ts
        return [self._status(name, history, now, wall) for name, history in self._history.items()]

    def _begin(self, starts: list[Start], now: float) -> None:
        runs = [self._recorded(start) for start in starts]
        self._recorder.submit([event for _run, event in runs])
        self._held += [run for run, _event in runs]
        self._dispatch(now)

    def _recorded(self, start: Start) -> tuple[Run, LogEvent]:
        config, version = self._in_force.config, self._in_force.versions[start.sense]
        sense, stamp = config.senses[start.sense], self._clock.stamp()
        lateness_ms = max(0, round(stamp.mono / 1e6 - start.due * 1000))
        trigger = Trigger(start.kind, start.reflex, start.signal, start.coalesced, stamp.ts - lateness_ms)
        run = Run(
            new_run_id(start.sense),
            start.sense,
            version,
            trigger,
            sense.timeout,
            sense.grace_period,
            config.logs.max_payload,
            config.logs.redact,
            weigh=config.max_rss is not None,
        )
        if start.tickets:
            self._awaited[run.run_id] = start.tickets
        event = events.run_start(
            stamp,
            run.run_id,
            run.sense,
            trigger,
            digest=version.digest,
            lateness_ms=lateness_ms,
            skipped=start.skipped,
        )
        return run, event

    def _dispatch(self, now: float) -> None:
        while self._held and self._recorder.open and self._pool.free:
            self._pool.dispatch(self._held.popleft(), now)

    def _record_end(self, ending: Ended, now: float) -> None:
        run, outcome = ending.open_run.run, ending.outcome
        errors = []
        backoff = self._schedule.finished(run.sense, now, died=ending.died)
        if outcome.error:
            detail = outcome.error
            if backoff:
                detail = msgspec.structs.replace(detail, backoff_ms=round(backoff * 1000))
            errors = [events.error(self._clock.stamp(), run.run_id, detail)]
        self._complete(
            run,
            outcome.status,
            errors,
            duration_ms=outcome.duration_ms,
            signal=outcome.signal,
            pid=ending.pid,
            now=now,
        )

    def _complete(
        self,
        run: Run,
        status: Status,
        errors: list[LogEvent],
        *,
        duration_ms: float,
        signal: str | None,
        pid: int | None,
        now: float,
    ) -> None:
        stamp = self._clock.stamp()
        complete = events.run_complete(
            stamp,
            run.run_id,
            run.sense,
            status=status,
            duration_ms=round(duration_ms, 3),
            signal=signal is not None,
            worker=pid,
        )
        tickets = self._awaited.pop(run.run_id, ())
        self._recorder.submit([*errors, complete], self._announcing(run.run_id, status, tickets))
        self._remember(run, status, stamp.ts)
        if signal is not None:
            self._schedule.signalled(Signal(run.sense, signal, run.run_id, stamp.ts), now)

    def _announcing(self, run_id: str, status: Status, tickets: tuple[int, ...]) -> Callable[[], None] | None:
        announces = [self._announces.pop(ticket) for ticket in tickets if ticket in self._announces]
        if not announces:
            return None

        def announce_all() -> None:
            for announce in announces:
                announce(run_id, status)

        return announce_all

    def _remember(self, run: Run, status: Status, ts: int) -> None:
        history = self._history.get(run.sense)
        if history is None:  # the sense was removed while it ran
            return
        history.last_run, history.last_status, history.last_ts = run.run_id, status, ts
        if status == "ok":
            history.failures = 0
        elif status != "cancelled":
            history.failures += 1

    def _status(self, name: str, history: History, now: float, wall: int) -> SenseStatus:
        due = self._schedule.due(name)
        return SenseStatus(
            name,
            self._schedule.state(name, now),
            history.last_run,
            history.last_status,
            history.last_ts,
            None if due is None else wall + round((due - now) * 1000),
            history.failures,
        )
