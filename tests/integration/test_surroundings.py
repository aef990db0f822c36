"""What one sense changes in its worker is not what the next one finds; paths begin at the workspace."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from support.commands import NERVE
from support.engine import Engine

FOUND = """
    import os, pathlib, signal, socket, subprocess, sys

    def found():
        umask = os.umask(0)
        os.umask(umask)
        return [
            pathlib.Path.cwd().name, umask, os.environ.get("LEFT"), socket.getdefaulttimeout(),
            subprocess.run(["false"]).returncode, sys.stdout.fileno(), str(signal.getsignal(signal.SIGTERM)),
            subprocess.check_output("echo $LEFT; umask; pwd", shell=True, text=True),
        ]
"""


def test_the_next_sense_finds_nothing_of_what_the_last_one_changed(engine: Engine) -> None:
    """Not even if the run was interrupted, or if it set itself up for ever."""
    engine.config("workers: 1\nsenses: {hostile: {}, other: {}}")
    engine.helper("lib.py", FOUND)
    engine.sense("other", "from lib import found\ndef compute(ctx):\n    ctx.log('found', found())\n")
    engine.sense(
        "hostile",
        """
        import io, os, signal, socket, sys

        def compute(ctx):
            os.chdir("/")
            os.environ["LEFT"] = "1"
            os.umask(0)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            sys.stdout.close()
            sys.stdout = io.StringIO()
            socket.setdefaulttimeout(0.001)
            raise SystemExit
        """,
    )
    engine.start()
    for sense in ("other", "hostile", "other"):
        engine.run("trigger", sense, "--wait")
    before, after = (row.payload for row in engine.rows("type = 'found'"))
    assert before == after
    assert before[0] == engine.home.name


def test_what_a_file_sets_at_its_top_is_there_in_each_of_its_runs(engine: Engine) -> None:
    """And in no run of another sense."""
    engine.config("workers: 1\nsenses: {loaded: {}, other: {}}")
    engine.sense(
        "loaded",
        """
        import os, pathlib, socket
        os.chdir("senses")
        socket.setdefaulttimeout(7)
        os.environ["KEY"] = "of a library"

        def compute(ctx):
            ctx.log("loaded", [pathlib.Path.cwd().name, socket.getdefaulttimeout(), os.environ["KEY"]])
            socket.setdefaulttimeout(1)
            os.environ["KEY"] = "mine"
        """,
    )
    engine.helper("lib.py", FOUND)
    engine.sense("other", "from lib import found\ndef compute(ctx):\n    ctx.log('found', found())\n")
    engine.start()
    for sense in ("loaded", "other", "loaded"):
        engine.run("trigger", sense, "--wait")
    assert [row.payload for row in engine.rows("type = 'loaded'")] == [["senses", 7, "of a library"]] * 2
    [found] = (row.payload for row in engine.rows("type = 'found'"))
    assert (found[0], found[3]) == (engine.home.name, None)


def test_relative_paths_start_at_the_workspace_wherever_the_engine_was_started(engine: Engine, tmp_path: Path) -> None:
    """As with `nerve --home DIR start` from anywhere."""
    engine.config("workers: 1\nsenses: {other: {}}")
    engine.sense("other", "import pathlib\ndef compute(ctx):\n    pathlib.Path('here').write_text('x')\n")
    started = subprocess.Popen(
        [*NERVE, "--home", str(engine.home), "start", "--for", "20s"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        engine.until(lambda: engine.count("system", "start"), "the engine has started")
        assert engine.run("trigger", "other", "--wait").returncode == 0
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(15)
    assert (engine.home / "here").exists()
    assert not any(tmp_path.iterdir())


def test_a_printed_line_is_not_lost_with_a_killed_worker(engine: Engine) -> None:
    """Standard output is a pipe here, as under most supervisors."""
    engine.config("workers: 1\nsenses: {other: {}}")
    engine.sense("other", "import os\ndef compute(ctx):\n    print('printed')\n    os.kill(os.getpid(), 9)\n")
    engine.start(env={"PYTHONUNBUFFERED": ""})
    engine.run("trigger", "other", "--wait")
    engine.stop()
    assert "printed\n" in engine.stdout
