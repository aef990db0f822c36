"""Performing runs of senses: nothing that a compute does breaks more than its own run."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.events_sink import EventsSink
from support.interrupters import installed_interrupter
from support.storage import FakeStorage

from nerve.clock import SystemClock
from nerve.config.config import SenseConfig
from nerve.events.model import ErrorDetail
from nerve.events.payload import DEFAULT_MAX_BYTES
from nerve.events.trigger import Signal, Trigger
from nerve.processes.messages import Run, RunResult
from nerve.reload.codebase import Codebase, Version, read_main
from nerve.runtime.context import SenseContext
from nerve.runtime.interruption import Interrupter
from nerve.runtime.loader import SenseLoader
from nerve.runtime.runner import run_sense
from nerve.runtime.tracebacks import MAX_MESSAGE_CHARS, MAX_TRACEBACK_CHARS

# The default method is an alarm, which the interrupter needs for itself.
pytestmark = pytest.mark.timeout(60, method="thread")

BY_INTERVAL = Trigger("interval", "a-reflex", None, 0, 0)
SOON = 0.15
LONG = 30.0


class Bench:
    """Writes a sense, and runs it."""

    def __init__(self, folder: Path, interrupter: Interrupter) -> None:
        self.folder = folder
        self.interrupter = interrupter
        self.events = EventsSink()
        self.loader = SenseLoader(folder)
        self.version: Version | None = None

    def write(self, source: str | bytes, name: str = "probe") -> Path:
        """Write the file of a sense."""
        path = self.folder / f"{name}.py"
        path.write_bytes(source if isinstance(source, bytes) else textwrap.dedent(source).encode())
        return path

    def perform(
        self,
        source: str | bytes | None = None,
        *,
        trigger: Trigger = BY_INTERVAL,
        timeout: float = LONG,
        max_payload: int = DEFAULT_MAX_BYTES,
    ) -> RunResult:
        """Run the sense with this source (None: with the source that it has)."""
        if source is not None:
            self.write(source)
        run = Run(
            run_id="probe/1",
            sense="probe",
            version=self.version_on_disk(),
            trigger=trigger,
            timeout=timeout,
            max_payload=max_payload,
        )
        self.loader.accept("probe", run.version)

        def context(decoded: Trigger) -> SenseContext:
            return SenseContext(
                "probe",
                run.run_id,
                decoded,
                events=self.events,
                storage=FakeStorage(),
                clock=SystemClock(),
                max_payload=max_payload,
            )

        outcome = run_sense(run, self.loader.load, context, self.interrupter, SystemClock())
        msgspec.msgpack.encode(outcome)  # it is always sent to the kernel
        assert outcome.run_id == run.run_id
        assert outcome.duration_ms >= 0
        return outcome

    def version_on_disk(self) -> Version | None:
        """Return the version on disk; None, as the pool does, if it is that of the last run."""
        main = read_main(SenseConfig("probe", str(self.folder / "probe.py")))
        before, self.version = self.version, Codebase.read(self.folder).version(main)
        return None if self.version == before else self.version

    def failure(
        self, source: str | bytes | None = None, *, status: str = "error", timeout: float = LONG
    ) -> ErrorDetail:
        """Run a sense, which must end with this status; return the error."""
        outcome = self.perform(source, timeout=timeout)
        assert (outcome.status, outcome.signal) == (status, None)
        assert outcome.error
        assert len(outcome.error.message) <= MAX_MESSAGE_CHARS + 100
        assert len(outcome.error.traceback or "") <= MAX_TRACEBACK_CHARS
        return outcome.error

    def load_failure(self, source: str | bytes | None = None) -> ErrorDetail:
        """Run a sense that can't be loaded; return the error."""
        error = self.failure(source)
        assert error.kind == "sense_load"
        assert "\n" not in error.message
        return error


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench whose modules are removed afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    ctrl_c = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a worker
    with installed_interrupter() as interrupter:
        yield Bench(tmp_path, interrupter)
    signal.signal(signal.SIGINT, ctrl_c)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


# Loading, as a part of the run.


def test_a_sense_is_loaded_once(bench: Bench) -> None:
    """Its module-level state lasts from run to run."""
    bench.write("runs = []\ndef compute(ctx):\n    runs.append(1)\n    return len(runs)")
    assert [bench.perform().signal for _ in range(3)] == ["1", "2", "3"]


def test_a_sense_that_can_not_be_loaded_fails_its_run(bench: Bench) -> None:
    """The error is of kind sense_load, in one line, with the traceback of the module's code."""
    error = bench.load_failure("\n1 / 0\n")
    assert error.message == f"{bench.folder / 'probe.py'} can't be loaded: ZeroDivisionError: division by zero"
    assert f'File "{bench.folder / "probe.py"}", line 2' in (error.traceback or "")


