"""Performing runs of senses: nothing that a compute does breaks more than its run."""

from __future__ import annotations

import asyncio
import signal
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.interrupters import installed_interrupter

from nerve.clock import SystemClock
from nerve.config.config import SenseConfig
from nerve.events.model import ErrorDetail, Log, LogEvent
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


class Events:
    """A sink that keeps what a compute logs."""

    def __init__(self) -> None:
        self.kept: list[LogEvent] = []

    def send(self, events: Sequence[LogEvent]) -> None:
        """Keep the events."""
        self.kept.extend(events)

    def settle(self, timeout: float) -> bool:
        """All is settled at once, within any timeout."""
        return timeout > 0


class NoArchives:
    """No log and no databases: none of these computes asks for them."""

    def query_logs(self, **filters: Any) -> list[Log]:
        """Refuse."""
        raise AssertionError(filters)

    def own(self, sense: str) -> Any:
        """Refuse."""
        raise AssertionError(sense)

    peer = own


class Bench:
    """Where senses are written, loaded and performed."""

    def __init__(self, folder: Path, interrupter: Interrupter) -> None:
        self.folder = folder
        self.interrupter = interrupter
        self.events = Events()
        self.loader = SenseLoader(folder)
        self.version: Version | None = None

    def write(self, source: str | bytes, name: str = "probe") -> Path:
        """Write the file of a sense."""
        path = self.folder / f"{name}.py"
        path.write_bytes(source if isinstance(source, bytes) else textwrap.dedent(source).encode())
        return path

    def run_sense(
        self,
        source: str | bytes | None = None,
        *,
        trigger: Trigger = BY_INTERVAL,
        timeout: float = LONG,
        max_payload: int = DEFAULT_MAX_BYTES,
    ) -> RunResult:
        """Perform a run of the sense that has this source (None: whatever is there)."""
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
                databases=NoArchives(),
                clock=SystemClock(),
                max_payload=max_payload,
            )

        outcome = run_sense(run, self.loader, context, self.interrupter, SystemClock())
        msgspec.msgpack.encode(outcome)  # it goes to the kernel, whatever is in it
        assert outcome.run_id == run.run_id
        assert outcome.duration_ms >= 0
        return outcome

    def version_on_disk(self) -> Version | None:
        """Give the version that is on disk; None, as the pool does, if it is the one of the last run."""
        main = read_main(SenseConfig("probe", str(self.folder / "probe.py")))
        before, self.version = self.version, Codebase.read(self.folder).version(main)
        return None if self.version == before else self.version

    def failure(
        self, source: str | bytes | None = None, *, status: str = "error", timeout: float = LONG
    ) -> ErrorDetail:
        """Perform a run that must end with this status; give its error."""
        outcome = self.perform(source, timeout=timeout)
        assert (outcome.status, outcome.signal) == (status, None)
        assert outcome.error
        assert len(outcome.error.message) <= MAX_MESSAGE_CHARS + 100
        assert len(outcome.error.traceback or "") <= MAX_TRACEBACK_CHARS
        return outcome.error

    def load_failure(self, source: str | bytes | None = None) -> ErrorDetail:
        """Perform a run of a sense that can't be loaded; give its error."""
        error = self.failure(source)
        assert error.kind == "sense_load"
        assert "\n" not in error.message
        return error


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Give a bench whose senses, and the modules beside them, are forgotten afterwards."""
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
    """Module-level state lasts from run to run."""
    bench.write("runs = []\ndef compute(ctx):\n    runs.append(1)\n    return len(runs)")
    assert [bench.perform().signal for _ in range(3)] == ["1", "2", "3"]


def test_what_can_not_be_loaded_fails_the_run(bench: Bench) -> None:
    """The error is one of loading, in one line, with the traceback of what the module did."""
    error = bench.load_failure("\n1 / 0\n")
    assert error.message == f"{bench.folder / 'probe.py'} can't be loaded: ZeroDivisionError: division by zero"
    assert f'File "{bench.folder / "probe.py"}", line 2' in (error.traceback or "")


def test_a_failed_load_is_tried_again(bench: Bench) -> None:
    """What is mended works at the next run."""
    bench.load_failure("x = = 1")
    bench.load_failure("1 / 0")
    assert bench.perform("def compute(ctx): return 'mended'").signal == '"mended"'


def test_a_load_that_hangs_is_interrupted_and_tried_again(bench: Bench) -> None:
    """Module code runs under the run's timeout, too; the same version may have more luck at the next run."""
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


# Runs that go well.


@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_none_is_silence_and_anything_else_a_signal(bench: Bench, keyword: str) -> None:
    """Falsy values are signals as well."""
    for value, text in (("None", None), ("{'used': 0.93}", '{"used":0.93}'), ("0", "0"), ("[]", "[]"), ("''", '""')):
        outcome = bench.perform(f"{keyword} compute(ctx): return {value}")
        assert (outcome.status, outcome.signal, outcome.error) == ("ok", text, None)


def test_what_is_awaitable_is_awaited(bench: Bench) -> None:
    """A plain function may return a coroutine of another."""
    outcome = bench.perform("""
        import asyncio
        async def work(ctx):
            await asyncio.sleep(0)
            ctx.log("worked")
            return ctx.run_id
        compute = lambda ctx: work(ctx)
    """)
    assert outcome.signal == '"probe/1"'
    assert [event.type for event in bench.events.kept] == ["worked"]


