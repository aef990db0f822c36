"""Two configurations compared: what changes from one to the other, in one short sentence each; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from nerve.config.config import Config
from nerve.units import format_duration, format_size

_SIZES = frozenset({"max_payload", "max_rss", "max_size"})


def changes(old: Config, new: Config, pinned_workers: int | None = None) -> tuple[str, ...]:
    """Tell what is different in `new`, in the order of the file: `sense cpu: throttle none -> 5s`.

    `pinned_workers` is their number where that is not the configuration's to say.
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
    """Compare two dataclasses of the same kind, field by field."""
    for field in fields(new):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after and field.name not in leave_out:
            yield f"{field.name} {_shown(field.name, before)} -> {_shown(field.name, after)}"


def _shown(name: str, value: object) -> str:
    match value:
        case None | ():
            return "none"
        case float():
            return format_duration(value)
        case int() if name in _SIZES:
            return format_size(value)
        case tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)