def test_a_failed_load_is_repeated_at_the_next_run(bench: Bench) -> None:
    """A file that was fixed works."""
    bench.load_failure("x = = 1")
    bench.load_failure("1 / 0")
    assert bench.perform("def compute(ctx): return 'fixed'").signal == '"fixed"'


def test_a_load_that_hangs_is_interrupted_and_repeated(bench: Bench) -> None:
    """The run's timeout includes loading; the same version may load at the next run."""
    go_on = bench.folder / "go_on"
    source = f"""
        import pathlib
        while not pathlib.Path({str(go_on)!r}).exists(): pass
        def compute(ctx): return 1
    """
    error = bench.failure(source, status="timeout", timeout=SOON)
    assert "probe.py" in (error.traceback or "")
    go_on.touch()
    assert bench.perform().status == "ok"


# Runs that succeed.


@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_any_result_but_none_is_a_signal(bench: Bench, keyword: str) -> None:
    """False-like values are signals, too."""
    for value, text in (("None", None), ("{'used': 0.93}", '{"used":0.93}'), ("0", "0"), ("[]", "[]"), ("''", '""')):
        outcome = bench.perform(f"{keyword} compute(ctx): return {value}")
        assert (outcome.status, outcome.signal, outcome.error) == ("ok", text, None)


def test_an_awaitable_result_is_awaited(bench: Bench) -> None:
    """A plain function may return the coroutine of another one."""
    outcome = bench.perform("""
        import asyncio
        async def work(ctx):
            await asyncio.sleep(0)
            ctx.log("worked")
            return ctx.run_id
        compute = lambda ctx: work(ctx)
    """)
    assert outcome.signal == '"probe/1"'
    assert [event.type for event in bench.events.events] == ["worked"]


def test_the_compute_sees_the_decoded_payload_of_its_signal(bench: Bench) -> None:
    """In the kernel it is JSON text; ctx.signal and ctx.trigger.signal have the value."""
    trigger = Trigger("signal", "on-disk", Signal("disk", '{"used": [0.5]}', "disk/1", 7), 2, 6)
    outcome = bench.perform(
        """
        def compute(ctx):
            assert ctx.trigger.signal is ctx.signal
            signal = ctx.signal
            return [signal.payload["used"], signal.sense, signal.run_id, signal.ts, ctx.trigger.coalesced]
        """,
        trigger=trigger,
    )
    assert outcome.signal == '[[0.5],"disk","disk/1",7,2]'


@pytest.mark.parametrize("payload", ["", "{", "NaN", "\ufffd", "[" * 100_000])
def test_a_signal_that_is_not_valid_json_fails_the_run(bench: Bench, payload: str) -> None:
    """The kernel does not decode signals, so the run is the first to notice."""
    outcome = bench.perform(
        "def compute(ctx): pass", trigger=Trigger("signal", "r", Signal("a", payload, None, 0), 0, 0)
    )
    assert outcome.status == "error"
    assert outcome.error
    assert outcome.error.kind == "compute"


# Runs that fail.


