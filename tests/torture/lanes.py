"""The files of the event queue: garbage written into a live one, and a disk that has no room for another."""

from __future__ import annotations

import random
import re
import sys
from contextlib import suppress
from pathlib import Path

import psutil
from support.engine import Engine
from support.load import Load
from support.verdict import Verdict, check_log, check_ok_runs
from support.waiting import pause, wait_until

from nerve.errors import WireError
from nerve.eventqueue.lane_file import HEAD, TAIL, LaneFile
from torture.processes import finish, titled
from torture.scenario import Skipped, scenario

FRAME_BYTES = 80
"""What no frame of a counting sense is smaller than."""

GARBAGE_BYTES = 256
QUOTA_BYTES = 64 * 1024


@scenario
def garbage(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """Overwrite bytes of the rings that workers are publishing in: found, bounded, recorded, and gone on."""
    load = Load(engine, events=400)
    load.configure(workers=3)
    engine.start()
    for _ in range(3 if short else 60):
        pause(random.uniform(0, 0.2))
        reports = len(_reports(engine))
        if _overwrite(engine, random):
            with suppress(AssertionError):  # the writer may have read these bytes just before
                wait_until(lambda reports=reports: len(_reports(engine)) > reports, "it is found", 1.5)
        wait_until(lambda: len(titled(engine, "worker")) == 3, "there are three workers")
    verdict.expect(engine.stop(timeout=30) == 0, "the engine did not end with 0")
    reports = _reports(engine)
    unreadable = sum(int(size) for report in reports for size in re.findall(r"(\d+) bytes of events were not", report))
    stored = {(row.ref_id, row.payload["n"]) for row in engine.rows("source = 'sense' AND type = 'n'")}
    acknowledged = set(load.acknowledged())
    missing = acknowledged - stored
    check_log(verdict, engine.db, acknowledged - missing)
    verdict.expect(reports, "no garbage was found")
    verdict.expect(
        len(missing) * FRAME_BYTES <= unreadable, f"{len(missing)} events are missing for {unreadable} bytes reported"
    )
    verdict.notes.append(
        f"{len(reports)} lanes were found to be corrupt: {unreadable} bytes not readable, {len(missing)} acknowledged "
        "events in them"
    )


def _reports(engine: Engine) -> list[str]:
    return [entry.payload["message"] for entry in engine.errors("wire")]


def _overwrite(engine: Engine, random: random.Random) -> bool:
    """Write over what a worker has published and the writer has not committed; False where there was nothing."""
    lanes = sorted((engine.home / "data" / "run" / "lanes").glob("worker-*.lane"))
    random.shuffle(lanes)
    for path in lanes:
        with suppress(WireError, OSError):
            file = LaneFile(path)
            found = _overwrite_lane(file, random)
            file.close()
            if found:
                return True
    return False


def _overwrite_lane(file: LaneFile, random: random.Random) -> bool:
    for _ in range(2000):
        tail, head = file.words[TAIL], file.words[HEAD]
        if head - tail > 4 * GARBAGE_BYTES:
            at = (head - 2 * GARBAGE_BYTES) % file.capacity
            data = random.randbytes(min(GARBAGE_BYTES, file.capacity - at))
            file.ring[at : at + len(data)] = data
            return True
    return False


@scenario
def lanes_full(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """No room for a lane: a start that says so, and workers that are replaced as soon as there is room again."""
    if sys.platform != "linux":
        raise Skipped("needs a system that can limit another process")
    load = Load(engine)
    load.configure(extra="shutdown_timeout: 2s\n")
    for limit in (1 << 20, 6 << 20) if short else (4096, 1 << 20, 4 << 20, 5 << 20):
        # The kernel's own lane is larger than that of a worker: each limit is hit by another file, or by none.
        engine.prelude = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, -1))"
        found = engine.run("start", "--for", "100ms")
        refused = "can't create a lane of the event queue" in found.stderr
        verdict.expect(refused == (limit <= 4 << 20), f"a start with {limit} bytes a file: {found.stderr}")
        verdict.expect(found.returncode == int(refused), f"it ended with {found.returncode}")
    engine.prelude = ""
    engine.start()
    for _ in range(2 if short else 20):
        kernel = psutil.Process(engine.pid)
        pause(random.uniform(0, 0.3))
        kernel.rlimit(psutil.RLIMIT_FSIZE, (QUOTA_BYTES, psutil.RLIM_INFINITY))
        for worker in titled(engine, "worker"):
            with suppress(psutil.NoSuchProcess):
                worker.kill()
                verdict.kills += 1
        said = len(engine.stderr)
        wait_until(lambda said=said: "can't fork a worker" in engine.stderr[said:], "it says so")
        wait_until(lambda: not titled(engine, "worker"), "the last worker is gone")
        pause(random.uniform(0, 0.5))
        verdict.expect(engine.status()["workers"] == [], "a worker without a lane")
        kernel.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        wait_until(lambda: len(titled(engine, "worker")) == 2, "the workers are back", 20)
    finish(engine, load, verdict)
    check_ok_runs(verdict, engine.db, 100)
    left = [path.name for path in Path(engine.home, "data", "run", "lanes").iterdir()]
    verdict.expect(not left, f"lanes are left behind: {left}")
