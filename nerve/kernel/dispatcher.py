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
from nerve.processes.pool import Pool, Slot
from nerve.processes.prefetch import PACKET_BYTES
from nerve.processes.worker_handle import EndedRun, RecordedRun
from nerve.reload.revision import Revision
from nerve.scheduling.intervals import stagger
from nerve.scheduling.rules import Reflex, SenseRule, Start
from nerve.scheduling.schedule import Schedule

Announce = Callable[[str | None, Status], None]
"""Called with the id and the status of a run that a command waits for, once all its events are committed.

The id is None if the run will not start any more: the engine is stopping, or its sense was removed.
"""


class _CompletionRecord(NamedTuple):
    """The events of a run's end, and the calls to make once they are committed."""

    events: list[LogEvent]
    announcements: list[Callable[[], None]]


def make_schedule(config: Config, now: float) -> Schedule:
    """Make the schedule of a configuration, with the first ticks from `now` on."""
    return Schedule(*_rules(config), now)


def _rules(config: Config) -> tuple[list[SenseRule], list[Reflex]]:
    rules = [SenseRule(sense.name, sense.group, sense.throttle) for sense in config.senses.values()]
    return rules, [_reflex(number, reflex) for number, reflex in enumerate(config.reflexes)]


def _reflex(number: int, reflex: ReflexConfig) -> Reflex:
    offset = 0.0 if reflex.interval is None else stagger(number, reflex.interval)
    return Reflex(reflex.name, reflex.sense, interval=reflex.interval, on=reflex.on, offset=offset)


