"""The scheduling rules: events and the time go in, the runs that start now come out; pure, without a clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Literal, TypeVar

from nerve.events.trigger import Signal
from nerve.scheduling.backoff import backoff, throttle_end
from nerve.scheduling.intervals import Interval, Timer, Timers
from nerve.scheduling.rules import Reflex, SenseRule, Start, coalesce

SenseState = Literal["idle", "running", "pending", "throttled", "backoff"]

Slot = TypeVar("Slot")


@dataclass(slots=True, eq=False)
class _Group:
    """Senses that exclude each other; `waiting` holds those that could start if none of the group were running.

    More than one of them runs only after a change of the rules has put running senses into one group.
    """

    running: int = 0
    waiting: list[_Turn] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Sense:
    """The state of one sense; `arrival` orders pending triggers that are due at the same moment."""

    rule: SenseRule
    group: _Group | None = None
    timers: list[Timer] = field(default_factory=list)
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
"""An entry of a heap: a moment, then the arrival, which is unique, so that senses are never compared."""


class Schedule:
    """All senses and reflexes of an engine, and the decision which of them run when.

    Every `now` is in monotonic seconds and never smaller than the one before. The caller reports events when they
    happen; then, before it sleeps until `next_deadline`, it calls `fire_timers` and `take`. The first tick of every
    interval is its `offset` after the `now` of the constructor. Raises KeyError for a reflex of an unknown sense.

    A sense with something pending is in at most one queue: in none while it runs (the end of its run queues it), in
    `_deferred` until its throttle and its back-off are over, then in `_ready`. `take` moves it from there to the
    `waiting` of its group if that is busy, and the end of a run moves the first of these back. So each trigger, start
    and end costs O(log n), and a sense that can't start is not looked at again until something has changed.
    """

    def __init__(self, senses: Iterable[SenseRule], reflexes: Iterable[Reflex], now: float) -> None:
        self._senses: dict[str, _Sense] = {}
        self._removed: dict[str, _Sense] = {}
        """Senses that are no longer configured, until their run has ended."""
        self._arrivals = count()
        self._halted = False
        self._reset()
        self.replace(senses, reflexes, now)

    def _reset(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._listeners: dict[str, list[tuple[_Sense, str]]] = {}
        self._timers = Timers()
        self._deferred: list[_Turn] = []
        self._ready: list[_Turn] = []

    def replace(self, senses: Iterable[SenseRule], reflexes: Iterable[Reflex], now: float) -> tuple[int, ...]:
        """Replace the rules; the state of all that is the same in both is kept.

        An unchanged reflex keeps its ticks, the ticks of a new or changed one begin at `now`. A sense keeps its run,
        its pending start, and the start from which its throttle counts. A removed sense finishes its run, and its
        pending start is dropped: returns the tickets of these. A halted schedule ignores the call.
        """
        if self._halted:
            return ()
        known = self._removed | self._senses
        timers = {(t.sense, t.reflex, t.interval.interval): t for sense in known.values() for t in sense.timers}
        self._reset()
        self._senses = {rule.name: self._ruled(known.pop(rule.name, None), rule) for rule in senses}
        for reflex in reflexes:
            self._add_reflex(reflex, now, timers)
        tickets = [ticket for sense in known.values() for ticket in _drop_pending(sense)]
        self._removed = {name: self._ruled(sense, sense.rule) for name, sense in known.items() if sense.running}
        for sense in self._senses.values():
            if sense.pending is not None and not sense.running:
                self._queue(sense, now)
        return tuple(tickets)

    def _ruled(self, sense: _Sense | None, rule: SenseRule) -> _Sense:
        """Put a sense, known or new, under a rule; its reflexes must be added again."""
        sense = sense or _Sense(rule)
        sense.rule, sense.timers = rule, []
        sense.throttled_until = -math.inf if rule.throttle is None else throttle_end(sense.started, rule.throttle)
        sense.group = None if rule.group is None else self._groups.setdefault(rule.group, _Group())
        if sense.group is not None:
            sense.group.running += sense.running
        return sense

    def _add_reflex(self, reflex: Reflex, now: float, known: Mapping[tuple[str, str, float], Timer]) -> None:
        sense = self._senses[reflex.sense]
        if reflex.interval is not None:
            timer = known.get((reflex.sense, reflex.name, reflex.interval))
            timer = timer or Timer(reflex.sense, reflex.name, Interval(now + reflex.offset, reflex.interval))
            sense.timers.append(timer)
            self._timers.add(timer)
        for source in dict.fromkeys(reflex.on):
            self._listeners.setdefault(source, []).append((sense, reflex.name))

    def fire_timers(self, now: float) -> None:
        """Turn the intervals that are due into triggers, one each, and end the deferrals that are over."""
        for sense, reflex, due, skipped in self._timers.pop_due(now):
            start = Start(sense=sense, kind="interval", reflex=reflex, skipped=skipped, due=due)
            self._trigger(self._senses[sense], start, now)
        self._end_deferrals(now)

    def signalled(self, signal: Signal, now: float) -> None:
        """Fire the reflexes that are `on` the sense that signalled."""
        if self._halted:
            return
        for sense, reflex in self._listeners.get(signal.sense, ()):
            start = Start(sense=sense.rule.name, kind="signal", reflex=reflex, signal=signal, due=now)
            self._trigger(sense, start, now)

    def triggered(self, sense: str, now: float, *, signal: Signal | None = None, ticket: int | None = None) -> bool:
        """Trigger a sense by hand; the start that answers it will have the ticket.

        Returns False if there will be no start, because the schedule is halted. Raises KeyError for an unknown sense.
        """
        found = self._senses[sense]
        if self._halted:
            return False
        tickets = () if ticket is None else (ticket,)
        self._trigger(found, Start(sense=sense, kind="manual", signal=signal, due=now, tickets=tickets), now)
        return True

    def finished(self, sense: str, now: float, *, died: bool) -> float:
        """Note the end of a sense's run, and whether its worker died; return the back-off that follows, in seconds.

        Raises KeyError for an unknown sense, ValueError for one that isn't running.
        """
        found = self._removed.pop(sense, None) or self._senses[sense]
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
        """Drop all pending starts, ignore all further triggers, and return the tickets of the dropped starts.

        Current runs may still finish. Halting twice does nothing.
        """
        self._halted = True
        tickets: list[int] = []
        for sense in self._senses.values():
            tickets += _drop_pending(sense)
            sense.timers.clear()
        for group in self._groups.values():
            group.waiting.clear()
        self._timers.clear()
        self._deferred.clear()
        self._ready.clear()
        return tuple(tickets)

    def take(self, now: float, reserve: Callable[[Start], Slot | None]) -> list[tuple[Start, Slot]]:
        """Decide which senses start now, first due first, each with the slot that `reserve` returned for it.

        Stops at the first start for which there is no slot. From then on these senses count as running.
        """
        self._end_deferrals(now)
        starts: list[tuple[Start, Slot]] = []
        while self._ready:
            sense = self._ready[0][2]
            if sense.group is not None and sense.group.running:
                heappush(sense.group.waiting, heappop(self._ready))
                continue
            start = _pending(sense)
            slot = reserve(start)
            if slot is None:
                break  # nobody passes the first in line
            heappop(self._ready)
            self._start(sense, now)
            starts.append((start, slot))
        return starts

    def next_deadline(self) -> float | None:
        """Return when time alone changes something next: a tick, or the end of a throttle or a back-off.

        None if only an event from outside can. After `fire_timers(now)` it is later than `now`: a sense that lacks
        nothing but a worker, or the end of a run of its group, waits for that event.
        """
        tick = self._timers.next_deadline()
        if not self._deferred:
            return tick
        deferral = self._deferred[0][0]
        return deferral if tick is None else min(tick, deferral)

    def state(self, sense: str, now: float) -> SenseState:
        """Return the state of a sense; `pending` means that it waits for a worker, or for its group."""
        found = self._senses[sense]
        if found.running:
            return "running"
        if now < found.backoff_until:
            return "backoff"
        if found.pending is None:
            return "idle"
        return "throttled" if now < found.throttled_until else "pending"

    def due(self, sense: str) -> float | None:
        """Return the earliest moment at which a sense may start next, as far as is known; past if it is waiting."""
        found = self._senses[sense]
        dues = [timer.due for timer in found.timers]
        if found.pending is not None:
            dues.append(found.pending.due)
        return max(min(dues), found.not_before) if dues else None

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
        heappush(self._ready, (_pending(sense).due, sense.arrival, sense))

    def _start(self, sense: _Sense, now: float) -> None:
        sense.pending, sense.running, sense.started = None, True, now
        if sense.rule.throttle is not None:
            sense.throttled_until = throttle_end(now, sense.rule.throttle)
        if sense.group is not None:
            sense.group.running += 1

    def _free(self, group: _Group) -> None:
        group.running -= 1
        if group.waiting and not group.running:
            heappush(self._ready, heappop(group.waiting))


def _pending(sense: _Sense) -> Start:
    assert sense.pending is not None, "only a sense with something pending is queued"
    return sense.pending


def _drop_pending(sense: _Sense) -> tuple[int, ...]:
    """Drop what a sense has pending, and return its tickets."""
    pending, sense.pending = sense.pending, None
    return pending.tickets if pending else ()
