"""Huey: `python -m bench.peers.huey_driver WORKERS TASKS` prints tasks per second, up to the last result."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from huey.api import Result

from bench.peers.huey_tasks import nothing

RESULT_SECONDS = 120.0
POLL_SECONDS = 0.005


@contextmanager
def consumer(workers: str) -> Iterator[None]:
    """Run a consumer with process workers that poll as often as huey allows, without its periodic scheduler."""
    options = ["-w", workers, "-k", "process", "-n", "-d", "0.01", "-m", "0.01", "-q"]
    command = [sys.executable, "-m", "huey.bin.huey_consumer", "bench.peers.huey_tasks.huey", *options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_for(result: Result) -> None:
    """Wait for a result, polling often."""
    result.get(blocking=True, timeout=RESULT_SECONDS, backoff=1.0, max_delay=POLL_SECONDS)


def main(workers: str, tasks: str) -> None:
    """Enqueue all tasks, wait for all results, and print the rate."""
    with consumer(workers):
        wait_for(nothing())  # until the workers are up
        began = time.monotonic()
        results = [nothing() for _ in range(int(tasks))]
        for result in results:
            wait_for(result)
        seconds = time.monotonic() - began
    sys.stdout.write(str(len(results) / seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
