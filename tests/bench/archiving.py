"""The archive: how long it takes to move old entries out while others come in, and how long those have to wait."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from support.engine import Engine
from support.waiting import wait_until
from torture.bystander import Bystander

from bench.filling import drop_triggers, fill
from bench.lab import Lab
from bench.measurement import measurement
from bench.results import Curve, Found, Goal, Row
from bench.samples import Samples, interleaved
from bench.watching import wait_for_file
from nerve.control import ArchiveDone, ControlClient, RunArchive
from nerve.workspace import Workspace

EVENTS_A_SECOND = 5_000
RETENTION_SECONDS = 5 * 86_400.0
OLDEST_DAYS, SPAN_DAYS = 20, 10
"""Where the old entries lie: on ten days, all of them older than the retention."""

LONGEST_SECONDS = 600.0

# Ten at a time, every 2 ms, until the file `stop` is there: a producer that is steady, and not the measured work.
INCOMING = """
import time
from pathlib import Path

FOLDER = Path({folder!r})

def compute(ctx):
    (FOLDER / "incoming").touch()
    began, batch = time.monotonic(), 0
    while not (FOLDER / "stop").exists():
        ctx.log_many([("incoming", {{"n": n}}) for n in range(10)])
        batch += 1
        time.sleep(max(0.0, began + batch * 10 / {rate} - time.monotonic()))
"""


class Archived:
    """What one archiving took, and the longest time meanwhile from an event to its commit (ms)."""

    def __init__(self) -> None:
        self.commits_ms: list[float] = []

    def by_nerve(self, lab: Lab, old: Path, rows: int, *, incoming: bool = True) -> float:
        """Have a running engine archive all old rows, and give the seconds that it took."""
        with lab.engine() as engine:
            _prepare(engine, old, incoming=incoming)
            engine.start()
            if incoming:
                wait_for_file(engine.home / "incoming")
            with Bystander(engine) as bystander:
                wait_until(lambda: bystander.sent > 3, "events are committed")
                bystander.longest_ms = 0.0
                began = time.monotonic()
                moved = _archive(engine)
                seconds = time.monotonic() - began
            (engine.home / "stop").touch()
            self.commits_ms.append(bystander.longest_ms)
            engine.stop(timeout=60)
        if moved != rows:
            raise RuntimeError(f"{moved} of {rows} rows were archived")
        return seconds


def _prepare(engine: Engine, old: Path, *, incoming: bool) -> None:
    (engine.home / "data").mkdir(mode=0o700)
    shutil.copyfile(old, engine.db)
    engine.sense("incoming", INCOMING.format(folder=str(engine.home), rate=EVENTS_A_SECOND))
    reflexes = "[{sense: incoming, interval: 1h}]" if incoming else "[]"
    # The archiver does a run when it starts, and must find nothing to do then.
    engine.config(
        f"workers: 2\nsenses: {{incoming: {{timeout: 1h}}}}\nreflexes: {reflexes}\nlogs: {{retention: 999d}}\n"
    )


def _archive(engine: Engine) -> int:
    with ControlClient(Workspace(engine.home).control_socket, engine.home) as client:
        client.send(RunArchive(RETENTION_SECONDS, vacuum=False))
        return client.expect(ArchiveDone, LONGEST_SECONDS).rows


@measurement
def archive(lab: Lab) -> Found:
    """Archiving 1 million rows while 5,000 events/s come in, beside a SELECT to JSON lines and one DELETE."""
    rows = lab.size(1_000_000, 100_000)
    old, plain = _old_log(lab, rows), lab.new_folder() / "plain.db"
    shutil.copyfile(old, plain)
    drop_triggers(plain)
    archived = Archived()
    found = interleaved(
        lab.size(2, 1),
        {
            "nerve": lambda: archived.by_nerve(lab, old, rows),
            "plain": lambda: lab.peer("plain_archive", plain, RETENTION_SECONDS, EVENTS_A_SECOND),
        },
    )
    what = f"archive of {rows:,} rows while {EVENTS_A_SECOND:,} events/s come in"
    return Found(
        [
            Row(
                what=what,
                nerve=Samples("nerve", "s", found["nerve"]),
                other=Samples("SELECT, json, DELETE", "s", found["plain"]),
                goal=Goal("ratio at most", 1),
                note="nerve also writes a manifest with checksums, and gives the space back; both sync the files",
            ),
            Row(
                what="the longest commit meanwhile",
                nerve=Samples("nerve", "ms", tuple(archived.commits_ms)),
                goal=Goal("at most", 100),
                note="from handing an event over to the acknowledgement of its commit",
            ),
        ]
    )


@measurement
def archive_growth(lab: Lab) -> Found:
    """Cost of archiving one row, of three numbers of rows a factor 10 apart, with nothing else to do."""
    sizes = (1_000, 10_000, 100_000) if lab.quick else (10_000, 100_000, 1_000_000)
    costs = tuple(Archived().by_nerve(lab, _old_log(lab, rows), rows, incoming=False) / rows * 1e6 for rows in sizes)
    return Found(curves=[Curve(what="archive", size_of="rows", unit="us a row", sizes=sizes, costs=costs)])


def _old_log(lab: Lab, rows: int) -> Path:
    path = lab.new_folder() / "old.db"
    fill(path, rows, oldest_days=OLDEST_DAYS, span_days=SPAN_DAYS)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path
