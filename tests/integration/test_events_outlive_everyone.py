"""Once ctx.log has returned, the event is in the log in the end, whoever dies before it is committed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from support.engine import Engine
from support.waiting import wait_until

from nerve.eventqueue.lane_file import HEAD, TAIL, LaneFile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a process to be stopped for certain")

# Each number is noted in a file after ctx.log has returned for it.
COUNTING = """
import os, struct

def compute(ctx):
    note = os.open({note!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for n in range(1_000_000):
        ctx.log("n", {{"n": n}})
        os.write(note, struct.pack("q", n))
"""


def counting(engine: Engine) -> Path:
    """Start an engine with one sense that logs without a pause; returns the file in which it takes notes."""
    note = engine.home / "note"
    engine.config("workers: 1\nsenses: {a: {}}\nreflexes: [{sense: a, interval: 1h}]\nshutdown_timeout: 2s\n")
    engine.sense("a", COUNTING.format(note=str(note)))
    engine.start()
    return note


def noted(note: Path) -> int:
    """Count the events for which ctx.log has returned."""
    return note.stat().st_size // 8 if note.exists() else 0


def kill_everyone_with_events_waiting(engine: Engine) -> int:
    """Have events wait in a lane, kill every process at once, and return how many events ctx.log had returned for."""
    note = counting(engine)
    wait_until(lambda: engine.count("sense", "n"), "events are committed")
    engine.child("writer").suspend()
    committed = engine.count("sense", "n")
    wait_until(lambda: noted(note) > committed + 1000, "events wait in the lane")
    os.killpg(engine.pid, signal.SIGKILL)
    engine.wait()
    wait_until(lambda: not engine.processes(), "everybody is gone")
    return noted(note)


def stored(engine: Engine) -> list[int]:
    """The numbers in the log, in the order of their ids."""
    return [row.payload["n"] for row in engine.rows("type = 'n'")]


def test_what_was_acknowledged_before_everybody_died_is_written_by_the_next_start(engine: Engine) -> None:
    """Before the run is closed as lost: it is its last entry, and the counting goes without a gap."""
    acknowledged = kill_everyone_with_events_waiting(engine)
    found = engine.run("status")
    assert found.returncode == 3
    assert "are not in the log yet" in found.stderr
    assert "are not in the log yet" in engine.run("logs", "-n", "1").stderr
    assert "are not in the log yet" in engine.run("verify", "--quick").stderr
    engine.sense("a", "def compute(ctx): pass\n")
    engine.start()
    engine.until(lambda: engine.errors("lost"), "the run is closed")
    assert engine.stop() == 0
    assert acknowledged <= len(stored(engine)) <= acknowledged + 1
    assert stored(engine) == list(range(len(stored(engine))))
    [lost] = [run for run in engine.runs("a") if run.payload["status"] == "lost"]
    run = engine.rows("ref_id = ?", lost.ref_id)
    assert (run[0].type, run[-1].type) == ("run_start", "run_complete")
    assert list((engine.home / "data" / "run" / "lanes").iterdir()) == []


def test_what_was_acknowledged_is_recovered_without_an_engine(engine: Engine) -> None:
    """By a command, which refuses where an engine runs, and has nothing to do the second time."""
    acknowledged = kill_everyone_with_events_waiting(engine)
    found = engine.run("verify", "--recover")
    assert found.returncode == 0, found.stderr
    assert "nerve: recovered " in found.stderr
    assert len(stored(engine)) >= acknowledged
    assert "nerve: recovered 0 events" in engine.run("verify", "--recover").stderr
    assert "are not in the log yet" not in engine.run("status").stderr
    engine.sense("a", "def compute(ctx): pass\n")
    engine.start()
    refused = engine.run("verify", "--recover")
    assert refused.returncode == 1
    assert "already running" in refused.stderr
    assert engine.stop() == 0


def test_garbage_in_a_lane_costs_its_worker_and_what_it_hit(engine: Engine) -> None:
    """The rest of what the worker had logged is committed, and one error says how much is not."""
    note = counting(engine)
    wait_until(lambda: engine.count("sense", "n"), "events are committed")
    writer = engine.child("writer")
    writer.suspend()
    [path] = (engine.home / "data" / "run" / "lanes").glob("worker-*.lane")
    lane = LaneFile(path)
    wait_until(lambda: lane.words[HEAD] - lane.words[TAIL] > lane.capacity - 1000, "the worker waits for room")
    at = (lane.words[TAIL] + lane.words[HEAD]) // 2 % lane.capacity
    lane.ring[at : at + 8] = b"garbage!"
    lane.close()
    writer.resume()
    [error] = engine.until(lambda: engine.errors("wire"), "it is found")
    assert "bytes of events were not readable" in error.payload["message"]
    engine.until(lambda: engine.runs("a"), "the run has ended")
    assert engine.stop() == 0
    [died] = [run for run in engine.runs("a") if run.payload["status"] == "died"]
    assert "is corrupt" in engine.rows("ref_id = ? AND type = 'error'", died.ref_id)[0].payload["message"]
    missing = set(range(noted(note))) - set(stored(engine))
    assert 1 <= len(missing) <= 2
    assert stored(engine) == sorted(stored(engine))
