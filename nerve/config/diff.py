"""The differences between two configurations, each as one short sentence; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from nerve.config.config import Config
from nerve.config.keys import show_value


def changes(old: Config, new: Config, pinned_workers: int | None = None) -> tuple[str, ...]:
    """Return what is different in `new`, in the order of the file: `sense cpu: throttle none -> 5s`.

    `pinned_workers` is the number of workers if the configuration doesn't decide it.
    """
    top = _between(old, new, leave_out=("senses", "reflexes", "logs"))
    note = f" (stays {pinned_workers}: --workers or $NERVE_WORKERS wins)"
    return (
        *(f"{change}{note}" if pinned_workers and change.startswith("workers ") else change for change in top),
        *_entries("sense", old.senses, new.senses),
        *_entries("reflex", {r.name: r for r in old.reflexes}, {r.name: r for r in new.reflexes}),
        *(f"logs.{change}" for change in _between(old.logs, new.logs)),
    )


def _entries(noun: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{noun} {name}: removed" for name in old if name not in new)
    for name, entry in new.items():
        if name not in old:
            yield f"{noun} {name}: added"
        else:
            yield from (f"{noun} {name}: {change}" for change in _between(old[name], entry))


def _between(old: Any, new: Any, leave_out: tuple[str, ...] = ()) -> Iterator[str]:
    """Compare two instances of one configuration class, field by field."""
    for field in fields(new):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after and field.name not in leave_out:
            yield f"{field.name} {show_value(field, before)} -> {show_value(field, after)}"
