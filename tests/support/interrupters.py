"""An interrupter for the process of the tests."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from nerve.runtime.interruption import Interrupter


@contextmanager
def installed_interrupter() -> Iterator[Interrupter]:
    """Yield an interrupter that handles the signals of this process; restore the previous handlers afterwards."""
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
