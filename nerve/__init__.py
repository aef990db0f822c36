"""Nerve: an observation engine. Senses observe, reflexes decide when, and everything that happens is in the log."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nerve.version import __version__

if TYPE_CHECKING:
    from nerve.events.model import Log
    from nerve.events.trigger import Signal, Trigger
    from nerve.runtime.context import SenseContext
    from nerve.store.query import query_logs

_HOMES = {
    "Log": "nerve.events.model",
    "SenseContext": "nerve.runtime.context",
    "Signal": "nerve.events.trigger",
    "Trigger": "nerve.events.trigger",
    "query_logs": "nerve.store.query",
}

__all__ = ["Log", "SenseContext", "Signal", "Trigger", "__version__", "query_logs"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `nerve --help` needs no database, and a sense no command line."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nerve' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
