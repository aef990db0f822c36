"""Where a run of a real engine came from, what came of it, and how its senses do."""

from __future__ import annotations

import json
from typing import Any

from support.engine import Engine
from support.runs import begun, ended, failed, run_id

from nerve.store.table.writer import LogWriter

YEARS_AGO = -86_400_000
CPU, ALERT = run_id("cpu", YEARS_AGO), run_id("alert", YEARS_AGO + 60)
LATER = 10**9
MAIL = run_id("mail", LATER)


def traced(engine: Engine, *arguments: str) -> dict[str, Any]:
    """Give `nerve trace --json`, decoded."""
    found = engine.run("trace", "--json", *arguments)
    assert found.returncode == 0, found.stderr
    decoded: dict[str, Any] = json.loads(found.stdout)
    return decoded


def test_a_run_is_traced_to_the_hand_that_started_it_all(engine: Engine) -> None:
    """By the last digits of its id: from the hand, by two signals, to the run that failed."""
    engine.config("""
        senses: {first: {}, second: {}, third: {}}
        reflexes: [{sense: second, on: [first]}, {sense: third, on: [second]}]
    """)
    for name in ("first", "second"):
        engine.sense(name, "def compute(ctx):\n    ctx.log('reading', {'n': 1})\n    return {'n': 1}\n")
    engine.sense("third", "def compute(ctx):\n    raise RuntimeError('on purpose')\n")
    engine.start()
    assert engine.run("trigger", "first", "--wait").returncode == 0
    third = engine.until_run("third", "error")
    found = traced(engine, "-v", f"third/…{str(third.ref_id)[-6:]}")
    assert found["asked"] == third.ref_id
    first = found["tree"]
    [second] = first["caused"]
    [last] = second["caused"]
    assert [run["trigger"] for run in (first, second, last)] == ["manual", "signal", "signal"]
    assert [run["status"] for run in (first, second, last)] == ["ok", "ok", "error"]
    assert [entry["payload"] for entry in second["entries"]] == [{"n": 1}]
    assert last["errors"][0]["payload"]["message"] == "RuntimeError: on purpose"
    stats = json.loads(engine.run("stats", "--json", "--since", "1h").stdout)
    counts = {sense["name"]: (sense["runs"], sense["failures"]) for sense in stats["senses"]}
    assert counts == {"first": (1, 0), "second": (1, 0), "third": (1, 1)}


def test_the_code_of_a_run_is_found_by_its_digest(engine: Engine) -> None:
    """This holds for the version before a change, too, and for helpers."""
    engine.config("senses: {one: {}}\n")
    engine.helper("lib/units.py", "X = 1\n")
    versions = [
        "def compute(ctx):\n    return 1\n",
        "from lib import units\n\n\ndef compute(ctx):\n    return units.X\n",
    ]
    engine.sense("one", versions[0])
    engine.start()
    digests = []
    for source in versions:
        engine.sense("one", source)
        assert engine.run("reload").returncode == 0
        assert engine.run("trigger", "one", "--wait").returncode == 0
        runs = json.loads(engine.run("logs", "--json", "-n", "1", "type=run_start").stdout)
        assert traced(engine, runs["ref_id"])["tree"]["digest"] == runs["payload"]["digest"]
        digests.append(runs["payload"]["digest"])
    assert engine.run("code", digests[0]).stdout == versions[0]
    assert engine.run("code", digests[1], "--file", "senses.one").stdout == versions[1]
    assert engine.run("code", digests[1], "--file", "lib.units").stdout == "X = 1\n"


def test_a_cause_in_the_archive_is_found_there(engine: Engine) -> None:
    """The table knows that it has moved; with --archived the whole tree is shown, and counted."""
    engine.config("senses: {}\nlogs: {retention: 1d}\n")
    engine.db.parent.mkdir(exist_ok=True)
    writer = LogWriter.open(engine.db)
    writer.append([begun(CPU, n=YEARS_AGO), ended(CPU, n=YEARS_AGO)], {})
    writer.append([begun(ALERT, cause=CPU, n=YEARS_AGO + 60), failed(ALERT), ended(ALERT, "error", n=YEARS_AGO)], {})
    writer.append([begun(MAIL, cause=ALERT, n=LATER), ended(MAIL, n=LATER)], {})
    writer.close()
    assert engine.run("archive").returncode == 0
    tree = traced(engine, MAIL)["tree"]
    assert (tree["run"], tree["status"], tree["caused"][0]["run"]) == (ALERT, "archived", MAIL)
    assert "in the archive" in engine.run("trace", ALERT).stdout
    found = traced(engine, "--archived", MAIL)
    assert (found["root"], found["tree"]["status"], found["tree"]["caused"][0]["status"]) == (CPU, "ok", "error")
    assert traced(engine, "--archived", f"alert/…{ALERT[-5:]}")["asked"] == ALERT
    stats = json.loads(engine.run("stats", "--json", "--archived").stdout)
    assert [(sense["name"], sense["runs"]) for sense in stats["senses"]] == [("alert", 1), ("cpu", 1), ("mail", 1)]
