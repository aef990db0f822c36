"""Every way in which a compute can fail: one precise error, one run_complete, and the engine continues."""

from __future__ import annotations

from textwrap import indent

import pytest
from support.engine import Engine, Entry

ALONGSIDE = "def compute(ctx):\n    return None\n"


def fail_with(engine: Engine, body: str, *, timeout: str = "30s", grace: str = "300ms") -> Engine:
    """Start an engine with a sense `bad` whose compute has this body, and a healthy one."""
    engine.config(f"""
        workers: 2
        senses:
          bad: {{timeout: {timeout}, grace_period: {grace}}}
          good: {{}}
        reflexes:
          - {{sense: bad, interval: 300s}}
          - {{sense: good, interval: 100ms}}
    """)
    engine.sense("bad", "import os, re, time, ctypes\ndef compute(ctx):\n" + indent(body, "    "))
    engine.sense("good", ALONGSIDE)
    return engine.start()


def only_error(engine: Engine, complete: Entry) -> Entry:
    """Return the payload of the only system/error of a run, after the healthy sense has run again."""
    before = len(engine.runs("good"))
    engine.until(lambda: len(engine.runs("good")) > before, "the engine continues")
    errors = engine.rows("source = 'system' AND type = 'error' AND ref_id = ?", complete.ref_id)
    assert len(errors) == 1
    assert len(engine.rows("type = 'run_start' AND ref_id = ?", complete.ref_id)) == 1
    assert len(engine.rows("type = 'run_complete' AND ref_id = ?", complete.ref_id)) == 1
    assert errors[0].id < complete.id
    return errors[0]


def test_an_exception_is_recorded_with_its_traceback(engine: Engine) -> None:
    """The status is error, and the traceback begins in the user's code."""
    fail_with(engine, "x = {}\nreturn x['nope']")
    error = only_error(engine, engine.until_run("bad", "error")).payload
    assert error["kind"] == "compute"
    assert error["exception"] == "KeyError"
    assert "nope" in error["message"]
    assert "return x['nope']" in error["traceback"]
    assert "nerve/" not in error["traceback"]


@pytest.mark.parametrize("body", ["raise SystemExit(3)", "raise KeyboardInterrupt", "raise GeneratorExit"])
def test_an_exception_that_would_end_a_process_does_not_end_the_worker(engine: Engine, body: str) -> None:
    """SystemExit and similar ones are failures of the compute only."""
    fail_with(engine, body)
    error = only_error(engine, engine.until_run("bad", "error")).payload
    assert error["kind"] == "compute"


def test_a_compute_that_hangs_in_python_is_interrupted(engine: Engine) -> None:
    """The timeout raises inside the compute, and the worker continues."""
    fail_with(engine, "while True:\n    n = 1", timeout="200ms", grace="10s")
    complete = engine.until_run("bad", "timeout")
    error = only_error(engine, complete).payload
    assert error["kind"] == "timeout"
    assert error["exception"] == "TimeoutError"
    assert "in compute" in error["traceback"]
    assert complete.payload["duration_ms"] < 5000


@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(100)",
        "ctypes.PyDLL(None).sleep(100)",
        "re.match(r'(a+)+$', 'a' * 40 + 'b')",
        "while True:\n    try:\n        time.sleep(1)\n    except BaseException:\n        pass",
    ],
    ids=["sleep", "C code that keeps the GIL", "tight regex", "swallows everything"],
)
def test_any_compute_that_hangs_ends_as_a_timeout_with_a_traceback(engine: Engine, body: str) -> None:
    """If it can't be interrupted, its worker is killed after the grace period; the traceback says where it hung."""
    fail_with(engine, body, timeout="200ms", grace="300ms")
    error = only_error(engine, engine.until_run("bad", "timeout")).payload
    assert error["kind"] == "timeout"
    assert "compute" in error["traceback"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os._exit(3)", "exit code 3"),
        ("ctypes.string_at(0)", "killed by SIGSEGV"),
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("os.abort()", "killed by SIGABRT"),
    ],
    ids=["_exit", "segfault", "kill", "abort"],
)
def test_a_worker_that_dies_costs_one_run_and_is_replaced(engine: Engine, body: str, said: str) -> None:
    """However it dies: the run has the status died, and the error says how."""
    fail_with(engine, body)
    complete = engine.until_run("bad", "died")
    error = only_error(engine, complete).payload
    assert error["kind"] == "worker_died"
    assert said in error["message"]
    assert f"pid {complete.payload['worker']}" in error["message"]
    workers = [process for process in engine.processes() if process.cmdline()[0].startswith("nerve: worker")]
    assert len(workers) == 2


def test_the_error_of_a_segfault_has_a_traceback(engine: Engine) -> None:
    """It is that of the Python code which called into C."""
    fail_with(engine, "ctypes.string_at(0)")
    error = only_error(engine, engine.until_run("bad", "died")).payload
    assert "in compute" in error["traceback"]


