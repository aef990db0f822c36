"""An interrupter for the process that runs the tests."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from nerve.runtime.interruption import Interrupter


@contextmanager
def installed_interrupter() -> Iterator[Interrupter]:
    """Give an interrupter that has taken over the signals; afterwards all goes back to whoever had it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGUSR1)}
    hook = sys.unraisablehook
    interrupter = Interrupter()
    interrupter.install()
    try:
        yield interrupter
    finally:
        sys.unraisablehook = hook
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
