"""Killing each kind of process at any moment: nothing lost, nothing doubled, nobody left behind."""

from __future__ import annotations

import signal

import pytest
from support.engine import Engine
from support.waiting import wait_until

COUNTING = """
    import os
    def compute(ctx):
        for n in range(200):
            ctx.log('n', {'n': n})
"""


def counting(engine: Engine, workers: int = 2) -> Engine:
    """Start an engine whose sense logs numbered events as fast as it can."""
    engine.config(f"""
        workers: {workers}
        senses: {{a: {{}}, b: {{}}}}
        reflexes:
          - {{sense: a, interval: 10ms}}
          - {{sense: b, interval: 10ms}}
    """)
    engine.sense("a", COUNTING)
    engine.sense("b", COUNTING)
    return engine.start()


def check_as_a_set(engine: Engine) -> None:
    """Each run has one start and one complete; a run that is ok has each of its 200 events exactly once, in order."""
    runs: dict[str, list[int]] = {}
    starts: list[str] = []
    completes: dict[str, str] = {}
    for entry in engine.rows("ref_id LIKE '_/%'"):
        assert entry.ref_id is not None
        match entry.type:
            case "run_start":
                starts.append(entry.ref_id)
            case "run_complete":
                assert entry.ref_id not in completes
                completes[entry.ref_id] = entry.payload["status"]
            case "n":
                runs.setdefault(entry.ref_id, []).append(entry.payload["n"])
    assert len(starts) == len(set(starts))
    assert set(completes) == set(starts)
    for run_id, status in completes.items():
        numbers = runs.get(run_id, [])
        assert numbers == list(range(200 if status == "ok" else len(numbers)))


def test_killed_workers_cost_their_run_only(engine: Engine) -> None:
    """SIGKILL on busy workers, again and again: their runs end as died, the others lose nothing."""
    counting(engine)
    for _ in range(10):
        completed = engine.how_many("type = 'run_complete'")
        engine.child("worker").kill()
        engine.until(lambda least=completed: engine.how_many("type = 'run_complete'") > least, "runs go on")
    assert engine.stop() == 0
    check_as_a_set(engine)


def test_a_killed_writer_loses_and_doubles_nothing(engine: Engine) -> None:
    """SIGKILL on the writer under load: it is restarted, producers resend, every event is there once."""
    counting(engine)
    for _ in range(8):
        rows = engine.how_many("type = 'n'")
        engine.until(lambda least=rows + 300: engine.how_many("type = 'n'") > least, "events are committed")
        engine.child("writer").kill()
    engine.until(lambda: len(engine.errors("process_died")) >= 8, "the deaths are recorded")
    assert engine.stop() == 0
    check_as_a_set(engine)
    assert {entry.ref_id for entry in engine.errors("process_died")} == {"writer"}
    assert len(engine.errors("process_died")) == 8


def test_a_killed_archiver_is_restarted(engine: Engine) -> None:
    """SIGKILL on the archiver is recorded, and there is a new one."""
    engine.config("senses: {}\n")
    engine.start()
    first = engine.child("archiver")
    first.kill()
    engine.until(lambda: engine.child("archiver").pid != first.pid, "there is a new archiver")
    [death] = engine.until(lambda: engine.errors("process_died"), "the death is recorded")
    assert death.ref_id == "archiver"
    assert engine.stop() == 0


def test_a_killed_kernel_leaves_nobody_and_its_open_runs_are_lost_once(engine: Engine) -> None:
    """SIGKILL on the kernel: within 2 s no process is left; the next start closes the open runs, exactly once."""
    engine.config("workers: 2\nsenses: {slow: {}}\nreflexes: [{sense: slow, interval: 300s}]\n")
    engine.sense("slow", "import time\ndef compute(ctx):\n    ctx.log('begun')\n    time.sleep(60)\n")
    engine.start()
    [begun] = engine.until(lambda: engine.rows("type = 'begun'"), "the run has begun")
    assert engine.process is not None
    engine.process.send_signal(signal.SIGKILL)
    wait_until(lambda: engine.processes() == [], "no process is left", timeout=2)
    engine.wait()
    for _ in range(2):
        engine.start()
        assert engine.stop() == 0
    entries = engine.rows("ref_id = ?", begun.ref_id)
    assert [entry.type for entry in entries] == ["run_start", "begun", "error", "run_complete"]
    assert entries[2].payload["kind"] == "lost"
    assert entries[3].payload["status"] == "lost"


