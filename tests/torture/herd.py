"""Readers that are killed at random and replaced: `python -m torture.herd DB SEED`, until its stdin ends."""

from __future__ import annotations

import json
import mmap
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from support.waiting import pause

from nerve import query_logs

READERS = 10
LIMIT = 300
TESTS = Path(__file__).parents[1]


class Tally(NamedTuple):
    """The counts of a herd: reads that succeeded, readers killed, and readers that failed by themselves."""

    reads: int
    kills: int
    failed: int


class Herd:
    """A herd that reads a log while a test does something else; a context manager."""

    def __init__(self, db: Path, seed: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "torture.herd", str(db), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )
        self.tally = Tally(0, 0, 0)

    def __enter__(self) -> Herd:
        return self

    def __exit__(self, *_exception: object) -> None:
        said, _ = self._process.communicate()
        self.tally = Tally(*json.loads(said))


def read_by_hand(db: str) -> None:
    """Read like any program: two queries in one transaction, which must see the same."""
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        query = f"SELECT id, payload FROM logs ORDER BY id DESC LIMIT {LIMIT}"
        rows = connection.execute(query).fetchall()
        pause(random.uniform(0, 0.1))
        assert connection.execute(query).fetchall() == rows, "a snapshot has changed"
        connection.execute("COMMIT")
    _check([row[0] for row in reversed(rows)])


def read_with_nerve(db: str) -> None:
    """Read by query_logs."""
    _check([entry.id for entry in query_logs(db, limit=LIMIT)])
    completes = query_logs(db, source="reflex", type="run_complete", limit=LIMIT)
    starts = query_logs(db, source="reflex", type="run_start")
    assert {entry.ref_id for entry in completes} <= {entry.ref_id for entry in starts}, "a run ended before its start"


def _check(ids: list[int]) -> None:
    assert ids == list(range(ids[0], ids[0] + len(ids))), f"ids have gaps: {ids}"


def _fork(read: Callable[[str], None], db: str, seed: float, reads: mmap.mmap, slot: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        random.seed(seed)
        while True:
            read(db)
            count = int.from_bytes(reads[8 * slot : 8 * slot + 8], "little") + 1
            reads[8 * slot : 8 * slot + 8] = count.to_bytes(8, "little")
            pause(random.uniform(0, 0.1))
    except BaseException:  # noqa: BLE001 - a child must never return into its parent's code
        traceback.print_exc()
    finally:
        os._exit(1)


def main(db: str, seed: str) -> None:
    """Keep READERS readers running, and keep killing one of them at random."""
    choose = random.Random(seed)
    kinds = (read_by_hand, read_with_nerve)
    reads = mmap.mmap(-1, 8 * READERS)
    pids = [0] * READERS
    kills = failed = 0
    while not select.select([sys.stdin], [], [], choose.uniform(0.05, 0.3))[0]:
        for slot, pid in enumerate(pids):
            if pid and os.waitpid(pid, os.WNOHANG)[0]:
                failed += 1
                pids[slot] = 0
        slot = choose.randrange(READERS)
        if pids[slot]:
            _kill(pids[slot])
            pids[slot], kills = 0, kills + 1
        for slot in range(READERS):
            pids[slot] = pids[slot] or _fork(kinds[slot % 2], db, choose.random(), reads, slot)
    for pid in filter(None, pids):
        _kill(pid)
    total = sum(int.from_bytes(reads[at : at + 8], "little") for at in range(0, 8 * READERS, 8))
    sys.stdout.write(json.dumps(Tally(total, kills, failed)))


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
