"""Senses, a reflex, and the calls that the loop makes to a schedule."""

from __future__ import annotations

from collections.abc import Callable

from nerve.events.trigger import Signal
from nerve.scheduling.rules import Reflex, SenseRule, Start
from nerve.scheduling.schedule import Schedule

A, B, C = SenseRule("a"), SenseRule("b"), SenseRule("c")
EVERY_SECOND = Reflex("a-every-1s", "a", interval=1.0)
MANY = 99


def signal(sense: str, payload: str = "1") -> Signal:
    """Make a signal that `sense` emitted."""
    return Signal(sense, payload, f"{sense}/0", 0)


def by_hand(sense: str, due: float, tickets: tuple[int, ...] = ()) -> Start:
    """Make the start that one trigger by hand leads to."""
    return Start(sense=sense, kind="manual", due=due, tickets=tickets)


def slots(free: int) -> Callable[[Start], int | None]:
    """Return a function that reserves `free` slots, one per call, for any start."""
    left = iter(range(1, free + 1))
    return lambda _start: next(left, None)


def take(schedule: Schedule, now: float, free: int = MANY) -> list[Start]:
    """Return the starts that a schedule decides on when there are `free` slots."""
    return [start for start, _slot in schedule.take(now, slots(free))]


def turn(schedule: Schedule, now: float, free: int = MANY) -> list[str]:
    """Do what the loop does when it wakes up, and return the senses that started."""
    schedule.fire_timers(now)
    return [start.sense for start in take(schedule, now, free)]


def run(schedule: Schedule, sense: str, now: float, *, died: bool = False) -> float:
    """Trigger, start and finish one run in no time, and return the back-off that follows."""
    schedule.triggered(sense, now)
    assert turn(schedule, now) == [sense]
    return schedule.finished(sense, now, died=died)
