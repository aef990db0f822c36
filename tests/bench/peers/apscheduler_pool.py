"""APScheduler with its ProcessPoolExecutor: all jobs are due at once, and wait in memory; nothing is logged.

`python -m bench.peers.apscheduler_pool PROCESSES JOBS` prints jobs a second.
"""

from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, JobExecutionEvent
from apscheduler.executors.pool import ProcessPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

LONGEST_SECONDS = 120.0


def nothing() -> None:
    """Do nothing (child)."""


class Progress:
    """A count of the jobs that have ended, which any thread may increase."""

    def __init__(self, jobs: int) -> None:
        self._left = jobs
        self._lock = threading.Lock()
        self.done = threading.Event()
        self.failed = 0

    def ended(self, event: JobExecutionEvent) -> None:
        """Count a job."""
        with self._lock:
            self._left -= 1
            self.failed += event.code == EVENT_JOB_ERROR
            if self._left == 0:
                self.done.set()


def main(processes: str, jobs: str) -> None:
    """Run all jobs, and print the rate."""
    scheduler = BackgroundScheduler(executors={"default": ProcessPoolExecutor(int(processes))}, timezone=UTC)
    warm_up, progress = Progress(int(processes)), Progress(int(jobs))
    scheduler.start()
    _run(scheduler, warm_up, int(processes))  # the first jobs make it fork its processes
    seconds = _run(scheduler, progress, int(jobs))
    scheduler.shutdown()
    if progress.failed:
        raise RuntimeError(f"{progress.failed} jobs have failed")
    sys.stdout.write(str(int(jobs) / seconds))


def _run(scheduler: BackgroundScheduler, progress: Progress, jobs: int) -> float:
    """Add jobs while the scheduler is paused, then measure the time until the last of them has ended."""
    scheduler.add_listener(progress.ended, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
    scheduler.pause()
    now = datetime.now(UTC)
    for _ in range(jobs):
        scheduler.add_job(nothing, "date", run_date=now, misfire_grace_time=None)
    began = time.monotonic()
    scheduler.resume()
    if not progress.done.wait(LONGEST_SECONDS):
        raise TimeoutError(f"the jobs have not ended within {LONGEST_SECONDS:g} s")
    seconds = time.monotonic() - began
    scheduler.remove_listener(progress.ended)
    return seconds


if __name__ == "__main__":
    main(*sys.argv[1:])
