"""The life of every run, from the decision to start it to its recorded end, however it ends; in the kernel."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from typing import NamedTuple

import msgspec

from nerve.clock import Clock, Stamp
from nerve.config.config import Config, ReflexConfig
from nerve.control.status import SenseStatus
from nerve.events import catalog
from nerve.events.model import LogEvent, Status
from nerve.events.trigger import MANUAL, Signal, Trigger
from nerve.ids import RunIds
from nerve.kernel.recorder import Recorder
from nerve.kernel.sense_history import SenseHistories, SenseHistory
from nerve.processes.messages import Run, RunResult
from nerve.processes.pool import Pool
from nerve.processes.worker_handle import EndedRun
from nerve.reload.revision import Revision
from nerve.scheduling.intervals import stagger
from nerve.scheduling.rules import Reflex, SenseRule, Start
from nerve.scheduling.schedule import Schedule

Announce = Callable[[str | None, Status], None]
"""Called with the id and the status of a run that was waited for, once all of it is committed.

The id is None for a run that will never be, because the engine stops.
"""


class _CompletionRecord(NamedTuple):
    """The entries of a run's end, and what is to be called once they are committed."""

    entries: list[LogEvent]
    announcements: list[Callable[[], None]]


def make_schedule(config: Config, now: float) -> Schedule:
    """Make the schedule of a configuration, with the first beats from `now` on."""
    return Schedule(*_rules(config), now)


def _rules(config: Config) -> tuple[list[SenseRule], list[Reflex]]:
    rules = [SenseRule(sense.name, sense.group, sense.throttle) for sense in config.senses.values()]
    return rules, [_reflex(number, reflex) for number, reflex in enumerate(config.reflexes)]


def _reflex(number: int, reflex: ReflexConfig) -> Reflex:
    offset = 0.0 if reflex.interval is None else stagger(number, reflex.interval)
    return Reflex(reflex.name, reflex.sense, reflex.interval, reflex.on, offset)


