"""The commands beside a running engine, as a second terminal would use them."""

from __future__ import annotations

import json
import time

import pytest
from support.engine import Engine

DEMO = """
    workers: 2
    senses: {tick: {}, fail: {}, slow: {}}
    reflexes: [{sense: tick, interval: 100ms}]
"""


@pytest.fixture
def demo(engine: Engine) -> Engine:
    """An engine with a sense that runs by itself, one that fails, and one that takes a while."""
    engine.config(DEMO)
    engine.sense("tick", "def compute(ctx):\n    ctx.log('reading', {'n': 1})\n    return {'n': 1}\n")
    engine.sense("fail", "def compute(ctx):\n    raise RuntimeError('on purpose')\n")
    engine.sense(
        "slow", "import time\ndef compute(ctx):\n    time.sleep(0.3)\n    ctx.log('got', ctx.signal.payload)\n"
    )
    engine.start()
    engine.until_run("tick", "ok")
    return engine


def test_start_names_the_workspace_and_the_database_first_and_a_summary_last(demo: Engine) -> None:
    """The first line of output says where, the last ones what was logged."""
    demo.stop()
    lines = demo.stdout.splitlines()
    assert str(demo.home) in lines[0]
    assert str(demo.db) in lines[0]
    total = len(demo.rows())
    assert f"logged {total} entries" in lines[2]


def test_status_as_json_says_all_of_it(demo: Engine) -> None:
    """Kernel, workers, writer, archiver, watcher and senses are there, with living pids."""
    demo.until(lambda: demo.status()["archiver"]["next_ts"], "the archiver reports")
    status = demo.status()
    assert demo.process is not None
    assert status["kernel"]["pid"] == demo.process.pid
    assert status["kernel"]["boot_id"] == demo.rows("type = 'start'")[0].ref_id
    pids = {process.pid for process in demo.processes()}
    assert len(status["workers"]) == 2
    for worker in status["workers"]:
        assert worker["pid"] in pids
        assert worker["rss_bytes"] > 0
    assert status["writer"]["pid"] in pids
    assert status["writer"]["committed"] > 0
    assert status["archiver"]["pid"] in pids
    assert status["watcher"]["pid"] in pids
    assert status["writer"]["unacknowledged"] >= 0
    tick = next(sense for sense in status["senses"] if sense["name"] == "tick")
    assert tick["last_status"] == "ok"
    assert tick["last_run"].startswith("tick/")
    assert tick["next_due_ts"] > time.time() * 1000 - 5000
    assert status["problems"] == []


def test_status_for_people_names_every_process(demo: Engine) -> None:
    """Without --json there is a table for the processes, the workers and the senses."""
    shown = demo.run("status")
    assert shown.returncode == 0, shown.stderr
    for word in ("kernel", "writer", "archiver", "watcher", "tick", "fail"):
        assert word in shown.stdout


def test_trigger_with_wait_shows_the_run_and_exits_with_its_outcome(demo: Engine) -> None:
    """A good run exits 0 and a failing one 1; the entries shown are those of the run."""
    good = demo.run("trigger", "slow", "--wait", "--payload", '{"why": [1, null]}', "--json")
    assert good.returncode == 0, good.stderr
    entries = [json.loads(line) for line in good.stdout.splitlines()]
    assert [entry["type"] for entry in entries] == ["run_start", "got", "run_complete"]
    assert entries[1]["payload"] == {"why": [1, None]}
    assert entries[0]["payload"]["trigger"] == "manual"
    bad = demo.run("trigger", "fail", "--wait")
    assert bad.returncode == 1
    assert "on purpose" in bad.stdout


def test_triggers_coalesce_while_a_run_is_under_way_and_all_are_answered(demo: Engine) -> None:
    """Several triggers of a busy sense become one further run, with the count and the latest payload."""
    for n in range(4):
        assert demo.run("trigger", "slow", "--payload", str(n)).returncode == 0
    last = demo.run("trigger", "slow", "--wait", "--payload", "99", "--json")
    assert last.returncode == 0
    entries = [json.loads(line) for line in last.stdout.splitlines()]
    assert entries[1]["payload"] == 99
    runs = demo.rows("type = 'run_start' AND ref_id LIKE 'slow/%'")
    assert sum(1 + run.payload["coalesced"] for run in runs) == 5


def test_trigger_of_an_unknown_sense_suggests_the_nearest(demo: Engine) -> None:
    """A misspelt name is refused with the one that was meant."""
    found = demo.run("trigger", "tikc")
    assert found.returncode == 1
    assert "did you mean 'tick'?" in found.stderr
    assert demo.run("trigger", "tick", "--payload", "{oops").returncode == 2


def test_logs_as_json_lines_with_filters(demo: Engine) -> None:
    """The query that the README shows gives complete entries of one kind, in order."""
    found = demo.run("logs", "--json", "--source", "reflex", "--type", "run_complete", "--since", "1m")
    assert found.returncode == 0, found.stderr
    entries = [json.loads(line) for line in found.stdout.splitlines()]
    assert entries
    assert {(entry["source"], entry["type"]) for entry in entries} == {("reflex", "run_complete")}
    assert [entry["id"] for entry in entries] == sorted(entry["id"] for entry in entries)
    assert list(entries[0]) == ["id", "source", "type", "ref_id", "payload", "ts"]


def test_a_run_for_a_while_ends_by_itself(engine: Engine) -> None:
    """`nerve start --for` stops in good order when its time is over."""
    engine.config(DEMO)
    for name in ("tick", "fail", "slow"):
        engine.sense(name, "def compute(ctx): ...\n")
    engine.start("--for", "1s")
    assert engine.wait() == 0
    assert engine.rows()[-1].type == "stop"


def test_the_number_of_workers_comes_from_the_environment_or_the_option(engine: Engine) -> None:
    """$NERVE_WORKERS scales the pool, and --workers wins over it."""
    engine.config("workers: 1\nsenses: {}\n")
    engine.start(env={"NERVE_WORKERS": "3"})
    assert engine.rows("type = 'start'")[0].payload["workers"] == 3
    assert len(engine.status()["workers"]) == 3
    engine.stop()
    engine.start("--workers", "2", env={"NERVE_WORKERS": "3"})
    assert engine.rows("type = 'start'")[1].payload["workers"] == 2