def test_a_killed_kernel_loses_nothing_that_was_logged(engine: Engine) -> None:
    """SIGKILL on the kernel under load: what runs have logged is there without a gap, and each run ends once."""
    counting(engine)
    engine.until(lambda: engine.how_many("type = 'n'") > 2000, "events are committed")
    assert engine.process is not None
    engine.process.send_signal(signal.SIGKILL)
    wait_until(lambda: engine.processes() == [], "no process is left", timeout=2)
    engine.wait()
    engine.start()
    engine.until(lambda: engine.how_many("type = 'run_complete'") > 0, "it runs again")
    assert engine.stop() == 0
    check_as_a_set(engine)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_to_the_whole_group_end_in_good_order(engine: Engine, number: signal.Signals, times: int) -> None:
    """However often the whole process group is signalled, the end is in order, and `stop` is last."""
    counting(engine)
    engine.until(lambda: engine.how_many("type = 'n'") > 200, "events are committed")
    for _ in range(times):
        engine.signal_all(number)
    assert engine.wait() == 0
    assert engine.processes() == []
    assert engine.rows()[-1].type == "stop"
    check_as_a_set(engine)


def test_a_stop_interrupts_what_does_not_finish(engine: Engine) -> None:
    """A compute that would go on for a minute is interrupted at the deadline, and its run ends as cancelled."""
    engine.config("""
        shutdown_timeout: 1s
        senses: {slow: {}, stubborn: {}}
        reflexes:
          - {sense: slow, interval: 300s}
          - {sense: stubborn, interval: 300s}
    """)
    engine.sense("slow", "import time\ndef compute(ctx):\n    time.sleep(60)\n")
    engine.sense("stubborn", "import ctypes\ndef compute(ctx):\n    ctypes.PyDLL(None).sleep(60)\n")
    engine.start()
    engine.until(lambda: engine.count("reflex", "run_start") == 2, "both have begun")
    assert engine.stop() == 0
    assert {entry.payload["status"] for entry in engine.rows("type = 'run_complete'")} == {"cancelled"}
    assert engine.errors() == []
    assert engine.rows()[-1].type == "stop"


def test_nerve_stop_returns_when_it_has_stopped(engine: Engine) -> None:
    """`nerve stop` waits for the end, and is the reason of the stop; a second one finds nothing running."""
    counting(engine)
    found = engine.run("stop")
    assert found.returncode == 0, found.stderr
    assert engine.wait() == 0
    assert engine.processes() == []
    assert engine.rows()[-1].payload["reason"] == "nerve stop"
    assert engine.run("stop").returncode == 3


def test_a_service_that_talks_nonsense_is_killed_and_replaced(engine: Engine) -> None:
    """What an archiver sends that is no message costs the archiver, not the engine."""
    engine.prelude = """
import os, nerve.workers.archiver as archiver
serve = archiver.ArchiverWorker.serve
def talk_nonsense_once(self):
    try:
        os.close(os.open("spoken", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return serve(self)
    self._link.send_frame(b"\\x00\\x00\\x00\\x01\\xc1")
    self._link.wait(None)
archiver.ArchiverWorker.serve = talk_nonsense_once
""".replace('"spoken"', repr(str(engine.home / "spoken")))
    engine.start()
    [error] = engine.until(lambda: engine.errors("process_died"), "the archiver's death is recorded")
    assert error.ref_id == "archiver"
    assert "it sent an invalid message" in error.payload["message"]
    engine.until(lambda: engine.status()["archiver"]["next_ts"], "another archiver serves")
    assert engine.stop() == 0
