"""The scheduling rules hold for every history of ticks, signals, triggers by hand, starts, ends, pauses and changes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.scheduling import take

from nerve.events.trigger import Signal, TriggerKind
from nerve.scheduling.backoff import throttle_end
from nerve.scheduling.rules import Reflex, SenseRule, Start
from nerve.scheduling.schedule import Schedule

NAMES = ("a", "b", "c", "d")
BACKOFFS = (0, 0, 1, 2, 4, 8, 16, 32, 60)
AGES = 100.0
"""Longer than every throttle and back-off, in seconds."""

senses = st.sampled_from(NAMES)
throttles = st.sampled_from((None, 0.1, 0.3, 1 / 3, 5.0))
intervals = st.sampled_from((0.1, 0.7, 1.0, 10.0))
pauses = st.one_of(st.sampled_from((0.0, 0.1, 0.3, 1 / 3, 0.7, 1.0, 5.0, 61.0)), st.floats(0, 3))


@st.composite
def sense_rules(draw: st.DrawFn) -> list[SenseRule]:
    """Draw the rules of all senses."""
    groups = st.sampled_from((None, "g"))
    return [SenseRule(name, draw(groups), draw(throttles)) for name in NAMES]


@st.composite
def rule_sets(draw: st.DrawFn) -> tuple[list[SenseRule], list[Reflex]]:
    """Draw the rules of some senses, and reflexes of these."""
    rules = draw(sense_rules())
    kept = draw(st.permutations([rule for rule in rules if draw(st.integers(0, 3))]))
    known = {rule.name for rule in kept}
    return kept, [reflex for reflex in draw(reflex_lists()) if reflex.sense in known]


@st.composite
def reflex_lists(draw: st.DrawFn) -> list[Reflex]:
    """Draw reflexes with an interval, with `on`, and with both; often several of one sense."""
    ons = st.lists(senses, max_size=2).map(tuple)
    drawn = draw(st.lists(st.tuples(senses, st.none() | intervals, ons), max_size=5))
    return [Reflex(f"r{i}", sense, interval=interval, on=on) for i, (sense, interval, on) in enumerate(drawn)]


@dataclass(frozen=True)
class Delivered:
    """A trigger that the schedule was given, or that it had to make of a tick."""

    kind: TriggerKind
    reflex: str | None
    signal: Signal | None
    due: float
    rank: int
    skipped: int = 0
    ticket: int | None = None


@dataclass
class Counted:
    """The ticks of an interval, counted one by one: the moment of the first, and how many have come."""

    first: float
    interval: float
    seen: int = 0

    @property
    def next(self) -> float:
        """The moment of the next tick."""
        return self.first + self.seen * self.interval

    def coming(self, now: float) -> list[float]:
        """Count and return the ticks that have come since the last call."""
        last = self.seen + int((now - self.first) / self.interval) + 2
        moments = (self.first + k * self.interval for k in range(self.seen, last))
        come = [moment for moment in moments if moment <= now]
        self.seen += len(come)
        return come


Key = tuple[str, str, float]
"""What identifies an interval: its sense, its reflex and its length."""


@dataclass
class Model:
    """What must be true of one sense, written without any queue."""

    rule: SenseRule
    waiting: list[Delivered] = field(default_factory=list)
    running: bool = False
    started: float = -math.inf
    backoff_until: float = -math.inf
    deaths: int = 0

    @property
    def place(self) -> tuple[float, int]:
        """Its place in the order of service."""
        return self.waiting[0].due, self.waiting[0].rank

    @property
    def throttled_until(self) -> float:
        """The end of its throttle."""
        return -math.inf if self.rule.throttle is None else throttle_end(self.started, self.rule.throttle)

    @property
    def free_from(self) -> float:
        """The moment from which neither throttle nor back-off forbids a start."""
        return max(self.throttled_until, self.backoff_until)

    def state(self, now: float) -> str:
        """Return the state that `nerve status` must show."""
        if self.running:
            return "running"
        if now < self.backoff_until:
            return "backoff"
        if not self.waiting:
            return "idle"
        return "throttled" if now < self.throttled_until else "pending"

    def expected(self) -> Start | None:
        """Return the one start that answers all waiting triggers."""
        if not self.waiting:
            return None
        first = self.waiting[0]
        bearer = next((trigger for trigger in reversed(self.waiting) if trigger.signal), first)
        return Start(
            sense=self.rule.name,
            kind=bearer.kind,
            reflex=bearer.reflex,
            signal=bearer.signal,
            coalesced=len(self.waiting) - 1,
            skipped=sum(trigger.skipped for trigger in self.waiting),
            due=first.due,
            tickets=tuple(trigger.ticket for trigger in self.waiting if trigger.ticket is not None),
        )


class AnyHistory(RuleBasedStateMachine):
    """Any history, step by step, against the model."""

    @initialize(rules=sense_rules(), reflexes=reflex_lists(), now=st.sampled_from((0.0, 0.3, 12345.678, 1e6 + 0.1)))
    def begin(self, rules: list[SenseRule], reflexes: list[Reflex], now: float) -> None:
        """Start the engine."""
        self.now = now
        self.schedule = Schedule(rules, reflexes, now)
        self.models = {rule.name: Model(rule) for rule in rules}
        self.removed: dict[str, Model] = {}
        self.counted: dict[Key, Counted] = {}
        self.listen(reflexes)
        self.ranks, self.serials = count(), count()
        self.issued: list[int] = []
        self.answered: list[int] = []

    def listen(self, reflexes: list[Reflex]) -> None:
        """Use other reflexes: unchanged intervals go on, all others begin now."""
        self.reflexes = reflexes
        keys = [(r.sense, r.name, r.interval) for r in reflexes if r.interval is not None]
        self.counted = {key: self.counted.get(key) or Counted(self.now, key[2]) for key in keys}

    @rule(drawn=rule_sets())
    def replace(self, drawn: tuple[list[SenseRule], list[Reflex]]) -> None:
        """Replace the rules: senses are added, changed and removed, whatever their state."""
        self.use(*drawn)

    @rule(data=st.data())
    def replace_a_little(self, data: st.DataObject) -> None:
        """Remove one reflex or none: all others keep their ticks."""
        changed = list(self.reflexes)
        if changed:
            at = data.draw(st.integers(0, len(changed) - 1))
            del changed[at]
        self.use([model.rule for model in self.models.values()], changed)

    def use(self, rules: list[SenseRule], reflexes: list[Reflex]) -> None:
        """Replace the rules, and check that the tickets of the removed senses' triggers are returned."""
        tickets = self.schedule.replace(rules, reflexes, self.now)
        known = self.removed | self.models
        self.models = {rule.name: known.pop(rule.name, None) or Model(rule) for rule in rules}
        for changed in rules:
            self.models[changed.name].rule = changed
        back = [trigger.ticket for model in known.values() for trigger in model.waiting if trigger.ticket is not None]
        assert Counter(tickets) == Counter(back)
        self.answered += tickets
        for model in known.values():
            model.waiting.clear()
        self.removed = {name: model for name, model in known.items() if model.running}
        self.listen(reflexes)

    @property
    def running(self) -> list[Model]:
        """All senses that run, including removed ones."""
        return [model for model in (*self.models.values(), *self.removed.values()) if model.running]

    @rule(seconds=pauses)
    def time_passes(self, seconds: float) -> None:
        """Nothing happens for a while, or for no time at all."""
        self.now += seconds

    @rule()
    def fire_timers(self) -> None:
        """The loop handles the intervals: each that is due is one trigger, for the last of its ticks."""
        self.schedule.fire_timers(self.now)
        come = []
        for reflex in self.reflexes:
            dues = self.coming(reflex)
            if dues:
                come.append((dues[-1], reflex, len(dues) - 1))
        for due, reflex, skipped in sorted(come, key=lambda tick: tick[0]):
            self.deliver(reflex.sense, "interval", reflex.name, None, due, skipped=skipped)

    @rule(source=senses)
    def signal(self, source: str) -> None:
        """A sense signals, which may be a removed one."""
        signal = Signal(source, "1", f"{source}/{next(self.serials)}", 0)
        self.schedule.signalled(signal, self.now)
        for reflex in self.reflexes:
            if source in reflex.on:
                self.deliver(reflex.sense, "signal", reflex.name, signal, self.now)

    @rule(sense=senses, with_signal=st.booleans(), with_ticket=st.booleans())
    def trigger_by_hand(self, sense: str, *, with_signal: bool, with_ticket: bool) -> None:
        """Somebody triggers a sense, and may wait for the run."""
        if sense not in self.models:
            return
        serial = next(self.serials)
        signal = Signal("(manual)", "1", None, serial) if with_signal else None
        ticket = serial if with_ticket else None
        self.issued += [serial] if with_ticket else []
        assert self.schedule.triggered(sense, self.now, signal=signal, ticket=ticket)
        self.deliver(sense, "manual", None, signal, self.now, ticket=ticket)

    @rule(free=st.integers(0, len(NAMES)))
    def take(self, free: int) -> None:
        """Slots are free: exactly the starts that are allowed take them, in the order of service."""
        starts = take(self.schedule, self.now, free)
        assert len(starts) <= free
        for start in starts:
            self.check_start(start)
        if len(starts) < free:
            assert self.startable() == []

    @precondition(lambda self: self.running)
    @rule(data=st.data(), died=st.booleans())
    def finish(self, data: st.DataObject, *, died: bool) -> None:
        """A run ends, well or with its worker."""
        self.end(data.draw(st.sampled_from(self.running)), died=died)

    @rule(died=st.booleans())
    def finish_all(self, *, died: bool) -> None:
        """All runs end, so that the same senses soon run again, into their throttles and back-offs."""
        for model in self.running:
            self.end(model, died=died)

    @rule(free=st.integers(0, len(NAMES)))
    def sleep_until_the_deadline(self, free: int) -> None:
        """The loop sleeps until the deadline: before that nothing could start, and at it everything does."""
        self.fire_timers()
        self.take(free)
        deadline = self.schedule.next_deadline()
        moments = [counted.next for counted in self.counted.values()]
        held = [model.free_from for model in self.models.values() if model.waiting and not model.running]
        moments += [moment for moment in held if moment > self.now]
        assert deadline == min(moments, default=None)
        if deadline is not None:
            assert deadline > self.now
            self.now = deadline
            self.fire_timers()
            self.take(len(NAMES))

    @invariant()
    def states_and_due_moments_are_right(self) -> None:
        """`nerve status` shows of each sense what the model says; a moment that has passed may be any."""
        for name, model in getattr(self, "models", {}).items():
            assert self.schedule.state(name, self.now) == model.state(self.now)
            dues = [counted.next for key, counted in self.counted.items() if key[0] == name]
            dues += [model.waiting[0].due] if model.waiting else []
            due = self.schedule.due(name)
            assert (due is None) == (not dues)
            if due is not None:
                assert max(due, self.now) == max(min(dues), model.free_from, self.now)

    def teardown(self) -> None:
        """In the end every trigger is answered by a start, and every ticket is in exactly one start, or returned."""
        if not hasattr(self, "schedule"):
            return
        for _ in NAMES:  # of one group only one starts at a time
            self.finish_all(died=False)
            self.now += AGES
            self.take(len(NAMES))
        assert not any(model.waiting for model in self.models.values() if not model.running)
        assert Counter(self.answered) + Counter(self.schedule.halt()) == Counter(self.issued)

    def coming(self, reflex: Reflex) -> list[float]:
        """Count the ticks of a reflex that have come since the last call."""
        if reflex.interval is None:
            return []
        return self.counted[reflex.sense, reflex.name, reflex.interval].coming(self.now)

    def deliver(
        self,
        sense: str,
        kind: TriggerKind,
        reflex: str | None,
        signal: Signal | None,
        due: float,
        *,
        skipped: int = 0,
        ticket: int | None = None,
    ) -> None:
        """Note a trigger that the schedule was given."""
        trigger = Delivered(kind, reflex, signal, due, next(self.ranks), skipped, ticket)
        self.models[sense].waiting.append(trigger)

    def end(self, model: Model, *, died: bool) -> None:
        """End a run, and check the back-off that follows."""
        model.running = False
        model.deaths = model.deaths + 1 if died else 0
        seconds = BACKOFFS[min(model.deaths, len(BACKOFFS) - 1)]
        model.backoff_until = self.now + seconds if seconds else -math.inf
        assert self.schedule.finished(model.rule.name, self.now, died=died) == seconds
        self.removed.pop(model.rule.name, None)

    def startable(self) -> list[Model]:
        """Return the senses that may start now, if there is a slot."""
        busy = {model.rule.group for model in self.running} - {None}
        return [
            model
            for model in self.models.values()
            if model.waiting and not model.running and model.rule.group not in busy
            if self.now >= model.free_from
        ]

    def check_start(self, start: Start) -> None:
        """A start must be allowed, be the first in the order of service, and answer all waiting triggers."""
        model = self.models[start.sense]
        startable = self.startable()
        assert model in startable
        assert model.place == min(other.place for other in startable)
        assert self.now - model.started >= (model.rule.throttle or 0.0)
        assert start == model.expected()
        self.answered += start.tickets
        model.waiting.clear()
        model.running, model.started = True, self.now


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.sampled_from((None, "g", "h")), min_size=2, max_size=6),
    workers=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 3), min_size=1, max_size=7),
    impatient=st.lists(st.integers(0, 5), max_size=3),
)
def test_no_sense_starves(groups: list[str | None], workers: int, lengths: list[int], impatient: list[int]) -> None:
    """However many triggers others get, each sense starts after at most one run of every other sense.

    In each round all senses are triggered, the impatient ones first. A run takes up to 3 rounds.
    """
    rules = [SenseRule(f"s{i}", group) for i, group in enumerate(groups)]
    names = [rules[i].name for i in impatient if i < len(rules)] + [rule.name for rule in rules]
    schedule = Schedule(rules, [], now=0.0)
    ends: dict[str, int] = {}
    waiting_since: dict[str, int] = {}
    runs = 0
    bound = len(rules) * (max(lengths) + 1)
    for now in range(3 * bound):
        for sense in [sense for sense, end in ends.items() if end <= now]:
            del ends[sense]
            schedule.finished(sense, now, died=False)
        for name in names:
            schedule.triggered(name, now)
            waiting_since.setdefault(name, now)
        for start in take(schedule, now, workers - len(ends)):
            ends[start.sense] = now + lengths[runs % len(lengths)]
            assert start.due == waiting_since.pop(start.sense)
            runs += 1
        assert all(now - since <= bound for since in waiting_since.values())
