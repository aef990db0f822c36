"""The scheduling rules: what happened and what time it is go in, which senses run now comes out; pure, no clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Literal

from nerve.events.trigger import Signal
from nerve.scheduling.backoff import backoff, throttle_end
from nerve.scheduling.intervals import Interval, Timer, Timers
from nerve.scheduling.rules import Reflex, SenseRule, Start, coalesce
from nerve.scheduling.slots import Places

SenseState = Literal["idle", "running", "pending", "throttled", "backoff"]


@dataclass(slots=True, eq=False)
class _Group:
    """Senses that exclude each other: `waiting` holds those that only a running one keeps from starting.

    More than one of them runs only where a change of the rules has brought running ones together.
    """

    running: int = 0
    waiting: list[_Turn] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Sense:
    """Where one sense stands; `arrival` ranks its pending trigger among those that are due at the same moment."""

    rule: SenseRule
    group: _Group | None = None
    pulses: list[Timer] = field(default_factory=list)
    running: bool = False
    pending: Start | None = None
    arrival: int = 0
    deaths: int = 0
    started: float = -math.inf
    throttled_until: float = -math.inf
    backoff_until: float = -math.inf

    @property
    def not_before(self) -> float:
        """The first moment at which neither the throttle nor the back-off forbids a start."""
        return max(self.throttled_until, self.backoff_until)


_Turn = tuple[float, int, _Sense]
"""An entry of a heap: a moment, then the arrival, which is unique, so that comparisons never reach the sense."""


class Schedule:
    """All senses and reflexes of an engine, and the decision what runs when.

    Every `now` is in monotonic seconds and never smaller than the one before. The caller tells what happens as it
    happens; then, before it sleeps until `next_wake`, it calls `beat` and `take`. The first beat of every interval
    is its `offset` after the `now` of the constructor. Raises KeyError for a reflex of an unknown sense.

    A sense that has something pending is in at most one place: in none while it runs (its end queues it), in
    `_deferred` until its throttle and its back-off are over, then in `_ready`; `take` moves it from there to the
    `waiting` of its group where that is busy, and each end of a run moves the first of these back. So each
    trigger, start and end costs O(log n), and what can't start is not looked at again and again.
    """

    def __init__(self, senses: Iterable[SenseRule], reflexes: Iterable[Reflex], now: float) -> None:
        self._senses: dict[str, _Sense] = {}
        self._gone: dict[str, _Sense] = {}
        self._arrivals = count()
        self._halted = False
        self._forget()
        self.replace(senses, reflexes, now)

    def _forget(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._listeners: dict[str, list[tuple[_Sense, str]]] = {}
        self._beats = Timers()
        self._deferred: list[_Turn] = []
        self._ready: list[_Turn] = []

    def replace(self, senses: Iterable[SenseRule], reflexes: Iterable[Reflex], now: float) -> tuple[int, ...]:
        """Go by other rules from now on; whatever is the same in both stays as it is.

        An unchanged reflex keeps its beat, a new or changed one begins at `now`. A sense keeps its run, what is
        pending for it, and the start from which its throttle counts. One that is gone finishes its run, if it has one,
        and what was pending for it is dropped: gives the tickets that no start will bear. Once halted, nothing changes.
        """
        if self._halted:
            return ()
        known = self._gone | self._senses
        pulses = {(pulse.sense, pulse.reflex, pulse.grid.interval): pulse for s in known.values() for pulse in s.pulses}
        self._forget()
        self._senses = {rule.name: self._ruled(known.pop(rule.name, None), rule) for rule in senses}
        for reflex in reflexes:
            self._add_reflex(reflex, now, pulses)
        tickets = [ticket for sense in known.values() for ticket in _dropped(sense)]
        self._gone = {name: self._ruled(sense, sense.rule) for name, sense in known.items() if sense.running}
        for sense in self._senses.values():
            if sense.pending is not None and not sense.running:
                self._queue(sense, now)
        return tuple(tickets)

    def _ruled(self, sense: _Sense | None, rule: SenseRule) -> _Sense:
        """Put a sense, known or new, under a rule; its reflexes are added again."""
        sense = sense or _Sense(rule)
        sense.rule, sense.pulses = rule, []
        sense.throttled_until = -math.inf if rule.throttle is None else throttle_end(sense.started, rule.throttle)
        sense.group = None if rule.group is None else self._groups.setdefault(rule.group, _Group())
        if sense.group is not None:
            sense.group.running += sense.running
        return sense

    def _add_reflex(self, reflex: Reflex, now: float, known: Mapping[tuple[str, str, float], Timer]) -> None:
        sense = self._senses[reflex.sense]
        if reflex.interval is not None:
            pulse = known.get((reflex.sense, reflex.name, reflex.interval))
            pulse = pulse or Timer(reflex.sense, reflex.name, Interval(now + reflex.offset, reflex.interval))
            sense.pulses.append(pulse)
            self._beats.add(pulse)
        for source in dict.fromkeys(reflex.on):
            self._listeners.setdefault(source, []).append((sense, reflex.name))

    def beat(self, now: float) -> None:
        """Turn the intervals that are due into triggers, one each, and end the deferrals that are over."""
        for sense, reflex, due, skipped in self._beats.pass_to(now):
            self._trigger(self._senses[sense], Start(sense, "interval", reflex, None, 0, skipped, due, ()), now)
        self._end_deferrals(now)

    def signalled(self, signal: Signal, now: float) -> None:
        """Fire the reflexes that are `on` the sense that signalled."""
        if self._halted:
            return
        for sense, reflex in self._listeners.get(signal.sense, ()):
            self._trigger(sense, Start(sense.rule.name, "signal", reflex, signal, 0, 0, now, ()), now)

    def triggered(self, sense: str, now: float, *, signal: Signal | None = None, ticket: int | None = None) -> bool:
        """Trigger a sense by hand; the start that answers it will bear the ticket.

        False if no start will, because the schedule is halted. Raises KeyError for an unknown sense.
        """
        found = self._senses[sense]
        if self._halted:
            return False
        tickets = () if ticket is None else (ticket,)
        self._trigger(found, Start(sense, "manual", None, signal, 0, 0, now, tickets), now)
        return True

    def finished(self, sense: str, now: float, *, died: bool) -> float:
        """Note that a sense's run has ended, and whether its worker died; give the back-off that now holds, in s.

        Raises KeyError for an unknown sense, ValueError for one that isn't running.
        """
        found = self._gone.pop(sense, None) or self._senses[sense]
        if not found.running:
            raise ValueError(f"sense {sense!r} is not running, so its run can't have ended")
        found.running = False
        found.deaths = found.deaths + 1 if died else 0
        seconds = backoff(found.deaths)
        if seconds:
            found.backoff_until = now + seconds
        if found.group is not None:
            self._free(found.group)
        if found.pending is not None:
            self._queue(found, now)
        return seconds

    def halt(self) -> tuple[int, ...]:
        """Drop all that is pending, ignore all further triggers, and give the tickets that no start will bear.

        Runs that are under way may still finish. Halting again does nothing.
        """
        self._halted = True
        tickets: list[int] = []
        for sense in self._senses.values():
            tickets += _dropped(sense)
            sense.pulses.clear()
        for group in self._groups.values():
            group.waiting.clear()
        self._beats.clear()
        self._deferred.clear()
        self._ready.clear()
        return tuple(tickets)

    def take(self, now: float, places: Places) -> list[Start]:
        """Decide what starts now, first due first, as long as there are places; these senses count as running then."""
        self._end_deferrals(now)
        starts: list[Start] = []
        while self._ready:
            sense = self._ready[0][2]
            if sense.group is not None and sense.group.running:
                heappush(sense.group.waiting, heappop(self._ready))
                continue
            if not places.claim(sense.rule.name):
                break  # nobody passes the first in line
            heappop(self._ready)
            starts.append(self._start(sense, now))
        return starts

    def next_wake(self) -> float | None:
        """Give the next moment at which time alone changes something: a beat, the end of a throttle or a back-off.

        None if only an event from outside can. After `beat(now)` it is later than `now`: what lacks nothing but
        a worker, or the end of a run of its group, waits for that event.
        """
        beat = self._beats.next()
        if not self._deferred:
            return beat
        deferral = self._deferred[0][0]
        return deferral if beat is None else min(beat, deferral)

    def state(self, sense: str, now: float) -> SenseState:
        """Say what a sense is doing, or what keeps it: `pending` means that it lacks a worker, or its group."""
        found = self._senses[sense]
        if found.running:
            return "running"
        if now < found.backoff_until:
            return "backoff"
        if found.pending is None:
            return "idle"
        return "throttled" if now < found.throttled_until else "pending"

    def due(self, sense: str) -> float | None:
        """Give the moment from which a sense may start next, as far as is known; it is past if the sense waits."""
        found = self._senses[sense]
        dues = [pulse.due for pulse in found.pulses]
        if found.pending is not None:
            dues.append(found.pending.due)
        return max(min(dues), found.not_before) if dues else None

    def pending(self, sense: str) -> Start | None:
        """Give what a sense will answer when it starts next, as it stands now."""
        return self._senses[sense].pending

    def deaths(self, sense: str) -> int:
        """Give how many runs of a sense in a row have ended with the death of their worker."""
        return self._senses[sense].deaths

    def _trigger(self, sense: _Sense, start: Start, now: float) -> None:
        if sense.pending is not None:
            sense.pending = coalesce(sense.pending, start)
            return
        sense.pending = start
        sense.arrival = next(self._arrivals)
        if not sense.running:
            self._queue(sense, now)

    def _queue(self, sense: _Sense, now: float) -> None:
        if sense.not_before > now:
            heappush(self._deferred, (sense.not_before, sense.arrival, sense))
        else:
            self._line_up(sense)

    def _end_deferrals(self, now: float) -> None:
        while self._deferred and self._deferred[0][0] <= now:
            self._line_up(heappop(self._deferred)[2])

    def _line_up(self, sense: _Sense) -> None:
        assert sense.pending is not None, "only what is pending waits"
        heappush(self._ready, (sense.pending.due, sense.arrival, sense))

    def _start(self, sense: _Sense, now: float) -> Start:
        assert sense.pending is not None, "only what is pending waits"
        start, sense.pending, sense.running = sense.pending, None, True
        sense.started = now
        if sense.rule.throttle is not None:
            sense.throttled_until = throttle_end(now, sense.rule.throttle)
        if sense.group is not None:
            sense.group.running += 1
        return start

    def _free(self, group: _Group) -> None:
        group.running -= 1
        if group.waiting and not group.running:
            heappush(self._ready, heappop(group.waiting))


def _dropped(sense: _Sense) -> tuple[int, ...]:
    """Drop what is pending for a sense, and give its tickets."""
    pending, sense.pending = sense.pending, None
    return pending.tickets if pending else ()