@pytest.mark.parametrize(
    ("raising", "exception", "message"),
    [
        ("raise ValueError('too hot')", "ValueError", "ValueError: too hot"),
        ("raise KeyError", "KeyError", "KeyError"),
        ("import sys; sys.exit(3)", "SystemExit", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit", "GeneratorExit"),
        ("import asyncio; raise asyncio.CancelledError", "CancelledError", "CancelledError"),
        ("raise BaseExceptionGroup('all', [KeyboardInterrupt()])", "BaseExceptionGroup", "BaseExceptionGroup: all"),
    ],
)
@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_any_exception_fails_the_run_and_nothing_else(
    bench: Bench, keyword: str, raising: str, exception: str, message: str
) -> None:
    """Even those that would end a program; the next run is not affected."""
    error = bench.failure(f"{keyword} compute(ctx):\n    {raising}\n")
    assert (error.kind, error.exception) == ("compute", exception)
    assert error.message.startswith(message)
    assert f'File "{bench.folder / "probe.py"}", line 2, in compute' in (error.traceback or "")
    assert bench.perform(f"{keyword} compute(ctx): return 1").signal == "1"


def test_frames_of_nerve_are_left_out_of_the_traceback(bench: Bench) -> None:
    """Neither nerve's callers of the compute, nor functions of nerve that it called, are shown."""
    error = bench.failure("""
        def events():
            yield "fine", 1
            yield 3, 2
        def compute(ctx):
            try:
                ctx.log("")
            except TypeError:
                ctx.log_many(events())
    """)
    text = error.traceback or ""
    assert "nerve/" not in text
    assert text.count("line 7, in compute") == 1
    assert text.count("line 9, in compute") == 1
    assert text.count("Traceback") == 2


def test_frames_of_a_workspace_beside_the_package_are_kept(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose path begins like that of the package is not part of it."""
    monkeypatch.setattr("nerve.runtime.tracebacks.OWN_FOLDER", str(tmp_path / "ner") + "/")
    bench.folder = tmp_path / "nerve-demo"
    bench.folder.mkdir()
    assert "nerve-demo/probe.py" in (bench.failure("def compute(ctx): 1 / 0").traceback or "")


def test_a_compute_with_the_wrong_parameters_fails_its_run(bench: Bench) -> None:
    """The message is that of the call; no line of the compute can be shown."""
    assert "positional argument" in bench.failure("def compute(): pass").message


@pytest.mark.parametrize(
    "value",
    [
        "float('nan')",
        "[2**63]",
        "object()",
        "(n for n in ())",
        "'\\ud800'",
        "'x' * 70_000",
        "ctx",
        "open",
        "{1, object()}",
    ],
)
def test_a_result_that_can_not_be_stored_is_an_error_of_kind_payload(bench: Bench, value: str) -> None:
    """The result is described, and there is no signal."""
    error = bench.failure(f"def compute(ctx): return {value}")
    assert error.kind == "payload"
    assert "its signal" in error.message
    assert error.preview


def test_an_asynchronous_generator_fails_the_run(bench: Bench) -> None:
    """The message names it, so that the superfluous `yield` is found."""
    assert "async_generator" in bench.failure("async def compute(ctx):\n    yield 1").message


def test_a_result_whose_repr_hangs_is_interrupted(bench: Bench) -> None:
    """Describing a bad result runs the user's code, so it is part of the run."""
    error = bench.failure(
        """
        import time
        class Slow:
            def __repr__(self):
                time.sleep(100)
        def compute(ctx):
            return Slow()
        """,
        status="timeout",
        timeout=SOON,
    )
    assert "time.sleep(100)" in (error.traceback or "")


# Deadlines.


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("def compute(ctx):\n    while True: pass", 2),
        ("import time\ndef compute(ctx):\n    time.sleep(100)", 3),
        ("import asyncio\nasync def compute(ctx):\n    await asyncio.sleep(100)", 3),
        ("import asyncio\nasync def compute(ctx):\n    await asyncio.sleep(0)\n    while True: pass", 4),
        ("async def compute(ctx):\n    while True: pass", 2),
        ("import asyncio\nasync def compute(ctx):\n    while True:\n        await asyncio.sleep(0)", 4),
        ("import asyncio\ndef compute(ctx):\n    asyncio.run(asyncio.sleep(100))", 3),
    ],
    ids=["busy", "sleep", "async sleep", "async busy", "async busy at once", "async yielding", "own loop"],
)
def test_the_traceback_of_a_timeout_has_the_line_where_the_compute_hung(bench: Bench, source: str, line: int) -> None:
    """It does so for plain and asynchronous computes, waiting or busy."""
    error = bench.failure(source, status="timeout", timeout=SOON)
    assert (error.kind, error.exception) == ("timeout", "TimeoutError")
    assert error.message == "probe took longer than its timeout of 150ms"
    assert f'File "{bench.folder / "probe.py"}", line {line}, in compute' in (error.traceback or "")
    assert "nerve/" not in (error.traceback or "").replace("nerve.runtime.interruption", "")


def test_a_compute_that_catches_its_interruption_has_timed_out(bench: Bench) -> None:
    """It has no signal, whatever it returns."""
    error = bench.failure(
        """
        def spin():
            while True: pass
        def compute(ctx):
            try:
                spin()  # CPython does not count a loop's backward jump as part of a try
            except BaseException:
                return "too late"
        """,
        status="timeout",
        timeout=SOON,
    )
    assert error.traceback is None


def test_an_asynchronous_compute_that_catches_its_cancellation_has_timed_out(bench: Bench) -> None:
    """It is cancelled only once, and may clean up."""
    bench.failure(
        """
        import asyncio
        async def compute(ctx):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                ctx.log("went on")
            return 1
        """,
        status="timeout",
        timeout=SOON,
    )
    assert [event.type for event in bench.events.events] == ["went on"]


