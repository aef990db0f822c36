"""The archive: how long it takes to archive old entries while new ones come in, and how long these have to wait."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from support.engine import Engine
from support.waiting import wait_until
from torture.stalls import StallWatch

from bench.filling import copy_log, drop_triggers, fill
from bench.lab import Lab
from bench.measurement import measurement
from bench.results import Curve, Found, Goal, Row
from bench.samples import Samples, interleaved
from bench.watching import LogEye, titled, wait_for_file
from nerve.control.client import ControlClient
from nerve.control.protocol import RunArchive
from nerve.ipc.progress import Archived
from nerve.workspace import Workspace

EVENTS_A_SECOND = 5_000
RETENTION_SECONDS = 5 * 86_400.0
OLDEST_DAYS, SPAN_DAYS = 20, 10
"""The old entries are of ten days, all of them older than the retention."""

LONGEST_SECONDS = 600.0
QUIET_ROWS_A_SECOND = 100_000
"""The engine is measured without archiving for the time that archiving takes at about this rate."""

# Ten events every 2 ms, until the file `stop` exists: a steady producer that is not part of the measured work.
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


@dataclass(slots=True)
class Archivings:
    """Figures of each archiving: the longest time from an event to its commit (ms), and the incoming events/s.

    `quiet_ms` are the longest times without archiving, which are due to the disk and the machine.
    """

    commits_ms: list[float] = field(default_factory=list)
    quiet_ms: list[float] = field(default_factory=list)
    incoming: list[float] = field(default_factory=list)

    def by_nerve(self, lab: Lab, old: Path, rows: int) -> float:
        """Let a running engine archive all old rows while new ones come in; return the seconds that it took."""
        with lab.engine() as engine:
            prepare(engine, old, "[{sense: incoming, interval: 1h}]")
            engine.start()
            wait_for_file(engine.home / "incoming")
            with StallWatch(engine.db) as stalls, LogEye(engine.db) as eye:
                first = eye.last_id()
                wait_until(lambda: eye.last_id() > first + 3, "events are committed")
                self.quiet_ms.append(_longest_ms(stalls, rows / QUIET_ROWS_A_SECOND))
                stalls.longest_ms, before = 0.0, eye.last_id()
                seconds = archive_old(engine, rows)
                self.commits_ms.append(stalls.longest_ms)
                self.incoming.append((eye.last_id() - before) / seconds)
            (engine.home / "stop").touch()
            engine.stop(timeout=60)
        return seconds

    def by_hand(self, lab: Lab, log: Path) -> float:
        """Do the same with plain sqlite3; return the seconds that it took."""
        seconds, longest_ms, rows = lab.figures_of("plain_archive", log, RETENTION_SECONDS, EVENTS_A_SECOND)
        self.commits_ms.append(longest_ms)
        self.incoming.append(rows / seconds)
        return seconds


def _longest_ms(stalls: StallWatch, seconds: float) -> float:
    """Return the longest time between two commits, in ms, while nothing is archived."""
    stalls.longest_ms = 0.0
    time.sleep(seconds)
    return stalls.longest_ms


def prepare(engine: Engine, old: Path, reflexes: str) -> None:
    """Set up an engine with that log, a sense `incoming`, and a retention that leaves nothing to archive."""
    (engine.home / "data").mkdir(mode=0o700)
    copy_log(old, engine.db)
    engine.sense("incoming", INCOMING.format(folder=str(engine.home), rate=EVENTS_A_SECOND))
    # The archiver does a run when it starts, which must have nothing to do.
    engine.config(
        f"workers: 2\nsenses: {{incoming: {{timeout: 1h}}}}\nreflexes: {reflexes}\nlogs: {{retention: 999d}}\n"
    )


def archive_old(engine: Engine, rows: int) -> float:
    """Archive all old rows; return the seconds that it took."""
    began = time.monotonic()
    with ControlClient(Workspace(engine.home).control_socket, engine.home) as client:
        client.send(RunArchive(RETENTION_SECONDS, vacuum=False))
        moved = client.expect(Archived, LONGEST_SECONDS).rows
    seconds = time.monotonic() - began
    if moved != rows:
        raise RuntimeError(f"{moved} of {rows} rows were archived")
    return seconds


@measurement
def archive(lab: Lab) -> Found:
    """Archiving 1 million rows while 5,000 events/s come in, beside a SELECT to JSON lines and one DELETE."""
    rows = lab.size(1_000_000, 100_000)
    old, plain = _old_log(lab, rows), lab.new_folder() / "plain.db"
    copy_log(old, plain)
    drop_triggers(plain)
    nerve, by_hand = Archivings(), Archivings()
    ways = {"nerve": lambda: nerve.by_nerve(lab, old, rows), "hand": lambda: by_hand.by_hand(lab, plain)}
    found = interleaved(lab.size(3, 1), ways)
    rates = [statistics.median(archivings.incoming) for archivings in (nerve, by_hand)]
    other = "SELECT, json, DELETE"
    return Found(
        [
            Row(
                what=f"archive of {rows:,} rows while {EVENTS_A_SECOND:,} events/s come in",
                nerve=Samples("nerve", "s", found["nerve"]),
                other=Samples(other, "s", found["hand"]),
                goal=Goal("ratio at most", 1),
                note="nerve also writes a manifest with checksums, and gives the space back; both sync their files",
            ),
            Row(
                what="the longest commit meanwhile",
                nerve=Samples("nerve", "ms", tuple(nerve.commits_ms)),
                other=Samples(other, "ms", tuple(by_hand.commits_ms)),
                goal=Goal("at most", 100),
                note=f"handed over to acknowledged, highest of all {max(nerve.commits_ms):.0f} ms;"
                f" {rates[0]:.0f} events/s did come in, {rates[1]:.0f} of the other's",
            ),
            Row(
                what="the longest commit of the same engine, as long, without archiving",
                nerve=Samples("nerve", "ms", tuple(nerve.quiet_ms)),
                note=f"what the disk and the machine do by themselves, highest of all {max(nerve.quiet_ms):.0f} ms",
            ),
        ]
    )


@measurement
def archive_growth(lab: Lab) -> Found:
    """Cost of archiving one row, for three numbers of rows that differ by a factor of 10, with no other work."""
    sizes = (1_000, 10_000, 100_000) if lab.quick else (10_000, 100_000, 1_000_000)
    costs = tuple(_quiet_seconds(lab, rows) / rows * 1e6 for rows in sizes)
    return Found(curves=[Curve(what="archive", size_of="rows", unit="us a row", sizes=sizes, costs=costs)])


def _quiet_seconds(lab: Lab, rows: int) -> float:
    with lab.engine() as engine:
        prepare(engine, _old_log(lab, rows), "[]")
        engine.start()
        wait_until(lambda: titled(engine, "archiver"), "there is an archiver")
        seconds = archive_old(engine, rows)
        engine.stop(timeout=60)
    return seconds


def _old_log(lab: Lab, rows: int) -> Path:
    path = lab.new_folder() / "old.db"
    fill(path, rows, oldest_days=OLDEST_DAYS, span_days=SPAN_DAYS)
    return path
