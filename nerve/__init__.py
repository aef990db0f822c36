"""Nerve: an observation engine. Senses observe, reflexes decide when, and everything that happens is in the log."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nerve.version import __version__

if TYPE_CHECKING:
    from nerve.errors import StoreError
    from nerve.events.model import Log
    from nerve.events.trigger import Signal, Trigger
    from nerve.runtime.context import SenseContext
    from nerve.store import iter_logs, query_logs

_HOMES = {
    "Log": "nerve.events.model",
    "SenseContext": "nerve.runtime.context",
    "Signal": "nerve.events.trigger",
    "Trigger": "nerve.events.trigger",
    "StoreError": "nerve.errors",
    "iter_logs": "nerve.store",
    "query_logs": "nerve.store",
}

__all__ = ["Log", "SenseContext", "Signal", "StoreError", "Trigger", "__version__", "iter_logs", "query_logs"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `nerve --help` needs no database, and a sense no command line."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nerve' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