class Dispatcher:
    """Starts what the schedule decides, and records the start and the end of every run.

    A run is handed to a worker only when its `run_start` is out of this process: the log can't miss
    the start of a run that has left a trace. While the writer is behind or away, no further run starts.
    """

    def __init__(self, revision: Revision, schedule: Schedule, pool: Pool, recorder: Recorder, clock: Clock) -> None:
        self._revision = revision
        self._schedule = schedule
        self._pool = pool
        self._recorder = recorder
        self._clock = clock
        self._held: deque[Run] = deque()
        self._ids = RunIds()
        self._tickets = count(1)
        self._announces: dict[int, Announce] = {}
        self._awaited: dict[str, tuple[int, ...]] = {}
        self._histories = SenseHistories(revision.config)

    def advance(self, now: float) -> None:
        """Start everything that is due and has a worker."""
        self._schedule.beat(now)
        self._take_returned()
        self._dispatch(now)
        if self._recorder.open and not self._held:
            stamp = self._clock.stamp()  # a throttle counts from what is recorded, so that is when it is decided
            starts = self._schedule.take(max(now, stamp.mono / 1e9), self._pool.places(self._histories.is_quick))
            if starts:
                self._begin(starts, now, stamp)

    def follow(self, revision: Revision, now: float) -> None:
        """Go by another configuration and other versions from the next run on; what runs is left alone."""
        before, self._revision = self._revision.config, revision
        if revision.config == before:
            return
        self._histories.follow(revision.config)
        self._give_up(self._schedule.replace(*_rules(revision.config), now))

    def next_moment(self) -> float | None:
        """The moment at which the schedule has something new."""
        return self._schedule.next_wake()

    def trigger(self, sense: str, payload: str | None, now: float, announce: Announce | None) -> str | None:
        """Trigger a sense by hand, with a payload as JSON text; gives the reason why not, if it can't be."""
        config = self._revision.config
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

    def ended(self, endings: Iterable[EndedRun], now: float) -> None:
        """Record the end of runs, and pass their signals on."""
        ended = list(endings)  # what has been heard by now was recorded before by those who did it
        stamp = self._clock.stamp()
        self._record([self._end(ending, now, stamp) for ending in ended])

    def halt(self, now: float) -> None:
        """Start nothing any more; runs that were recorded but not handed out yet end as cancelled."""
        self._give_up(self._schedule.halt())
        self._take_returned()
        held, self._held = self._held, deque()
        stamp, cancelled = self._clock.stamp(), RunResult("", "cancelled", 0.0)
        self._record([self._complete(run, cancelled, [], stamp, pid=None, now=now) for run in held])

    def _give_up(self, tickets: tuple[int, ...]) -> None:
        for ticket in tickets:
            self._announces.pop(ticket)(None, "cancelled")

    def statuses(self, now: float) -> list[SenseStatus]:
        """Tell how every sense is."""
        wall = self._clock.stamp().ts
        return [self._status(name, history, now, wall) for name, history in self._histories.all().items()]

    def _begin(self, starts: list[Start], now: float, stamp: Stamp) -> None:
        runs = [self._recorded(start, stamp) for start in starts]
        self._recorder.submit([event for _run, event in runs])
        self._held += [run for run, _event in runs]
        self._dispatch(now)

    def _recorded(self, start: Start, stamp: Stamp) -> tuple[Run, LogEvent]:
        config, version = self._revision.config, self._revision.versions[start.sense]
        sense = config.senses[start.sense]
        lateness_ms = max(0, round(stamp.mono / 1e6 - start.due * 1000))
        trigger = Trigger(start.kind, start.reflex, start.signal, start.coalesced, stamp.ts - lateness_ms)
        run = Run(
            self._ids.new(start.sense),
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
        event = catalog.run_start(
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
        if self._held and self._recorder.open:
            refused = self._pool.dispatch(self._held, now, self._histories.is_quick)
            for run in refused:
                self._histories.refuse(run.sense)
            self._held.extendleft(reversed(refused))

    def _take_returned(self) -> None:
        """Hold what the pool has taken back: it is first in line, for its start is recorded already."""
        self._held.extendleft(reversed(self._pool.returned))
        self._pool.returned.clear()

    def _record(self, ends: list[_CompletionRecord]) -> None:
        """Record ends as one batch; whoever waits for one is told when it is committed."""
        if not ends:
            return
        announcements = [announce for end in ends for announce in end.announcements]

        def announce_all() -> None:
            for announce in announcements:
                announce()

        self._recorder.submit([event for end in ends for event in end.entries], announce_all if announcements else None)

    def _end(self, ending: EndedRun, now: float, stamp: Stamp) -> _CompletionRecord:
        run, outcome = ending.open_run.run, ending.outcome
        errors = []
        backoff = self._schedule.finished(run.sense, now, died=ending.died)
        if outcome.error:
            detail = outcome.error
            if backoff:
                detail = msgspec.structs.replace(detail, backoff_ms=round(backoff * 1000))
            errors = [catalog.error(stamp, run.run_id, detail)]
        return self._complete(run, outcome, errors, stamp, pid=ending.pid, now=now)

    def _complete(
        self, run: Run, outcome: RunResult, errors: list[LogEvent], stamp: Stamp, *, pid: int | None, now: float
    ) -> _CompletionRecord:
        complete = catalog.run_complete(
            stamp,
            run.run_id,
            run.sense,
            status=outcome.status,
            duration_ms=round(outcome.duration_ms, 3),
            signal=outcome.signal is not None,
            worker=pid,
            dropped_entries=outcome.dropped_entries,
        )
        history = self._histories.of(run.sense)
        if history:  # or else the sense was removed while it ran
            history.ended(run, outcome, stamp.ts)
        if outcome.signal is not None:
            self._schedule.signalled(Signal(run.sense, outcome.signal, run.run_id, stamp.ts), now)
        return _CompletionRecord([*errors, complete], self._announcements(run.run_id, outcome.status))

    def _announcements(self, run_id: str, status: Status) -> list[Callable[[], None]]:
        tickets = self._awaited.pop(run_id, ())
        return [partial(self._announces.pop(ticket), run_id, status) for ticket in tickets if ticket in self._announces]

    def _status(self, name: str, history: SenseHistory, now: float, wall: int) -> SenseStatus:
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
