"""What a compute changes around it: put back before the next run, and what its file has set is there in each run.

Everything happens in one process of its own, as the tests' process must not be changed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHANGES = {
    "chdir": "os.chdir('/')",
    "chdir to a folder that is removed": "os.mkdir('x'); os.chdir('x'); os.rmdir(os.getcwd())",
    "umask": "os.umask(0)",
    "a new variable": "os.environ['NEW'] = '1'",
    "a changed variable": "os.environ['PATH'] = '/nowhere'",
    "a removed variable": "os.environ.pop('PATH')",
    "bytes of a variable": "os.environb[b'PATH'] = b'/nowhere'",
    "no variables": "os.environ.clear()",
    "another environment": "os.environ = {}",
    "time zone": "os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()",
    "ignored SIGCHLD": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "handler of SIGTERM": "signal.signal(signal.SIGTERM, print)",
    "handler of the timeout": "signal.signal(signal.SIGALRM, signal.SIG_IGN)",
    "handler of SIGUSR2": "signal.signal(signal.SIGUSR2, signal.SIG_IGN)",
    "real-time signal": "signal.signal(signal.SIGRTMIN, print)",
    "imported earlier": "signal_signal(signal.SIGHUP, print)",
    "blocked signals": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])",
    "profiling timer": "signal.signal(signal.SIGPROF, print); signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)",
    "wake-up descriptor": "signal.set_wakeup_fd(null, warn_on_full_buffer=False)",
    "hook for unraisable exceptions": "sys.unraisablehook = print",
    "other stdout": "sys.stdout = io.StringIO()",
    "no stderr": "sys.stderr = None",
    "closed stdout": "sys.stdout.close()",
    "closed stderr": "sys.stderr.close()",
    "other stdin": "sys.stdin = io.StringIO('x')",
    "default timeout of sockets": "socket.setdefaulttimeout(0.1)",
    "event loop": "asyncio.set_event_loop(loop)",
    "closed event loop": "asyncio.run(asyncio.sleep(0))",
    "running event loop": "asyncio._set_running_loop(loop)",
    "logging": "logging.basicConfig(force=True, level=50)",
}

SCRIPT = """
import asyncio, faulthandler, io, json, logging, os, signal, socket, subprocess, sys, time, warnings
from pathlib import Path
from signal import signal as signal_signal
from nerve.runtime.logging_state import LoggingState
from nerve.runtime.surroundings import SIGNALS, Surroundings

changes = json.loads(sys.argv[1])
null = os.open(os.devnull, os.O_RDWR | os.O_NONBLOCK)
real = os.dup(1)
warnings.simplefilter("ignore")
loop = asyncio.new_event_loop()
faulthandler.register(signal.SIGUSR2, file=null)

def observed():
    wakeup = signal.set_wakeup_fd(-1)
    policy = vars(asyncio.events)["_event_loop_policy"]
    return {
        "directory": os.getcwd(),
        "umask": (old := os.umask(0), os.umask(old))[0],
        "environ": sorted(os.environ.items()),
        "of programs": sorted(subprocess.check_output(["/usr/bin/env", "-0"], text=True).split("\\0")),
        "hour": time.localtime(0).tm_hour,
        "handlers": [str(signal.getsignal(number)) for number in SIGNALS],
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "wakeup": wakeup,
        "hook": str(sys.unraisablehook),
        "timers": [signal.getitimer(signal.ITIMER_PROF), signal.getitimer(signal.ITIMER_VIRTUAL)],
        "streams": [sys.stdin.fileno(), sys.stdout.fileno(), sys.stderr.fileno(), sys.stdin.read()],
        "timeout": socket.getdefaulttimeout(),
        "loops": [asyncio._get_running_loop() is None, policy is None or not vars(policy._local)],
        "level": logging.root.level,
        "program": subprocess.run(["/bin/false"]).returncode,
    }

