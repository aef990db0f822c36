"""loguru with `enqueue=True`: all processes log through its queue into one text file, which is not synced.

`python -m bench.peers.loguru_file PROCESSES RECORDS` prints records a second, until the last one is in the file.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

from loguru import logger

FILE = Path("records.log")
_fork = multiprocessing.get_context("fork")


def log(count: int, barrier: Barrier) -> None:
    """Log this number of records (child)."""
    barrier.wait()
    for n in range(count):
        logger.info("n={} value={} unit={}", n, 0.5, "percent")
    logger.complete()


def main(processes: str, count: str) -> None:
    """Log on all processes at once, and print the rate."""
    logger.remove()
    logger.add(FILE, enqueue=True, format="{time} | {level} | {message}", context=_fork)
    barrier = _fork.Barrier(int(processes) + 1)
    share = int(count) // int(processes)
    children = [_fork.Process(target=log, args=(share, barrier)) for _ in range(int(processes))]
    for child in children:
        child.start()
    barrier.wait()
    began = time.monotonic()
    for child in children:
        child.join()
    logger.complete()
    seconds = time.monotonic() - began
    logger.remove()
    with FILE.open() as file:
        lines = sum(1 for _ in file)
    if lines != share * len(children):
        raise RuntimeError(f"{lines} of {share * len(children)} records are in the file")
    sys.stdout.write(str(lines / seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
