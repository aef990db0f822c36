"""Modules that senses import from their folder, changed while the engine runs: no worker keeps a stale one."""

from __future__ import annotations

import pytest
from support.engine import Engine
from support.versions import check_audit_trail, said, saying, until_said

WORKERS = 4
SLEEPY = """
    import os, time
    from lib.units import FACTOR
    import plain
    def compute(ctx):
        time.sleep(0.15)
        ctx.log('version', {'v': [FACTOR, plain.VALUE]})
        ctx.log('worker', {'pid': os.getpid()})
"""
USES_X = "import x\ndef compute(ctx):\n    ctx.log('version', {'v': x.VALUE})\n"


@pytest.fixture
def herd(engine: Engine) -> Engine:
    """Four workers, each busy with one of four senses at the same moments; all of these share helpers, one does not."""
    names = [f"s{n}" for n in range(WORKERS)]
    for name in names:
        engine.sense(name, SLEEPY)
    engine.sense("alone", saying("alone"))
    engine.helper("lib/__init__.py", "")
    engine.helper("lib/units.py", "FACTOR = 1\n")
    engine.helper("plain.py", "VALUE = 1\n")
    reflexes = ", ".join(f"{{sense: {name}, interval: 300ms}}" for name in names)
    engine.config(f"""
        workers: {WORKERS}
        senses: {{{", ".join(f"{name}: {{}}" for name in names)}, alone: {{}}}}
        reflexes: [{reflexes}]
    """)
    engine.start()
    until_everywhere(engine, [1, 1])
    return engine


def until_everywhere(engine: Engine, value: list[int]) -> None:
    """Wait until every worker has run the senses with these values of the helpers."""

    def seen() -> bool:
        runs: dict[str | None, dict[str, object]] = {}
        for row in engine.rows("source = 'sense' AND ref_id LIKE 's_/%'"):
            runs.setdefault(row.ref_id, {}).update(row.payload)
        return {run.get("pid") for run in runs.values() if run.get("v") == value} >= engine.pids("worker")

    engine.until(seen, f"every worker has seen {value}", timeout=20)


def test_a_changed_helper_reaches_every_sense_that_imports_it_in_every_worker(herd: Engine) -> None:
    """A module, and a module of a package, changed one after the other; who imports neither is left alone."""
    herd.helper("lib/units.py", "FACTOR = 2\n")
    until_everywhere(herd, [2, 1])
    herd.helper("plain.py", "VALUE = 2\n")
    until_everywhere(herd, [2, 2])
    reloaded = herd.reloads("s0")[-1].payload
    assert set(reloaded["files"]) == {
        "senses/s0.py",
        "senses/lib/__init__.py",
        "senses/lib/units.py",
        "senses/plain.py",
    }
    assert herd.reloads("alone") == []
    assert herd.stop() == 0
    for n in range(WORKERS):
        check_audit_trail(herd, f"s{n}")
    assert herd.errors() == []


def test_a_broken_helper_keeps_all_its_senses_as_they_were(herd: Engine) -> None:
    """Each sense is refused with the helper's file and line, the status names it once, and mending it mends all."""
    herd.helper("lib/units.py", "FACTOR = \n")
    refused = [herd.until_reload(f"s{n}", 0, ok=False)["error"] for n in range(WORKERS)]
    assert set(refused) == {"senses/lib/units.py:1: invalid syntax"}
    assert herd.status()["problems"] == ["senses/lib/units.py:1: invalid syntax"]
    herd.helper("plain.py", "VALUE = 7\n")
    runs = len(said(herd, "s0"))
    herd.until(lambda: len(said(herd, "s0")) >= runs + 3, "the old version runs on")
    assert said(herd, "s0")[-1] == [1, 1]
    herd.helper("lib/units.py", "FACTOR = 3\n")
    until_everywhere(herd, [3, 7])
    assert herd.status()["problems"] == []


@pytest.fixture
def user(engine: Engine) -> Engine:
    """One worker, and a sense that imports `x`."""
    engine.config("workers: 1\nsenses: {user: {}}\nreflexes: [{sense: user, interval: 50ms}]\n")
    engine.sense("user", USES_X)
    return engine


def test_a_module_that_becomes_a_package(user: Engine) -> None:
    """`x.py` becomes the folder `x`, with the same content and a module of its own: the worker has no stale `x`."""
    path = user.helper("x.py", "VALUE = 1\n")
    user.start()
    until_said(user, "user", 1)
    user.helper("x/deep.py", "VALUE = 2\n")
    path.rename(path.with_name("x") / "__init__.py")
    user.sense("user", "from x import deep\ndef compute(ctx):\n    ctx.log('version', {'v': deep.VALUE})\n")
    until_said(user, "user", 2)


def test_a_folder_that_becomes_a_package(user: Engine) -> None:
    """A folder that gets an `__init__.py` is loaded as what it is now."""
    user.helper("x/deep.py", "VALUE = 1\n")
    user.sense("user", "from x import deep\ndef compute(ctx):\n    ctx.log('version', {'v': deep.VALUE})\n")
    user.start()
    until_said(user, "user", 1)
    user.helper("x/__init__.py", "VALUE = 2\n")
    user.sense("user", USES_X)
    until_said(user, "user", 2)


def test_a_package_that_changes_keeps_its_modules(user: Engine) -> None:
    """`import x.deep` still binds `x.deep` after only `x/__init__.py` has changed."""
    user.helper("x/__init__.py", "VALUE = 1\n")
    user.helper("x/deep.py", "VALUE = 1\n")
    code = "import x.deep\ndef compute(ctx):\n    ctx.log('version', {'v': [x.VALUE, x.deep.VALUE]})\n"
    user.sense("user", code)
    user.start()
    until_said(user, "user", [1, 1])
    user.helper("x/__init__.py", "VALUE = 2\n")
    until_said(user, "user", [2, 1])
    assert user.errors() == []


def test_a_helper_that_is_gone_is_no_longer_imported(user: Engine) -> None:
    """A worker that has loaded a helper does what a new one would do once its file is gone: it can't import it."""
    path = user.helper("x.py", "VALUE = 1\n")
    user.start()
    until_said(user, "user", 1)
    path.unlink()
    user.until(lambda: user.reloads("user"), "the change is recorded")
    changed = user.reloads("user")[-1]
    if changed.payload["ok"]:
        error = user.until(lambda: user.errors("sense_load"), "the import fails")[0]
        assert "No module named 'x'" in error.payload["message"]
    else:
        assert "x" in changed.payload["error"]
    user.helper("x.py", "VALUE = 2\n")
    until_said(user, "user", 2)


def test_nerve_reload_loads_what_a_sense_reads_by_itself(user: Engine) -> None:
    """`nerve reload` runs all top-level code anew, though no watched file has changed, and names what it loaded."""
    data = user.home / "value.txt"
    data.write_text("1")
    user.helper("x.py", f"from pathlib import Path\nVALUE = Path({str(data)!r}).read_text()\n")
    user.start()
    until_said(user, "user", "1")
    data.write_text("2")
    found = user.run("reload")
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "nerve: reloaded 1 sense: user"
    until_said(user, "user", "2")
    assert user.reloads()[-1].payload == {"ok": True, "changes": []}
