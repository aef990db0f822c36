"""The programs that a compute starts: they behave as if Python had started them, and end with the run or the worker."""

from __future__ import annotations

import errno
import os
import pty
import signal
import sys
import textwrap
import threading
from contextlib import suppress

import psutil
import pytest
from support.engine import Engine
from support.waiting import wait_until

ONE_WORKER = """
    workers: 1
    shutdown_timeout: 2s
    senses: {probe: {timeout: 20s}}
"""
SHORT = """
    workers: 1
    senses: {probe: {timeout: 300ms, grace_period: 300ms}}
"""


def answer(engine: Engine, code: str) -> object:
    """Return what a compute with this body logs as `answer`, in an engine that is started for it."""
    body = "\n".join(f"    {line}" for line in code.strip().split("\n"))
    engine.config(ONE_WORKER)
    engine.sense(
        "probe",
        f"import multiprocessing, os, signal, subprocess, sys, time\n\ndef compute(ctx):\n{body}\n",
    )
    engine.start()
    result = engine.run("trigger", "probe", "--wait")
    assert result.returncode == 0, result.stdout + result.stderr
    [entry] = engine.rows("type = 'answer'")
    return entry.payload


def started(engine: Engine, name: str = "pid") -> int:
    """Wait until a compute has written the pid of a program into a file, and return it."""
    path = engine.home / name
    engine.until(lambda: path.exists() and path.read_text().strip(), f"{name} is there")
    return int(path.read_text())


def has_ended(pid: int) -> bool:
    """Return True if a process no longer runs."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGTTIN", "SIGTTOU"])
def test_a_program_obeys_the_signals_that_the_worker_leaves_to_the_kernel(engine: Engine, name: str) -> None:
    """Each has its default action in a program that a compute starts with subprocess, os.system or os.posix_spawn."""
    code = f"""
        import shlex
        asking = "import signal; print(signal.getsignal(signal.{name}) in (signal.SIG_DFL, signal.default_int_handler))"
        program = [sys.executable, "-c", asking]
        out = [subprocess.check_output(program, text=True).strip()]
        out.append(subprocess.check_output(program, text=True, preexec_fn=lambda: None).strip())
        out.append(os.popen(shlex.join(program)).read().strip())
        ctx.log("answer", out)
    """
    assert answer(engine, textwrap.dedent(code)) == ["True"] * 3


def test_a_started_program_can_be_terminated(engine: Engine) -> None:
    """`terminate` of a Popen object, and of a forked process of multiprocessing, works."""
    code = """
program = subprocess.Popen(["sleep", "60"])
program.terminate()
fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
fork.start()
fork.terminate()
fork.join(10)
ctx.log("answer", [program.wait(10), fork.exitcode])
"""
    assert answer(engine, code) == [-signal.SIGTERM, -signal.SIGTERM]


def test_a_forked_process_handles_signals_as_plain_python_does(engine: Engine) -> None:
    """The worker's own handlers are gone in it; those that the compute has set are kept."""
    code = """
numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1)
signal.signal(signal.SIGHUP, print)
reading, writing = os.pipe()
if os.fork() == 0:
    handlers = map(signal.getsignal, numbers)
    os.write(writing, ",".join(getattr(handler, "__name__", str(handler)) for handler in handlers).encode())
    os._exit(0)
os.wait()
ctx.log("answer", os.read(reading, 1000).decode())
"""
    default = str(int(signal.SIG_DFL))
    found = str(answer(engine, code)).replace("Handlers.SIG_DFL", default).split(",")
    assert found == [default, "default_int_handler", "print", default, default]


def test_standard_input_is_empty(engine: Engine) -> None:
    """A program that reads it ends, `sys.stdin` is at its end, and `input` raises EOFError."""
    code = """
try:
    typed = input()
except EOFError:
    typed = "EOFError"
programs = [subprocess.check_output(["cat"], text=True), os.popen("cat").read()]
ctx.log("answer", [*programs, typed, sys.stdin.read(), os.read(0, 5).decode()])
"""
    assert answer(engine, code) == ["", "", "EOFError", "", ""]


@pytest.mark.parametrize(
    "call",
    [
        "os.killpg(os.getpgid(program.pid), signal.SIGTERM)",
        "os.killpg(0, signal.SIGTERM)",
        "os.kill(0, signal.SIGINT)",
        "os.killpg(os.getpgrp(), signal.SIGHUP)",
    ],
)
def test_a_compute_that_signals_its_group_does_not_stop_the_engine(engine: Engine, call: str) -> None:
    """The programs that it has started get the signal, and the kernel does not."""
    code = f"""
program = subprocess.Popen(["sleep", "60"])
{call}
ctx.log("answer", program.wait(10) < 0)
"""
    assert answer(engine, code) is True
    assert engine.run("trigger", "probe", "--wait").returncode == 0


def test_a_compute_that_kills_its_group_costs_its_run(engine: Engine) -> None:
    """The worker dies with the group, and the next run has another worker."""
    engine.config(ONE_WORKER)
    engine.sense("probe", "import os\ndef compute(ctx):\n    os.killpg(0, 9)\n")
    engine.start()
    engine.run("trigger", "probe", "--wait")
    assert engine.until_run("probe", "died")
    engine.until(lambda: engine.status()["workers"], "there is a worker again")


