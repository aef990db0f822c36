"""Nerve: an observation engine. Senses observe, reflexes decide when they run, and everything is in the log."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nerve.version import __version__ as __version__

if TYPE_CHECKING:
    from nerve.errors import StoreError as StoreError
    from nerve.events.model import Log as Log
    from nerve.events.trigger import Signal as Signal
    from nerve.events.trigger import Trigger as Trigger
    from nerve.runtime.context import SenseContext as SenseContext
    from nerve.store.query import iter_logs as iter_logs
    from nerve.store.query import query_logs as query_logs

_MODULES = {
    "Log": "nerve.events.model",
    "SenseContext": "nerve.runtime.context",
    "Signal": "nerve.events.trigger",
    "Trigger": "nerve.events.trigger",
    "StoreError": "nerve.errors",
    "iter_logs": "nerve.store.query",
    "query_logs": "nerve.store.query",
}

__all__ = ["__version__", *_MODULES]  # noqa: PLE0604 - the names above, not listed again


def __getattr__(name: str) -> Any:
    """Import a public name on first use: `nerve --help` needs no database, and a sense needs no command line."""
    if name not in _MODULES:
        raise AttributeError(f"module 'nerve' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
