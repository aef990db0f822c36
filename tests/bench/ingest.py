"""Ingest: how many events per second computes can log, up to their commit with synchronous=FULL."""

from __future__ import annotations

from pathlib import Path

from bench.filling import make_plain
from bench.lab import WORKERS, Lab
from bench.measurement import measurement
from bench.results import Curve, Found, Goal, Row
from bench.samples import Samples, interleaved
from bench.watching import LogEye, wait_for_file

BATCH = 100

# All senses wait for the file `go`, so that they begin together, once the engine has finished its start.
WRITING = """
import time
from pathlib import Path

FOLDER = Path({folder!r})
EVENTS, BATCH = {events}, {batch}

def compute(ctx):
    (FOLDER / f"ready-{{ctx.sense}}").touch()
    while not (FOLDER / "go").exists():
        time.sleep(0.001)
    began, used = time.monotonic(), time.process_time()
    if BATCH == 1:
        for n in range(EVENTS):
            ctx.log("reading", {{"n": n, "value": 0.5, "unit": "percent"}})
    else:
        for at in range(0, EVENTS, BATCH):
            batch = range(at, at + BATCH)
            ctx.log_many([("reading", {{"n": n, "value": 0.5, "unit": "percent"}}) for n in batch])
    used = time.process_time() - used
    (FOLDER / f"used-{{ctx.sense}}").write_text(str(used / EVENTS * 1e6))
    (FOLDER / f"began-{{ctx.sense}}").write_text(str(began))
"""


def events_per_second(lab: Lab, events: int, batch: int, costs: list[float] | None = None) -> float:
    """Log `events` events on all workers, `batch` at a time; return the rate, from the first call to the last commit.

    The CPU time that an event has cost its worker, in us, is added to `costs`.
    """
    share = events // WORKERS // batch * batch
    names = [f"writing{n}" for n in range(WORKERS)]
    with lab.engine() as engine:
        for name in names:
            engine.sense(name, WRITING.format(folder=str(engine.home), events=share, batch=batch))
        senses = ", ".join(f"{name}: {{timeout: 5m}}" for name in names)
        reflexes = ", ".join(f"{{sense: {name}, interval: 1h}}" for name in names)
        engine.config(f"workers: {WORKERS}\nsenses: {{{senses}}}\nreflexes: [{reflexes}]\n")
        engine.start()
        for name in names:
            wait_for_file(engine.home / f"ready-{name}")
        with LogEye(engine.db) as eye:
            before = eye.last_id()
            (engine.home / "go").touch()
            ended = eye.wait_for(before + share * WORKERS)
            began = [_number(engine.home / f"began-{name}") for name in names]
            if costs is not None:
                costs += [_number(engine.home / f"used-{name}") for name in names]
            engine.stop()
            logged = eye.count("sense", "reading")
    if logged != share * WORKERS:
        raise RuntimeError(f"{logged} of {share * WORKERS} events are in the log")
    return logged / (ended - min(began))


def _number(path: Path) -> float:
    wait_for_file(path)
    return float(path.read_text())


def plain_rows_per_second(lab: Lab, rows: int) -> float:
    """Return the physical limit: ready rows by executemany, 1,000 per transaction, into the same table and indexes."""
    db = lab.new_folder() / "plain.db"
    make_plain(db)
    return lab.peer("plain_sqlite", db, rows)


@measurement
def ingest(lab: Lab) -> Found:
    """Events per second from all workers to their commit, beside plain SQLite, Python's logging and loguru."""
    events = lab.size(200_000, 40_000)
    costs: list[float] = []
    found = interleaved(
        lab.repetitions,
        {
            "one": lambda: events_per_second(lab, events, 1, costs),
            "many": lambda: events_per_second(lab, events, BATCH),
            "plain": lambda: plain_rows_per_second(lab, events),
            "logging": lambda: lab.peer("stdlib_logging", WORKERS, lab.size(2_000, 400)),
            "loguru": lambda: lab.peer("loguru_file", WORKERS, events),
        },
    )
    one = Samples("nerve, ctx.log", "events/s", found["one"])
    batches = Samples("nerve, ctx.log_many", "events/s", found["many"])
    plain = Samples("plain executemany", "rows/s", found["plain"])
    logging = Samples("QueueHandler to SQLite", "records/s", found["logging"])
    loguru = Samples("loguru enqueue=True", "records/s", found["loguru"])
    limit = f"{WORKERS} workers; the other: one process, ready rows, 1,000 a transaction; both synchronous=FULL"
    return Found(
        [
            _row("ingest, ctx.log one by one", one, plain, 1.2, limit),
            _row("ingest, ctx.log_many by 100", batches, plain, 1.5, limit),
            Row(
                what="ctx.log, CPU of its worker",
                nerve=Samples("nerve, ctx.log", "us an event", tuple(costs)),
                goal=Goal("at most", 3),
                note="payload of three keys; encoding included",
            ),
            _row("ingest, beside logging", one, logging, 10, "the other commits each record, synchronous=FULL"),
            _row("ingest, beside loguru", one, loguru, 1, "the other writes a text file, and never calls fsync"),
        ]
    )


@measurement
def ingest_growth(lab: Lab) -> Found:
    """Cost of one event, for three numbers of events that differ by a factor of 10."""
    sizes = (2_000, 20_000, 200_000) if lab.quick else (10_000, 100_000, 1_000_000)
    rates = [events_per_second(lab, size, BATCH) for size in sizes]
    costs = tuple(1e6 / rate for rate in rates)
    return Found(curves=[Curve(what="ingest", size_of="events", unit="us an event", sizes=sizes, costs=costs)])


def _row(what: str, nerve: Samples, other: Samples, times: float, note: str) -> Row:
    return Row(what=what, nerve=nerve, other=other, goal=Goal("ratio at least", times), note=note)
