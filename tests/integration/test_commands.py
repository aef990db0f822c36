"""Commands in a second terminal, while the engine is running."""

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
    """An engine with a sense that has an interval, one that fails, and one that takes a while."""
    engine.config(DEMO)
    engine.sense("tick", "def compute(ctx):\n    ctx.log('reading', {'n': 1})\n    return {'n': 1}\n")
    engine.sense("fail", "def compute(ctx):\n    raise RuntimeError('on purpose')\n")
    engine.sense(
        "slow", "import time\ndef compute(ctx):\n    time.sleep(0.3)\n    ctx.log('got', ctx.signal.payload)\n"
    )
    engine.start()
    engine.until_run("tick", "ok")
    return engine


def test_start_prints_the_paths_first_and_a_summary_last(demo: Engine) -> None:
    """The first line has the workspace and the database, and the last ones what was logged."""
    demo.stop()
    lines = demo.stdout.splitlines()
    assert str(demo.home) in lines[0]
    assert str(demo.db) in lines[0]
    total = len(demo.rows())
    assert f"logged {total} entries" in lines[2]


def test_status_as_json_has_every_part_of_the_engine(demo: Engine) -> None:
    """Kernel, workers, writer, archiver, watcher and senses, with the pids of living processes."""
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


def test_status_as_text_names_every_process(demo: Engine) -> None:
    """It has tables of the processes, the workers and the senses."""
    shown = demo.run("status")
    assert shown.returncode == 0, shown.stderr
    for word in ("kernel", "writer", "archiver", "watcher", "tick", "fail"):
        assert word in shown.stdout


def test_trigger_with_wait_shows_the_run_and_exits_with_its_result(demo: Engine) -> None:
    """The exit code is 0 for a run that is ok and 1 for one that fails; only entries of that run are shown."""
    good = demo.run("trigger", "slow", "--wait", "--payload", '{"why": [1, null]}', "--json")
    assert good.returncode == 0, good.stderr
    entries = [json.loads(line) for line in good.stdout.splitlines()]
    assert [entry["type"] for entry in entries] == ["run_start", "got", "run_complete"]
    assert entries[1]["payload"] == {"why": [1, None]}
    assert entries[0]["payload"]["trigger"] == "manual"
    bad = demo.run("trigger", "fail", "--wait")
    assert bad.returncode == 1
    assert "on purpose" in bad.stdout


def test_triggers_during_a_run_are_coalesced_and_all_are_answered(demo: Engine) -> None:
    """They become one more run, with their number and the latest payload."""
    for n in range(4):
        assert demo.run("trigger", "slow", "--payload", str(n)).returncode == 0
    last = demo.run("trigger", "slow", "--wait", "--payload", "99", "--json")
    assert last.returncode == 0
    entries = [json.loads(line) for line in last.stdout.splitlines()]
    assert entries[1]["payload"] == 99
    runs = demo.rows("type = 'run_start' AND ref_id LIKE 'slow/%'")
    assert sum(1 + run.payload["coalesced"] for run in runs) == 5


def test_trigger_of_an_unknown_sense_suggests_a_similar_name(demo: Engine) -> None:
    """A misspelt name is an error."""
    found = demo.run("trigger", "tikc")
    assert found.returncode == 1
    assert "did you mean 'tick'?" in found.stderr
    assert demo.run("trigger", "tick", "--payload", "{oops").returncode == 2


def test_logs_as_json_prints_the_entries_that_match(demo: Engine) -> None:
    """Each line is a complete entry, and they are in order."""
    found = demo.run("logs", "--json", "--source", "reflex", "--type", "run_complete", "--since", "1m")
    assert found.returncode == 0, found.stderr
    entries = [json.loads(line) for line in found.stdout.splitlines()]
    assert entries
    assert {(entry["source"], entry["type"]) for entry in entries} == {("reflex", "run_complete")}
    assert [entry["id"] for entry in entries] == sorted(entry["id"] for entry in entries)
    assert list(entries[0]) == ["id", "source", "type", "ref_id", "payload", "ts"]


def test_an_engine_that_is_started_for_a_time_stops_by_itself(engine: Engine) -> None:
    """`nerve start --for` stops in good order then."""
    engine.config(DEMO)
    for name in ("tick", "fail", "slow"):
        engine.sense(name, "def compute(ctx): ...\n")
    engine.start("--for", "1s")
    assert engine.wait() == 0
    assert engine.rows()[-1].type == "stop"


def test_the_workers_option_wins_over_the_environment(engine: Engine) -> None:
    """$NERVE_WORKERS in turn wins over the configuration."""
    engine.config("workers: 1\nsenses: {}\n")
    engine.start(env={"NERVE_WORKERS": "3"})
    assert engine.rows("type = 'start'")[0].payload["workers"] == 3
    assert len(engine.status()["workers"]) == 3
    engine.stop()
    engine.start("--workers", "2", env={"NERVE_WORKERS": "3"})
    assert engine.rows("type = 'start'")[1].payload["workers"] == 2
