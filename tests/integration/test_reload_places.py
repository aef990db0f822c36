"""Where code may lie and how it may be imported: a change is noticed wherever it is made."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
from support.engine import Engine
from support.versions import check_audit_trail, said, saying, until_said

ONE = "workers: 1\nsenses: {user: {}}\nreflexes: [{sense: user, interval: 50ms}]\n"
IMPORTS = {
    "at the top": "import x\ndef compute(ctx):\n    ctx.log('version', {'v': x.VALUE})\n",
    "in the compute": "def compute(ctx):\n    from x import VALUE\n    ctx.log('version', {'v': VALUE})\n",
    "by name": "import importlib\ndef compute(ctx):\n"
    "    ctx.log('version', {'v': importlib.import_module('x').VALUE})\n",
    "through another": "import y\ndef compute(ctx):\n    ctx.log('version', {'v': y.VALUE})\n",
    "with a star": "from x import *\ndef compute(ctx):\n    ctx.log('version', {'v': VALUE})\n",
}


@pytest.fixture
def user(engine: Engine) -> Engine:
    """A workspace with one sense, that says 1; the engine is not started yet."""
    engine.config(ONE)
    engine.sense("user", saying(1))
    return engine


@pytest.mark.parametrize("code", IMPORTS.values(), ids=IMPORTS.keys())
def test_however_a_helper_is_imported_its_change_is_seen(user: Engine, code: str) -> None:
    """Whether when the sense is loaded, when it runs, or by way of another module."""
    user.helper("x.py", "VALUE = 1\n")
    user.helper("y.py", "from x import VALUE\n")
    user.sense("user", code)
    user.start()
    until_said(user, "user", 1)
    user.helper("x.py", "VALUE = 2\n")
    until_said(user, "user", 2)
    assert user.stop() == 0
    check_audit_trail(user, "user")
    assert user.errors() == []


def test_a_sense_that_is_imported_by_another(user: Engine) -> None:
    """A change of it is a change of both."""
    user.helper("other.py", "VALUE = 1\ndef compute(ctx): ...\n")
    user.sense("user", "import other\ndef compute(ctx):\n    ctx.log('version', {'v': other.VALUE})\n")
    user.config("workers: 1\nsenses: {user: {}, other: {}}\nreflexes: [{sense: user, interval: 50ms}]\n")
    user.start()
    until_said(user, "user", 1)
    user.helper("other.py", "VALUE = 2\ndef compute(ctx): ...\n")
    until_said(user, "user", 2)
    assert [len(user.reloads(name)) for name in ("user", "other")] == [1, 1]


def test_a_new_folder_in_a_new_folder(user: Engine) -> None:
    """A package that is made while the engine runs is watched, too."""
    user.start()
    until_said(user, "user", 1)
    user.helper("deep/er/__init__.py", "VALUE = 2\n")
    user.sense("user", "from deep.er import VALUE\ndef compute(ctx):\n    ctx.log('version', {'v': VALUE})\n")
    until_said(user, "user", 2)
    user.helper("deep/er/__init__.py", "VALUE = 3\n")
    until_said(user, "user", 3)


def test_the_folder_itself_exchanged_and_made_anew(user: Engine) -> None:
    """Another folder renamed into the place of senses/, and one that was away for a while, are watched as before."""
    user.start()
    until_said(user, "user", 1)
    senses, other = user.home / "senses", user.home / "other"
    other.mkdir()
    (other / "user.py").write_text(saying(2))
    senses.rename(user.home / "before")
    other.rename(senses)
    until_said(user, "user", 2)
    user.sense("user", saying(3))
    until_said(user, "user", 3)
    shutil.rmtree(senses)
    user.until(lambda: user.status()["problems"], "the loss is noticed")
    senses.mkdir()
    user.sense("user", saying(4))
    until_said(user, "user", 4)
    user.sense("user", saying(5))
    until_said(user, "user", 5)
    assert user.status()["problems"] == []
    assert user.errors() == []


def test_a_configuration_behind_a_link_and_a_sense_elsewhere(user: Engine) -> None:
    """A nerve.yaml that is a symlink is watched where it is and where it points; so is a sense with a `path`."""
    (user.home / "conf").mkdir()
    (user.home / "more").mkdir()
    real = user.home / "conf" / "real.yaml"
    real.write_text("senses: {user: {path: more/far.py}}\nreflexes: [{sense: user, interval: 50ms}]\n")
    link = user.home / "nerve.yaml"
    link.unlink()
    link.symlink_to(real)
    (user.home / "more" / "far.py").write_text(saying(1))
    user.start()
    until_said(user, "user", 1)
    (user.home / "more" / "far.py").write_text(saying(2))
    until_said(user, "user", 2)
    real.write_text("senses: {user: {path: more/far.py, throttle: 10ms}}\nreflexes: [{sense: user, interval: 50ms}]\n")
    assert user.until_reload(None, 0, ok=True)["changes"] == ["sense user: throttle none -> 10ms"]
    link.unlink()
    link.write_text(ONE)
    user.until(lambda: any("path" in str(entry.payload) for entry in user.reloads()[1:]), "the other file is seen")
    until_said(user, "user", 1)


def test_a_sense_that_is_broken_at_the_start(user: Engine) -> None:
    """It is reported at once, beside its failing runs; once mended it runs."""
    user.sense("user", "def compute(ctx)\n")
    user.start()
    assert user.until_reload("user", 0, ok=False)["error"].startswith("senses/user.py:1: ")
    user.until_run("user", "error")
    assert any("senses/user.py:1: " in problem for problem in user.status()["problems"])
    user.sense("user", saying(2))
    until_said(user, "user", 2)
    assert user.status()["problems"] == []


def test_a_pipe_among_the_senses_blocks_nobody(user: Engine) -> None:
    """What is called like a module but is no file is left alone: changes are seen, and the engine stops in time."""
    user.start()
    until_said(user, "user", 1)
    os.mkfifo(user.home / "senses" / "pipe.py")
    user.sense("user", saying(2))
    until_said(user, "user", 2, timeout=5)
    assert user.stop() == 0
    assert user.errors() == []


def test_many_at_once_ask_for_a_reload(user: Engine) -> None:
    """Each is answered; none of them sees the answer of another."""
    user.start()
    until_said(user, "user", 1)
    asking = [user.spawn("reload") for _ in range(5)]
    said_to = [process.communicate(timeout=30)[0] for process in asking]
    assert [process.returncode for process in asking] == [0] * 5
    assert set(said_to) == {"nerve: reloaded 1 sense: user\n"}
    user.until(lambda: len(user.reloads("user")) >= 5, "all of them are committed")
    assert [entry.payload["ok"] for entry in user.reloads("user")] == [True] * 5
    assert set(said(user, "user")) == {1}


def test_a_reload_is_answered_though_the_watcher_dies(user: Engine) -> None:
    """Whoever waits for it is told in one line, and may ask again."""
    user.start()
    until_said(user, "user", 1)
    user.until(lambda: user.run("reload").returncode == 0, "the watcher serves")
    kernel, watcher = user.child("kernel"), user.child("watcher")
    watcher.suspend()
    descriptors = kernel.num_fds()
    asking = user.spawn("reload")
    user.until(lambda: kernel.num_fds() > descriptors, "it is connected")
    user.status()  # the kernel has heard by then what was asked before
    watcher.send_signal(signal.SIGKILL)
    _, told = asking.communicate(timeout=15)
    assert (asking.returncode, told) == (1, "nerve: the watcher died (killed by SIGKILL): try again\n")
    user.until(lambda: user.run("reload").returncode == 0, "the next watcher answers")


CHECKED = {
    "a sense": ("user.py", "def compute(ctx)\n", 1),
    "a helper in a package that is imported": ("lib/units.py", "VALUE = \n", 1),
    "nothing": ("lib/units.py", "VALUE = 2\n", 0),
}


@pytest.mark.parametrize(("name", "code", "exit_code"), CHECKED.values(), ids=CHECKED.keys())
def test_check_and_reload_agree(user: Engine, name: str, code: str, exit_code: int) -> None:
    """`nerve check` says beforehand what a reload says afterwards: the same lines, and the same exit code."""
    user.helper("lib/units.py", "VALUE = 1\n")
    user.sense("user", "from lib.units import VALUE\ndef compute(ctx):\n    ctx.log('version', {'v': VALUE})\n")
    user.start()
    until_said(user, "user", 1)
    user.helper(name, code)
    checked, reloaded = user.run("check"), user.run("reload")
    assert (checked.returncode, reloaded.returncode) == (exit_code, exit_code)
    line = f"senses/{name}:1: "
    assert (line in checked.stderr, line in reloaded.stderr) == (bool(exit_code), bool(exit_code))
