"""The input and the output of the schedule: the rules of senses and reflexes, and the start of a run."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import msgspec

from nerve.events.trigger import Signal, TriggerKind


@dataclass(frozen=True, slots=True)
class SenseRule:
    """What restricts a sense: its exclusive group, and `throttle`, the least seconds between two of its starts.

    It is the part of a SenseConfig that the schedule needs.
    """

    name: str
    group: str | None = None
    throttle: float | None = None


@dataclass(frozen=True, slots=True)
class Reflex:
    """When a sense runs: every `interval` seconds, and whenever a sense of `on` has signalled.

    It is a ReflexConfig with an `offset`: the seconds from the moment it becomes active to its first tick.
    """

    name: str
    sense: str
    _: KW_ONLY
    interval: float | None = None
    on: tuple[str, ...] = ()
    offset: float = 0.0


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """The decision to start a sense now; until then, it is what the sense has pending.

    It answers one or more triggers. `due` is the moment of the first one, in monotonic seconds, `coalesced` the number
    of the others. `signal` is the latest signal among them; `kind` and `reflex` are those of the trigger that brought
    it, or of the first one. `skipped` counts the ticks that were missed altogether. `tickets` identify the triggers
    by hand whose run a command waits for.
    """

    sense: str
    kind: TriggerKind
    reflex: str | None = None
    signal: Signal | None = None
    coalesced: int = 0
    skipped: int = 0
    due: float
    tickets: tuple[int, ...] = ()


def coalesce(pending: Start, further: Start) -> Start:
    """Return the one start that answers both: due when the first was, with the later signal if it has one."""
    bearer = pending if further.signal is None else further
    return Start(
        sense=pending.sense,
        kind=bearer.kind,
        reflex=bearer.reflex,
        signal=bearer.signal,
        coalesced=pending.coalesced + 1 + further.coalesced,
        skipped=pending.skipped + further.skipped,
        due=pending.due,
        tickets=pending.tickets + further.tickets,
    )
