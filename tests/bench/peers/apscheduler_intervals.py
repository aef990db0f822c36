"""APScheduler with interval jobs on its ProcessPoolExecutor: more than the machine can run, as with nerve's reflexes.

`python -m bench.peers.apscheduler_intervals PROCESSES JOBS INTERVAL SECONDS` prints jobs a second; nothing is logged.
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC

from apscheduler.events import EVENT_JOB_EXECUTED, JobExecutionEvent
from apscheduler.executors.pool import ProcessPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

WARM_UP_SECONDS = 1.5
RULES = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
"""The rules of a sense: a job never overlaps itself, missed intervals are one, and none is too late to count."""


def nothing() -> None:
    """Do nothing (child)."""


class Tally:
    """A count of the jobs that have ended."""

    def __init__(self) -> None:
        self.jobs = 0

    def ended(self, _event: JobExecutionEvent) -> None:
        """Count a job; only the executor's thread calls this."""
        self.jobs += 1


def main(processes: str, jobs: str, interval: str, seconds: str) -> None:
    """Run the jobs for a while, and print the rate."""
    logging.disable(logging.WARNING)  # it warns of each interval at which the job is still running
    tally = Tally()
    executors = {"default": ProcessPoolExecutor(int(processes))}
    scheduler = BackgroundScheduler(executors=executors, job_defaults=RULES, timezone=UTC)
    scheduler.add_listener(tally.ended, EVENT_JOB_EXECUTED)
    for _ in range(int(jobs)):
        scheduler.add_job(nothing, "interval", seconds=float(interval))
    scheduler.start()
    time.sleep(WARM_UP_SECONDS)
    before, began = tally.jobs, time.monotonic()
    time.sleep(float(seconds))
    rate = (tally.jobs - before) / (time.monotonic() - began)
    scheduler.shutdown()
    sys.stdout.write(str(rate))


if __name__ == "__main__":
    main(*sys.argv[1:])