def test_a_sense_that_keeps_killing_its_worker_is_backed_off(engine: Engine) -> None:
    """Its back-off grows, and is in the log and in the status; other senses are not affected."""
    engine.config("""
        workers: 1
        senses: {bad: {}, good: {}}
        reflexes:
          - {sense: bad, interval: 50ms}
          - {sense: good, interval: 50ms}
    """)
    engine.sense("bad", "import os\ndef compute(ctx):\n    os._exit(1)\n")
    engine.sense("good", ALONGSIDE)
    engine.start()
    backoffs = engine.until(
        lambda: [
            entry.payload["backoff_ms"] for entry in engine.errors("worker_died") if "backoff_ms" in entry.payload
        ],
        "a back-off is recorded",
    )
    assert backoffs[0] == 1000
    good = len(engine.runs("good"))
    engine.until(lambda: len(engine.runs("good")) >= good + 5, "the healthy sense continues")
    senses = {sense["name"]: sense for sense in engine.status()["senses"]}
    assert senses["bad"]["state"] in {"backoff", "running"}
    assert senses["bad"]["consecutive_failures"] >= 2
    assert senses["good"]["consecutive_failures"] == 0


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def compute(ctx:\n    pass\n", "bad.py:1:"),
        ("x = 1\n", "has no `compute`"),
        ("import nowhere_to_be_found\ndef compute(ctx): ...\n", "nowhere_to_be_found"),
        ("raise SystemExit\n", "can't be loaded"),
    ],
    ids=["syntax", "no compute", "import fails", "exits"],
)
def test_a_sense_that_can_not_be_loaded_fails_its_run_with_a_precise_error(
    engine: Engine, code: str, said: str
) -> None:
    """The error has the file and the line, and the engine continues."""
    engine.config("""
        senses: {bad: {}, good: {}}
        reflexes:
          - {sense: bad, interval: 300s}
          - {sense: good, interval: 100ms}
    """)
    engine.sense("bad", code)
    engine.sense("good", ALONGSIDE)
    engine.start()
    error = only_error(engine, engine.until_run("bad", "error")).payload
    assert error["kind"] == "sense_load"
    assert said in error["message"]


def test_a_sense_whose_file_is_removed_keeps_its_version(engine: Engine) -> None:
    """The loss is recorded with the path of the file, and the sense still runs."""
    engine.config("senses: {bad: {}}\nreflexes: []\n")
    path = engine.sense("bad", ALONGSIDE)
    engine.start()
    path.unlink()
    [refused] = engine.until(lambda: engine.reloads("bad"), "the loss is recorded")
    assert refused.payload["ok"] is False
    assert f"senses/{path.name}:1: can't be read" in refused.payload["error"]
    assert engine.run("trigger", "bad", "--wait").returncode == 0
    assert engine.errors() == []


@pytest.mark.parametrize(
    "value",
    ["object()", "float('nan')", "'\\ud800'", "2**70", "(lambda a: (a.append(a), a)[1])([])", "'x' * 10_000_000"],
    ids=["object", "nan", "surrogate", "2**70", "cycle", "10 MB"],
)
def test_a_result_that_is_not_json_fails_its_run(engine: Engine, value: str) -> None:
    """The error is of kind payload, and there is no signal."""
    fail_with(engine, f"return {value}")
    complete = engine.until_run("bad", "error")
    assert complete.payload["signal"] is False
    error = only_error(engine, complete).payload
    assert error["kind"] == "payload"
    assert error["message"].startswith("the payload of its signal ")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("float('nan')", "nan is not a JSON number"),
        ("'\\ud800'", "surrogate"),
        ("2**70", "beyond 64 bits"),
        ("(lambda a: (a.append(a), a)[1])([])", "cycle"),
        ("'x' * 10_000_000", "is 9.5 MB, more than logs.max_payload (64 KB)"),
    ],
    ids=["nan", "surrogate", "2**70", "cycle", "10 MB"],
)
def test_an_event_that_is_not_json_is_replaced_by_an_error(engine: Engine, value: str, reason: str) -> None:
    """The entries before and after it are in the log, and the run is ok."""
    fail_with(engine, f"ctx.log('before', 1)\nctx.log('odd', {{'v': {value}}})\nctx.log('after', 2)")
    complete = engine.until_run("bad", "ok")
    entries = engine.rows("ref_id = ?", complete.ref_id)
    assert [entry.type for entry in entries] == ["run_start", "before", "error", "after", "run_complete"]
    error = entries[2].payload
    assert error["kind"] == "payload"
    assert error["event"] == "sense/odd"
    assert reason in error["message"]
    assert error["preview"]
    assert complete.payload["dropped_entries"] == 1
