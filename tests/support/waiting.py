"""Waiting on a condition, with a deadline that raises: never for a fixed time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def pause(seconds: float) -> None:
    """Let time pass that is part of what is tested: the moment at which something is broken, never a wait for it."""
    threading.Event().wait(seconds)


def wait_until(condition: Callable[[], T], what: str, timeout: float = 15.0) -> T:
    """Call `condition` until it gives something true, and give that; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s in vain until {what}; last: {result!r}")
        pause.wait(0.01)
