"""A full disk and a stopped writer: all processes wait, and nothing is lost."""

from __future__ import annotations

import random
import time

from support.engine import Engine
from support.load import Load
from support.verdict import Verdict
from support.waiting import pause, wait_until

from torture.disks import MB, Disk, small_disk
from torture.memory import MemoryWatch
from torture.processes import finish
from torture.scenario import scenario
from torture.stalls import StallWatch

ROOM_BYTES = 3 * MB
"""Free space for the load before the disk is full for the first time."""

STILL_SECONDS = 0.3
"""Time without any acknowledgement after which all computes count as waiting."""

GROWTH_BOUND_MB = 40
"""Limit on the growth of a process that can't send its events."""

SLACK_SECONDS = 1.0


def problems(engine: Engine) -> str:
    """Return the problems in `nerve status`; an empty text if there are none."""
    return "; ".join(engine.status()["problems"])


def handed_over(load: Load) -> int:
    """Return the number of events for which `ctx.log` has returned."""
    return sum(note.stat().st_size for note in load.folder.iterdir()) // 8


def all_wait(load: Load) -> bool:
    """Return True if no compute has had an acknowledgement for a while."""
    before = handed_over(load)
    pause(STILL_SECONDS)
    return handed_over(load) == before


def outlast_an_outage(engine: Engine, load: Load, verdict: Verdict, disk: Disk, seconds: float) -> None:
    """Fill the disk (the load fills the rest), look at the engine meanwhile, and free it."""
    wait_until(lambda: "disk" in problems(engine), "`nerve status` says that the disk is full")
    wait_until(lambda: all_wait(load), "everybody waits")
    shown = engine.run("logs", "-n", "5", "--json")
    verdict.expect(len(shown.stdout.splitlines()) == 5, f"reading failed: {shown.stderr}")
    outages = len(engine.errors("disk"))
    waiting = handed_over(load) - engine.count("sense", "n")
    pause(seconds)
    disk.free()
    wait_until(lambda: not problems(engine), "the problem is over")
    wait_until(lambda: len(engine.errors("disk")) > outages, "the outage is recorded")
    verdict.expect(len(engine.errors("disk")) == outages + 1, "one outage was recorded more than once")
    verdict.notes.append(f"{waiting} acknowledged events waited in their lanes for {disk.kind} to have space again")


@scenario
def disk_full(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """A disk that is full under load, has space again, and is full again when the engine stops."""
    load = Load(engine, interval="50ms", pad="'x' * 100")
    timeout = 2.0 if short else 4.0
    load.configure(extra=f"shutdown_timeout: {timeout}\n")
    with small_disk(engine) as disk:
        engine.start()
        disk.fill(ROOM_BYTES)
        children = {engine.child("writer").pid, engine.child("worker").pid}
        with MemoryWatch(engine) as memory:
            for number in range(1 if short else 4):
                if number:
                    disk.fill()
                outlast_an_outage(engine, load, verdict, disk, random.uniform(0, 0.3 if short else 5))
        verdict.expect(memory.growth_mb < GROWTH_BOUND_MB, f"a process grew by {memory.growth_mb:.0f} MB")
        verdict.expect(children <= {child.pid for child in engine.processes()}, "a process did not survive it")
        stop_while_full(engine, verdict, disk, timeout)
        engine.start()
        finish(engine, load, verdict)


def stop_while_full(engine: Engine, verdict: Verdict, disk: Disk, timeout: float) -> None:
    """Stop the engine, with `timeout` seconds for that, while its disk is full; free it afterwards."""
    disk.fill()
    wait_until(lambda: "disk" in problems(engine), "the disk is full again")
    began = time.monotonic()
    verdict.expect(engine.stop() == 1, "a stop that could not write everything did not end with 1")
    took = time.monotonic() - began
    verdict.expect(took < timeout + SLACK_SECONDS, f"stopping took {took:.1f} s")
    said = engine.stderr.splitlines()[-1]
    verdict.expect("data/run/lanes" in said, f"the stop did not say where the events are: {said}")
    verdict.notes.append(f"a stop on the full disk took {took:.1f} s and said: {said}")
    disk.free()


@scenario
def stopped_writer(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """A writer that is stopped (SIGSTOP) for seconds under load."""
    load = Load(engine)
    load.configure(workers=4)
    engine.start()
    wait_until(lambda: engine.count("sense", "n") > 1000, "the load is under way")
    writer = engine.child("writer")
    with MemoryWatch(engine) as memory, StallWatch(engine.db) as stalls:
        until = time.monotonic() + (3 if short else 10)
        writer.suspend()
        said = problems(engine)
        verdict.expect("writer did not report" in said, f"the problems did not say so: {said!r}")
        verdict.expect(engine.status()["writer"]["committed"] is None, "a report of the writer from nowhere")
        wait_until(lambda: all_wait(load), "everybody waits")
        waiting = handed_over(load) - engine.count("sense", "n")
        pause(max(0.0, until - time.monotonic()))
        writer.resume()
        wait_until(lambda: not problems(engine), "the problem is over")
    verdict.stall_ms = stalls.longest_ms
    verdict.expect(memory.growth_mb < GROWTH_BOUND_MB, f"a process grew by {memory.growth_mb:.0f} MB")
    finish(engine, load, verdict)
    failed = engine.how_many("source = 'system' AND type = 'error'")
    verdict.expect(not failed, f"{failed} errors, where computes should only have waited")
    verdict.notes.append(
        f"{waiting} acknowledged events waited; no process grew by more than {memory.growth_mb:.0f} MB"
    )