@pytest.mark.parametrize("hang", ["spin()", "await asyncio.sleep(100)", "await asyncio.Event().wait()"])
def test_asynchronous_cleanup_is_run_after_a_timeout(bench: Bench, hang: str) -> None:
    """An `await` in a `finally` block works."""
    bench.failure(
        f"""
        import asyncio
        def spin():
            while True: pass
        async def compute(ctx):
            try:
                {hang}
            finally:
                await asyncio.sleep(0.001)
                ctx.log("cleaned up")
        """,
        status="timeout",
        timeout=SOON,
    )
    assert [event.type for event in bench.events.events] == ["cleaned up"]


def test_a_busy_background_task_does_not_protect_a_compute_that_waits(bench: Bench) -> None:
    """Whichever task is interrupted, the run ends."""
    bench.failure(
        """
        import asyncio
        tasks = []
        async def busy():
            while True: pass
        async def compute(ctx):
            tasks.append(asyncio.create_task(busy()))
            await asyncio.Event().wait()
        """,
        status="timeout",
        timeout=SOON,
    )
    sys.modules["senses.probe"].tasks[0].exception()


def test_tasks_that_a_finished_compute_leaves_running_are_interrupted(bench: Bench) -> None:
    """A thread that the event loop waits for, and a task that resists its cancellation, are part of the run."""
    for leftover in ("loop.run_in_executor(None, over.wait, 100)", "tasks.append(loop.create_task(stubborn()))"):
        bench.failure(
            f"""
            import asyncio, threading
            over, tasks = threading.Event(), []
            async def stubborn():
                while not over.is_set():
                    try:
                        await asyncio.sleep(100)
                    except asyncio.CancelledError:
                        pass
            async def compute(ctx):
                loop = asyncio.get_running_loop()
                {leftover}
                await asyncio.sleep(0)
            """,
            status="timeout",
            timeout=SOON,
        )
        sys.modules["senses.probe"].over.set()


@pytest.mark.parametrize(
    "body", ["while True: pass", "import time; time.sleep(100)", "raise ValueError", "ctx.log('more')"]
)
@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_a_run_that_is_stopped_is_cancelled(bench: Bench, keyword: str, body: str) -> None:
    """The engine's stop is not a failure: there is neither an error nor a signal."""
    outcome = bench.perform(f"""
        import signal
        {keyword} compute(ctx):
            try:
                signal.raise_signal(signal.SIGUSR1)
            finally:
                ctx.log("clean up")
            {body}
    """)
    assert (outcome.status, outcome.signal, outcome.error) == ("cancelled", None, None)


def test_a_waiting_compute_is_cancelled_where_it_waits(bench: Bench) -> None:
    """A coroutine sees a cancellation."""
    outcome = bench.perform("""
        import asyncio, os, signal, threading
        async def compute(ctx):
            threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                ctx.log("cancelled")
                raise
    """)
    assert outcome.status == "cancelled"
    assert [event.type for event in bench.events.events] == ["cancelled"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_a_timeout_at_any_moment_of_a_run_breaks_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, keyword: str
) -> None:
    """Of hundreds of runs about as long as their timeout, each is either ok or has timed out."""
    # Python passes an interruption in a finalizer to this hook. pytest's formats it, and may be interrupted itself.
    monkeypatch.setattr(sys, "unraisablehook", lambda _unraisable: None)
    bench.write(f"""
        import time
        length = [0.0]
        {keyword} compute(ctx):
            end = time.perf_counter() + length[0]
            while time.perf_counter() < end:
                pass
            return 1
    """)
    bench.perform()
    length = sys.modules["senses.probe"].length
    statuses = set()
    for attempt in range(300):
        length[0] = 0.0008 + (attempt % 50 - 40) * 0.00002
        outcome = bench.perform(timeout=0.0008)
        statuses.add(outcome.status)
        assert (outcome.signal, outcome.error is None) == (("1", True) if outcome.status == "ok" else (None, False))
    assert statuses <= {"ok", "timeout"}
    assert bench.perform(timeout=LONG).status == "ok"
    gc.collect()  # an event loop whose making was interrupted is reported here, and not in another test


def test_a_stop_after_the_event_loop_has_closed_cancels_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of an asynchronous run there is no event loop to pass the interruption to."""
    close = asyncio.Runner.close

    def close_and_stop(runner: asyncio.Runner) -> None:
        close(runner)
        signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(asyncio.Runner, "close", close_and_stop)
    assert bench.perform("async def compute(ctx): return 1").status == "cancelled"


def test_an_asynchronous_run_is_interrupted_after_its_event_loop_has_closed(bench: Bench) -> None:
    """Describing its bad result can't hang forever."""
    bench.failure(
        """
        import time
        class Slow:
            def __repr__(self):
                time.sleep(100)
        async def compute(ctx):
            return Slow()
        """,
        status="timeout",
        timeout=SOON,
    )