surroundings = Surroundings(Path(sys.argv[2]), LoggingState([logging.NullHandler()]), lambda: None)
before = observed()
found = {}
for name, change in changes.items():
    exec(change)
    ok = surroundings.put_back()
    after = observed()
    found[name] = {"ok": ok, **{key: [before[key], after[key]] for key in before if before[key] != after[key]}}
os.write(real, json.dumps(found).encode())
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """For each change: whether all was put back, and what is different nevertheless."""
    home = tmp_path_factory.mktemp("home")
    script = [sys.executable, "-c", SCRIPT, json.dumps(CHANGES), str(home)]
    done = subprocess.run(script, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, dict[str, object]] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("change", CHANGES)
def test_the_next_run_finds_everything_as_it_was(found: dict[str, dict[str, object]], change: str) -> None:
    """In the process itself, and in the programs that it starts."""
    assert found[change] == {"ok": True}


def in_surroundings(home: Path, code: str) -> list[str]:
    """Return what code prints that has `surroundings` whose folder is `home`."""
    start = """
import os, socket, sys
from pathlib import Path
import logging
from nerve.runtime.logging_state import LoggingState
from nerve.runtime.surroundings import Surroundings
surroundings = Surroundings(Path(sys.argv[1]), LoggingState([]), lambda: print("crash handlers"))
def show():
    umask = os.umask(0)
    os.umask(umask)
    print(os.path.basename(os.getcwd()), umask, socket.getdefaulttimeout(), os.environ.get("NEW"))
os.umask(0o022)
surroundings.put_back()
"""
    script = [sys.executable, "-c", f"import os; os.umask(0o027)\n{start}{code}", str(home)]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.check_output(script, text=True, env=buffered).splitlines()


def test_what_a_sense_s_file_sets_is_there_in_each_of_its_runs_only(tmp_path: Path) -> None:
    """Directory, umask and socket timeout are its own; the environment, which libraries set as well, is of all."""
    (tmp_path / "own").mkdir()
    lines = in_surroundings(
        tmp_path,
        """
os.chdir("own"); os.umask(0o077); socket.setdefaulttimeout(5); os.environ["NEW"] = "1"
surroundings.accept_loaded("disk")
show()
surroundings.put_back()
show()
surroundings.set_own("other")
show()
surroundings.put_back()
surroundings.set_own("disk")
show()
surroundings.put_back()
surroundings.accept_loaded("disk")  # another version of the file sets nothing
surroundings.put_back()
surroundings.set_own("disk")
show()
""",
    )
    home = f"{tmp_path.name} {0o027} None 1"
    own = f"own {0o077} 5.0 1"
    assert lines == [own, home, home, own, home]


def test_crash_handlers_are_restored_with_the_signals(tmp_path: Path) -> None:
    """A compute may have replaced them; Python does not know of them."""
    code = (
        "import signal; signal.signal(signal.SIGSEGV, signal.SIG_IGN); surroundings.put_back(); surroundings.put_back()"
    )
    assert in_surroundings(tmp_path, code) == ["crash handlers"]


def test_a_worker_that_can_not_go_back_must_be_replaced(tmp_path: Path) -> None:
    """As with a descriptor of its folder that a compute has closed."""
    code = "os.closerange(3, 50); os.chdir('/'); print(surroundings.put_back())"
    assert in_surroundings(tmp_path, code) == ["False"]


def test_an_engine_without_a_folder_or_streams_starts(tmp_path: Path) -> None:
    """The workspace may have been moved, and standard output closed, before a worker is forked."""
    lines = in_surroundings(
        tmp_path,
        """
out = os.dup(1)
sys.stdout = sys.stderr = None
again = Surroundings(Path("/nowhere"), LoggingState([]), lambda: None)
os.write(out, str(again.put_back()).encode())
""",
    )
    assert lines == ["True"]


def test_what_is_printed_is_written_at_once(tmp_path: Path) -> None:
    """A process that is killed loses no line, and at the end of a run the unfinished one is written, too."""
    code = "print('a line'); print('unfinished', end=''); surroundings.put_back(); print('lost', end=''); os._exit(0)"
    assert in_surroundings(tmp_path, code) == ["a line", "unfinished"]