class Dispatcher:
    """Starts the runs that the schedule decides on, and records the start and the end of each.

    A run is handed to a worker only after its `run_start` has left this process, so that the log never has events of
    a run without its start. While the writer is behind or away, no further run starts.
    """

    def __init__(self, revision: Revision, schedule: Schedule, pool: Pool, recorder: Recorder, clock: Clock) -> None:
        self._revision = revision
        self._schedule = schedule
        self._pool = pool
        self._recorder = recorder
        self._clock = clock
        self._held: deque[RecordedRun] = deque()
        """Runs whose start is recorded, but which no worker has; they come before all that are not recorded yet."""
        self._ids = RunIds()
        self._tickets = count(1)
        self._announces: dict[int, Announce] = {}
        self._awaited: dict[str, tuple[int, ...]] = {}
        self._histories = SenseHistories(revision.config)

    def advance(self, now: float) -> None:
        """Start everything that is due and has a worker."""
        self._schedule.fire_timers(now)
        self._hold_returned()
        if self._held and self._recorder.open:
            self._dispatch_held(now)
        if self._recorder.open and not self._held:
            stamp = self._clock.stamp()  # a throttle counts from the recorded start, so the decision uses its time
            starts = self._schedule.take(max(now, stamp.mono / 1e9), self._reserve)
            if starts:
                self._begin(starts, now, stamp)

    def apply(self, revision: Revision, now: float) -> None:
        """Use another configuration and other versions from the next run on; current runs are left alone."""
        before, self._revision = self._revision.config, revision
        if revision.config == before:
            return
        self._histories.apply(revision.config)
        self._give_up(self._schedule.replace(*_rules(revision.config), now))

    def next_deadline(self) -> float | None:
        """Return when `advance` has something to do next, in monotonic seconds; None if it waits for an event."""
        return self._schedule.next_deadline()

    def trigger(self, sense: str, payload: str | None, now: float, announce: Announce | None) -> str | None:
        """Trigger a sense by hand, with a payload as JSON text; return why it is refused, or None."""
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

    def record_ends(self, ended: Iterable[EndedRun], now: float) -> None:
        """Record the ends of runs, and fire the reflexes that are on their signals."""
        stamp = self._clock.stamp()  # taken after the results arrived, so it is later than the runs' own events
        self._record([self._end(run, now, stamp) for run in ended])

    def halt(self, now: float) -> None:
        """Start nothing any more; runs that are recorded, but that no worker has, end as cancelled."""
        self._give_up(self._schedule.halt())
        self._hold_returned()
        held, self._held = self._held, deque()
        stamp, cancelled = self._clock.stamp(), RunResult(run_id="", status="cancelled", duration_ms=0.0)
        self._record([self._complete(recorded.run, cancelled, [], stamp, pid=None, now=now) for recorded in held])

    def statuses(self, now: float) -> list[SenseStatus]:
        """Return the status of every sense."""
        wall = self._clock.stamp().ts
        return [self._status(name, history, now, wall) for name, history in self._histories.all().items()]

    # Starts.

    def _hold_returned(self) -> None:
        self._held.extendleft(reversed(self._pool.take_returned()))

    def _dispatch_held(self, now: float) -> None:
        """Hand out the runs that are recorded already, as far as there are slots."""
        assigned: list[tuple[RecordedRun, Slot]] = []
        while self._held:
            recorded = self._held[0]
            slot = self._pool.reserve(recorded.run.sense, recorded.version, quick=recorded.quick)
            if slot is None:
                break
            assigned.append((self._held.popleft(), slot))
        self._pool.dispatch(assigned, now)

    def _reserve(self, start: Start) -> Slot | None:
        """Reserve a slot for a run that may start now; here it is decided whether it is a quick one."""
        quick = self._histories.is_quick(start.sense)
        if quick and start.signal is not None:
            quick = len(start.signal.payload) <= PACKET_BYTES  # a longer one can't be queued in a pipe
        return self._pool.reserve(start.sense, self._revision.versions[start.sense], quick=quick)

    def _begin(self, starts: list[tuple[Start, Slot]], now: float, stamp: Stamp) -> None:
        runs: list[tuple[RecordedRun, Slot]] = []
        events: list[LogEvent] = []
        for start, slot in starts:
            recorded, event = self._make_run(start, slot, stamp)
            runs.append((recorded, slot))
            events.append(event)
        self._recorder.submit(events)
        if self._recorder.open:
            self._pool.dispatch(runs, now)
        else:
            self._pool.release(slot for _recorded, slot in runs)
            self._held += [recorded for recorded, _slot in runs]

    def _make_run(self, start: Start, slot: Slot, stamp: Stamp) -> tuple[RecordedRun, LogEvent]:
        """Make a run that starts at `stamp`, and the `run_start` that records it."""
        config, version = self._revision.config, self._revision.versions[start.sense]
        sense = config.senses[start.sense]
        lateness_ms = max(0, round(stamp.mono / 1e6 - start.due * 1000))
        trigger = Trigger(start.kind, start.reflex, start.signal, start.coalesced, stamp.ts - lateness_ms)
        run = Run(
            run_id=self._ids.new(start.sense),
            sense=start.sense,
            trigger=trigger,
            timeout=sense.timeout,
            max_payload=config.logs.max_payload,
            redact=config.logs.redact,
            measure_memory=config.max_rss is not None,
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
        return RecordedRun(run, version, sense.grace_period, slot.quick), event

    # Ends.

    def _give_up(self, tickets: tuple[int, ...]) -> None:
        for ticket in tickets:
            self._announces.pop(ticket)(None, "cancelled")

    def _record(self, ends: list[_CompletionRecord]) -> None:
        """Record ends as one batch; each is announced when the batch is committed."""
        if not ends:
            return
        announcements = [announce for end in ends for announce in end.announcements]

        def announce_all() -> None:
            for announce in announcements:
                announce()

        self._recorder.submit([event for end in ends for event in end.events], announce_all if announcements else None)

    def _end(self, ended: EndedRun, now: float, stamp: Stamp) -> _CompletionRecord:
        run, result = ended.run, ended.result
        errors = []
        backoff = self._schedule.finished(run.sense, now, died=ended.died)
        if result.error:
            detail = result.error
            if backoff:
                detail = msgspec.structs.replace(detail, backoff_ms=round(backoff * 1000))
            errors = [catalog.error(stamp, run.run_id, detail)]
        return self._complete(run, result, errors, stamp, pid=ended.pid, now=now)

    def _complete(
        self, run: Run, result: RunResult, errors: list[LogEvent], stamp: Stamp, *, pid: int | None, now: float
    ) -> _CompletionRecord:
        complete = catalog.run_complete(
            stamp,
            run.run_id,
            run.sense,
            status=result.status,
            duration_ms=round(result.duration_ms, 3),
            signal=result.signal is not None,
            worker=pid,
            dropped_entries=result.dropped_entries,
        )
        history = self._histories.of(run.sense)
        if history:  # else the sense was removed while it ran
            history.record(run, result, stamp.ts)
        if result.signal is not None:
            self._schedule.signalled(Signal(run.sense, result.signal, run.run_id, stamp.ts), now)
        return _CompletionRecord([*errors, complete], self._announcements(run.run_id, result.status))

    def _announcements(self, run_id: str, status: Status) -> list[Callable[[], None]]:
        tickets = self._awaited.pop(run_id, ())
        return [partial(self._announces.pop(ticket), run_id, status) for ticket in tickets if ticket in self._announces]

    def _status(self, name: str, history: SenseHistory, now: float, wall: int) -> SenseStatus:
        due = self._schedule.due(name)
        return SenseStatus(
            name=name,
            state=self._schedule.state(name, now),
            last_run=history.last_run,
            last_status=history.last_status,
            last_ts=history.last_ts,
            next_due_ts=None if due is None else wall + round((due - now) * 1000),
            consecutive_failures=history.failures,
        )
