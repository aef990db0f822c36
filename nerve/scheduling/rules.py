"""What the schedule goes by and what it decides: the rules of senses and reflexes, and the start of a run."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from nerve.events.trigger import Signal, TriggerKind


@dataclass(frozen=True, slots=True)
class SenseRule:
    """What restrains a sense: its exclusive group, and `throttle`, the least seconds between two of its starts."""

    name: str
    group: str | None = None
    throttle: float | None = None


@dataclass(frozen=True, slots=True)
class Reflex:
    """When a sense runs: every `interval` seconds, and whenever a sense of `on` has signalled.

    The first beat of the interval is `offset` seconds after the reflex came into force.
    """

    name: str
    sense: str
    interval: float | None = None
    on: tuple[str, ...] = ()
    offset: float = 0.0


class Start(msgspec.Struct, frozen=True):
    """A decision: this sense runs now; and, until it is taken, what is pending for the sense.

    `due` is the moment of the first trigger that it answers, in monotonic seconds. `coalesced` counts the
    further triggers that it answers too, `skipped` the beats that were missed altogether, and `tickets` are
    those of the hands that triggered it. `signal` is the latest one; `kind` and `reflex` tell what brought it.
    """

    sense: str
    kind: TriggerKind
    reflex: str | None
    signal: Signal | None
    coalesced: int
    skipped: int
    due: float
    tickets: tuple[int, ...]


def coalesce(pending: Start, further: Start) -> Start:
    """Let one run answer both: it stays due when the first was, and takes the signal of the further if it has one."""
    bearer = pending if further.signal is None else further
    return Start(
        pending.sense,
        bearer.kind,
        bearer.reflex,
        bearer.signal,
        pending.coalesced + 1 + further.coalesced,
        pending.skipped + further.skipped,
        pending.due,
        pending.tickets + further.tickets,
    )
