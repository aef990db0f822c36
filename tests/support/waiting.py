"""Waiting for a condition with a deadline, and never for a fixed time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def pause(seconds: float) -> None:
    """Let time pass that is part of the scenario, such as the moment of a kill; never to wait for something."""
    threading.Event().wait(seconds)


def wait_until(condition: Callable[[], T], what: str, timeout: float = 15.0) -> T:
    """Call `condition` until its result is true, and return that; raise AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise AssertionError(f"timed out after {timeout:g} s, waiting until {what}; last result: {result!r}")
        pause.wait(0.01)