def test_the_programs_of_an_interrupted_compute_end_with_its_run(engine: Engine) -> None:
    """They end also in a session of their own, or as an orphan; what an earlier run has started goes on."""
    engine.config(SHORT)
    engine.sense(
        "probe",
        f"""
        import pathlib, subprocess, time

        HOME = pathlib.Path({str(engine.home)!r})
        LONG = ["sleep", "1000"]
        kept = []

        def compute(ctx):
            if not kept:
                kept.append(subprocess.Popen(LONG))
                (HOME / "kept").write_text(str(kept[0].pid))
                return
            (HOME / "child").write_text(str(subprocess.Popen(LONG).pid))
            (HOME / "session").write_text(str(subprocess.Popen(LONG, start_new_session=True).pid))
            subprocess.run(["sh", "-c", f"sleep 1000 & echo $! > {{HOME}}/orphan"])
            time.sleep(60)
        """,
    )
    engine.start()
    engine.run("trigger", "probe", "--wait")
    kept = started(engine, "kept")
    engine.run("trigger", "probe", "--wait")
    engine.until_run("probe", "timeout")
    assert all(has_ended(started(engine, name)) for name in ("child", "session", "orphan"))
    assert not has_ended(kept)
    engine.stop()
    wait_until(lambda: has_ended(kept), "it has ended with the worker")


@pytest.mark.parametrize(
    ("name", "ending"),
    [("killed", "while True: pass"), ("exits", "os._exit(3)"), ("crashes", "os.kill(os.getpid(), 11)")],
)
def test_the_programs_of_a_worker_end_with_it(engine: Engine, name: str, ending: str) -> None:
    """However a worker ends, what its computes have started does not stay."""
    engine.config(SHORT)
    deaf = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGUSR1])"
    engine.sense(
        "probe",
        f"""
        import os, pathlib, signal, subprocess

        def compute(ctx):
            program = subprocess.Popen(["sleep", "1000"])
            pathlib.Path({str(engine.home)!r}, "pid").write_text(str(program.pid))
            {deaf if name == "killed" else "pass"}
            {ending}
        """,
    )
    engine.start()
    engine.run("trigger", "probe", "--wait")
    engine.until_run("probe", "timeout" if name == "killed" else "died")
    wait_until(lambda: has_ended(started(engine)), "it has ended")


def test_a_worker_that_is_replaced_takes_its_programs_along(engine: Engine) -> None:
    """A program that a finished run has left running stays until its worker goes."""
    engine.config("workers: 1\nmax_runs: 2\nsenses: {probe: {}}")
    engine.sense(
        "probe",
        f"""
        import os, pathlib, subprocess

        def compute(ctx):
            program = subprocess.Popen(["sleep", "1000"])
            pathlib.Path({str(engine.home)!r}, f"pid{{os.getpid()}}").write_text(str(program.pid))
        """,
    )
    engine.start()
    [worker] = engine.pids("worker")
    engine.run("trigger", "probe", "--wait")
    program = started(engine, f"pid{worker}")
    assert not has_ended(program)
    engine.run("trigger", "probe", "--wait")
    wait_until(lambda: has_ended(program), "it has ended")


def test_workers_end_with_a_killed_kernel_though_they_have_groups_of_their_own(engine: Engine) -> None:
    """A worker in the middle of a run does not outlive the kernel either."""
    engine.config(ONE_WORKER)
    path = engine.home / "pid"
    engine.sense(
        "probe",
        f"""
        import os, pathlib

        def compute(ctx):
            pathlib.Path({str(path)!r}).write_text(str(os.getpid()))
            while True: pass
        """,
    )
    engine.start()
    engine.run("trigger", "probe")
    worker = started(engine)
    assert os.getpgid(worker) == worker
    engine.stop(signal.SIGKILL)
    wait_until(lambda: has_ended(worker), "the worker has ended", 5)


def test_a_compute_has_no_terminal_and_the_terminal_still_stops_the_engine(engine: Engine) -> None:
    """A program that wants to ask for a password fails at once, and Ctrl-C reaches the kernel."""
    engine.config(ONE_WORKER)
    engine.sense(
        "probe",
        """
        import subprocess

        def compute(ctx):
            try:
                open("/dev/tty")
            except OSError as error:
                ctx.log("answer", [error.errno, subprocess.run(["sh", "-c", "read x < /dev/tty"]).returncode > 0])
        """,
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, engine.command("start"))
    reader = threading.Thread(target=_read_all, args=(terminal,))
    reader.start()
    try:
        wait_until(lambda: engine.count("system", "start"), "the engine has started")
        assert engine.run("trigger", "probe", "--wait").returncode == 0
        os.write(terminal, b"\x03")
        wait_until(lambda: engine.count("system", "stop"), "the engine has stopped")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        reader.join(10)
        os.close(terminal)
    [entry] = engine.rows("type = 'answer'")
    assert entry.payload == [errno.ENXIO, True]
    assert engine.rows("type = 'stop'")[0].payload["reason"] == "SIGINT"


def _read_all(descriptor: int) -> None:
    with suppress(OSError):  # the other end is closed
        while os.read(descriptor, 1024):
            pass