def test_the_payload_of_the_signal_is_decoded(bench: Bench) -> None:
    """In the kernel it was text; the compute sees the value, in both places."""
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
def test_a_signal_that_is_no_json_fails_that_run(bench: Bench, payload: str) -> None:
    """The kernel never looked inside; the run that can't read it says so."""
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
def test_whatever_is_raised_fails_the_run_and_nothing_else(
    bench: Bench, keyword: str, raising: str, exception: str, message: str
) -> None:
    """Exceptions that would end a program end one run, and the next one is fine."""
    error = bench.failure(f"{keyword} compute(ctx):\n    {raising}\n")
    assert (error.kind, error.exception) == ("compute", exception)
    assert error.message.startswith(message)
    assert f'File "{bench.folder / "probe.py"}", line 2, in compute' in (error.traceback or "")
    assert bench.perform(f"{keyword} compute(ctx): return 1").signal == "1"


def test_frames_of_nerve_are_left_out_wherever_they_are(bench: Bench) -> None:
    """Neither what led to the compute, nor what it called of ours, distracts from the line that matters."""
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


def test_a_workspace_beside_the_package_is_not_taken_for_it(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose path begins like the package's holds user code all the same."""
    monkeypatch.setattr("nerve.runtime.tracebacks._OWN_FOLDER", str(tmp_path / "ner") + "/")
    bench.folder = tmp_path / "nerve-demo"
    bench.folder.mkdir()
    assert "nerve-demo/probe.py" in (bench.failure("def compute(ctx): 1 / 0").traceback or "")


def test_a_compute_with_the_wrong_parameters_says_so(bench: Bench) -> None:
    """The error is the call's; there is no line of the compute to show."""
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
def test_a_result_that_is_no_signal_is_an_error_of_its_payload(bench: Bench, value: str) -> None:
    """What can't be stored is described, and no signal goes out."""
    error = bench.failure(f"def compute(ctx): return {value}")
    assert error.kind == "payload"
    assert "its signal" in error.message
    assert error.preview


def test_an_asynchronous_generator_is_no_signal(bench: Bench) -> None:
    """A `yield` too many in an asynchronous compute is told as what it is."""
    assert "async_generator" in bench.failure("async def compute(ctx):\n    yield 1").message


def test_a_result_whose_repr_hangs_or_raises_is_under_the_timeout_too(bench: Bench) -> None:
    """Describing a bad result runs the user's code, and so it is part of the run."""
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
def test_a_timeout_tells_where_the_compute_hung(bench: Bench, source: str, line: int) -> None:
    """Plain or asynchronous, waiting or busy: the traceback has the line, and ends in time."""
    started = time.monotonic()
    error = bench.failure(source, status="timeout", timeout=SOON)
    assert time.monotonic() - started < LONG / 2
    assert (error.kind, error.exception) == ("timeout", "TimeoutError")
    assert error.message == "probe took longer than its timeout of 150ms"
    assert f'File "{bench.folder / "probe.py"}", line {line}, in compute' in (error.traceback or "")
    assert "nerve/" not in (error.traceback or "").replace("nerve.runtime.interruption", "")


def test_a_compute_that_swallows_its_interruption_is_late_all_the_same(bench: Bench) -> None:
    """Its signal does not count."""
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


def test_an_asynchronous_compute_that_swallows_its_cancellation_is_late_too(bench: Bench) -> None:
    """It is cancelled once."""
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
    assert [event.type for event in bench.events.kept] == ["went on"]


@pytest.mark.parametrize("hang", ["spin()", "await asyncio.sleep(100)", "await asyncio.Event().wait()"])
def test_asynchronous_clean_up_is_run(bench: Bench, hang: str) -> None:
    """What a compute awaits in its `finally` is awaited."""
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
    assert [event.type for event in bench.events.kept] == ["cleaned up"]


def test_a_busy_background_task_does_not_save_the_compute_that_waits(bench: Bench) -> None:
    """Whichever task is interrupted, it is the run that ends."""
    started = time.monotonic()
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
    assert time.monotonic() - started < LONG / 2
    sys.modules["senses.probe"].tasks[0].exception()


def test_what_a_finished_compute_leaves_running_is_interrupted_as_well(bench: Bench) -> None:
    """A thread that the event loop waits for, or a task that won't be cancelled, is part of the run."""
    for leftover in ("loop.run_in_executor(None, over.wait, 100)", "tasks.append(loop.create_task(stubborn()))"):
        started = time.monotonic()
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
        assert time.monotonic() - started < LONG / 2
        sys.modules["senses.probe"].over.set()


@pytest.mark.parametrize(
    "body", ["while True: pass", "import time; time.sleep(100)", "raise ValueError", "ctx.log('more')"]
)
@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_a_run_that_is_stopped_is_cancelled(bench: Bench, keyword: str, body: str) -> None:
    """The engine's stop is nobody's failure: no error is recorded, and no signal goes out."""
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
    """The stop reaches a coroutine as a cancellation."""
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
    assert [event.type for event in bench.events.kept] == ["cancelled"]


# What is interrupted inside a finalizer, or before its event loop is complete, is told by Python, and can't be raised.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_a_deadline_at_any_moment_of_a_run_breaks_nothing(bench: Bench, keyword: str) -> None:
    """Hundreds of runs about as long as their timeout are each ok or late, with nothing in between."""
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


def test_a_stop_after_the_loop_has_closed_is_taken_quietly(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last moment of an asynchronous run has nothing left to interrupt, and no loop to tell."""
    close = asyncio.Runner.close

    def close_and_stop(runner: asyncio.Runner) -> None:
        close(runner)
        signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(asyncio.Runner, "close", close_and_stop)
    assert bench.perform("async def compute(ctx): return 1").status == "cancelled"


def test_after_the_loop_a_run_is_interrupted_as_ever(bench: Bench) -> None:
    """The description of an asynchronous compute's bad result can't hang for ever, either."""
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
