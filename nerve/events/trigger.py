"""Why a run happens: the Signal that a sense emitted, and the Trigger that a run carries."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

TriggerKind = Literal["interval", "signal", "manual"]

MANUAL = "(manual)"
"""The `sense` of a signal that a person sent with `nerve trigger --payload`: no sense can have this name."""


class Signal(msgspec.Struct, frozen=True):
    """What a sense emitted by returning something other than None.

    `payload` is the value itself inside a sense. In the kernel, which never looks inside, it is JSON text.
    `ts` is unix ms. `run_id` is the run that emitted it, or None for a signal sent by hand.
    """

    sense: str
    payload: Any
    run_id: str | None
    ts: int


class Trigger(msgspec.Struct, frozen=True):
    """What made a run start.

    `reflex` is None for a run started by hand. `coalesced` counts the further triggers that this run
    answers too. `scheduled_ts` is the moment it was due, in unix ms.
    """

    kind: TriggerKind
    reflex: str | None
    signal: Signal | None
    coalesced: int
    scheduled_ts: int
