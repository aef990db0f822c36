"""Why a run happens: the Signal that a sense emitted, and the Trigger that a run has."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

TriggerKind = Literal["interval", "signal", "manual"]

MANUAL = "(manual)"
"""The `sense` of a signal that a person sent with `nerve trigger --payload`: no sense can have this name."""


class Signal(msgspec.Struct, frozen=True):
    """What a sense emitted by returning something other than None.

    Attributes:
        sense: The sense that emitted it; `(manual)` for a signal that a person sent.
        payload: What the sense returned. (Between the processes of an engine it is JSON text.)
        run_id: The run that emitted it; None for a signal that a person sent.
        ts: When it was emitted, in unix ms.

    Example:
        >>> from nerve.testing import run
        >>> signal = Signal("disk", {"used": 0.93}, "disk/0199", 1_700_000_000_000)
        >>> run(lambda ctx: f"{ctx.signal.sense} is full", signal=signal).signal
        'disk is full'
    """

    sense: str
    payload: Any
    run_id: str | None
    ts: int


class Trigger(msgspec.Struct, frozen=True):
    """Why a run was started.

    Attributes:
        kind: `interval`, `signal` or `manual`.
        reflex: The name of the reflex that started the run; None for a manual run.
        signal: The signal that started it; None for an interval, and for a manual run without a payload.
        coalesced: How many more triggers this run answers, which came while the sense was busy or throttled.
        scheduled_ts: When the run was due, in unix ms.

    Example:
        >>> from nerve.testing import run
        >>> trigger = Trigger("interval", "disk-every-10s", None, 2, 1_700_000_000_000)
        >>> run(lambda ctx: 1 + ctx.trigger.coalesced, trigger=trigger).signal
        3
    """

    kind: TriggerKind
    reflex: str | None
    signal: Signal | None
    coalesced: int
    scheduled_ts: int
