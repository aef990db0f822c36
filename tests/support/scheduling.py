"""Senses, a reflex, and the steps that the loop takes with a schedule."""

from __future__ import annotations

from nerve.events.trigger import Signal
from nerve.scheduling.rules import Reflex, SenseRule, Start
from nerve.scheduling.schedule import Schedule
from nerve.scheduling.slots import Places

A, B, C = SenseRule("a"), SenseRule("b"), SenseRule("c")
EVERY_SECOND = Reflex("a-every-1s", "a", interval=1.0)
MANY = 99


def signal(sense: str, payload: str = "1") -> Signal:
    """Make a signal that `sense` emitted."""
    return Signal(sense, payload, f"{sense}/0", 0)


def by_hand(sense: str, due: float, tickets: tuple[int, ...] = ()) -> Start:
    """Make the start that one trigger by hand leads to."""
    return Start(sense, "manual", None, None, 0, 0, due, tickets)


def turn(schedule: Schedule, now: float, free: int = MANY) -> list[str]:
    """Do what the loop does on waking, and give the senses that started."""
    schedule.beat(now)
    return [start.sense for start in schedule.take(now, Places(free))]


def run(schedule: Schedule, sense: str, now: float, *, died: bool = False) -> float:
    """Trigger, start and finish one run in no time, and give the back-off that it leads to."""
    schedule.triggered(sense, now)
    assert turn(schedule, now) == [sense]
    return schedule.finished(sense, now, died=died)
