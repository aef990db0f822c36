"""Python's logging inside a compute: each record is a complete event, and no lock is left held."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from support.events_sink import EventsSink
from support.interrupters import installed_interrupter

from nerve.clock import SystemClock
from nerve.events.model import LogEvent
from nerve.events.redaction import redactor_of
from nerve.runtime.interruption import Interrupter, Interruption
from nerve.runtime.log_handlers import EventHandler, GuardedHandler, level_name, record_payload
from nerve.runtime.tracebacks import OWN_FOLDER

# The default method is an alarm, which the interrupter needs for itself.
pytestmark = pytest.mark.timeout(60, method="thread")

SECONDS_FOR_A_LOCK = 10


class LockedSink(EventsSink):
    """A sink with a lock, which like the real sender's is guarded against interruptions."""

    def __init__(self, guard: Interrupter) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self._guard = guard

    def send(self, events: Sequence[LogEvent]) -> None:
        """Keep the events, or fail as set."""
        with self._guard, self.lock:
            super().send(events)


class Bench:
    """A logger with the handlers of a worker, the second of which writes to `lines`."""

    def __init__(self, interrupter: Interrupter) -> None:
        self.interrupter = interrupter
        self.events = LockedSink(interrupter)
        self.handler = EventHandler(self.events, SystemClock())
        self.handler.run_id = "disk/1"
        self.lines: list[str] = []
        self.other = logging.StreamHandler(self)
        # A separate tree of loggers: pytest's handlers are on the usual root logger, and are not guarded.
        self.logger = logging.Manager(logging.RootLogger(logging.DEBUG)).getLogger("app.disk")
        self.logger.handlers = [GuardedHandler(handler, interrupter) for handler in (self.handler, self.other)]

    def write(self, text: str) -> None:
        """Do what a stream does."""
        self.lines.append(text)

    def flush(self) -> None:
        """Do what a stream does."""

    def payload(self) -> Any:
        """Return the payload of the last event."""
        return msgspec.json.decode(self.events.events[-1].payload)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A logger, and an interrupter that handles the signals of this process."""
    with installed_interrupter() as interrupter:
        yield Bench(interrupter)


def test_a_record_becomes_an_event_of_the_run(bench: Bench) -> None:
    """It has the level, the logger, the formatted message, and the id of the run."""
    bench.logger.warning("%d %% full", 93)
    [event] = bench.events.events
    assert (event.source, event.type, event.ref_id) == ("logging", "warning", "disk/1")
    assert bench.payload() == {"logger": "app.disk", "message": "93 % full"}
    assert bench.lines == ["93 % full\n"]


def test_a_record_between_runs_has_no_ref_id(bench: Bench) -> None:
    """A thread that a compute left behind can log at any time."""
    bench.handler.run_id = None
    bench.logger.info("between runs")
    assert bench.events.events[0].ref_id is None


@pytest.mark.parametrize(
    ("number", "name"),
    [
        *((number, "debug") for number in (-5, 0, 10, 19)),
        *((number, "info") for number in (20, 25, 29)),
        *((number, "warning") for number in (30, 39)),
        *((number, "error") for number in (40, 49)),
        *((number, "critical") for number in (50, 10**30)),
    ],
)
def test_a_level_has_the_name_of_the_standard_level_at_or_below_it(number: int, name: str) -> None:
    """So the types of events are known, whatever levels a library invents."""
    assert level_name(number) == name


def test_the_extra_of_a_record_is_in_its_payload(bench: Bench) -> None:
    """Values that can't be stored are described, and the record's own fields win."""
    cycle: list[object] = []
    cycle.append(cycle)
    extra = {
        "used": 0.93,
        "tags": {"a": [1]},
        "bad": float("nan"),
        "thing": object,
        "cycle": cycle,
        "text": "caf\udce9",
        "large": "x" * 100_000,
        "logger": "not this",
        "traceback": "mine",
    }
    bench.logger.info("measured", extra=extra)
    payload = bench.payload()
    assert (payload["used"], payload["tags"], payload["bad"]) == (0.93, {"a": [1]}, "nan")
    assert payload["thing"] == "<class 'object'>"
    assert payload["cycle"] == "[[...]]"
    assert payload["text"] == "'caf\\udce9'"
    assert len(payload["large"]) < 1000
    assert (payload["logger"], payload["message"], payload["traceback"]) == ("app.disk", "measured", "mine")


def test_standard_attributes_of_a_record_are_not_part_of_its_extra() -> None:
    """Not even after another handler has formatted the record."""
    record = logging.LogRecord("app", logging.INFO, "file.py", 1, "hello", (), None, "function", None)
    logging.Formatter("%(asctime)s %(message)s").format(record)
    assert record_payload(record) == {"logger": "app", "message": "hello"}


def test_the_stack_of_a_record_is_kept(bench: Bench) -> None:
    """With `stack_info=True`, the place of the call is recorded."""
    bench.logger.info("here", stack_info=True)
    assert "test_the_stack_of_a_record_is_kept" in bench.payload()["stack"]


@pytest.mark.parametrize("exc_info", [None, True, ("no", "triple"), (None, None, None)])
def test_a_record_of_another_process_keeps_the_text_of_its_exception(exc_info: object) -> None:
    """A record that was pickled has no exception any more; an invalid one does no harm."""
    record = logging.makeLogRecord({"name": "app", "msg": "failed", "exc_info": exc_info, "exc_text": "Traceback: ..."})
    assert record_payload(record)["traceback"] == "Traceback: ..."


def test_an_exception_is_recorded_with_its_traceback(bench: Bench) -> None:
    """Like that of a failed run, it has no frames of nerve."""
    try:
        int("a disk")
    except ValueError:
        bench.logger.exception("it failed")
    payload = bench.payload()
    assert payload["message"] == "it failed"
    assert payload["traceback"].startswith("Traceback")
    assert "invalid literal for int()" in payload["traceback"].splitlines()[-1]


@pytest.mark.parametrize("text", ["caf\udce9", "\x00", "漢", ""])
def test_any_message_is_recorded(bench: Bench, text: str) -> None:
    """Invalid Unicode, as in some file names, is escaped."""
    bench.logger.info("read %s", text)
    assert bench.payload()["message"] == f"read {text.encode('utf-8', 'backslashreplace').decode()}"
    assert bench.events.events[0].source == "logging"


def test_a_record_that_is_too_large_becomes_an_error(bench: Bench) -> None:
    """max_payload applies to logging, too."""
    bench.handler.max_payload = 100
    bench.logger.info("x" * 200)
    assert (bench.events.events[0].source, bench.payload()["kind"]) == ("system", "payload")
    bench.logger.info("short")
    assert bench.handler.dropped == 1


def test_secrets_in_the_extra_are_masked(bench: Bench) -> None:
    """Both the configured keys and those that are always masked."""
    bench.handler.redactor = redactor_of(("pin",))
    bench.logger.info("login", extra={"pin": 1234, "api_key": "abc", "pinned": True})
    assert bench.payload() == {"pin": "***", "api_key": "***", "pinned": True, "logger": "app.disk", "message": "login"}


class Unprintable:
    """An object whose `__str__` raises."""

    def __str__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    ("message", "args"), [("%d", ("x",)), ("%s %s", (1,)), (Unprintable(), ()), ("%s", (Unprintable(),))]
)
def test_a_record_that_can_not_be_formatted_is_recorded_all_the_same(
    bench: Bench, message: object, args: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its message says why, and shows what it was made of; the handlers behind show it as well."""
    bench.logger.info(message, *args)
    recorded = bench.payload()["message"]
    assert recorded.startswith("a message that can't be formatted (")
    assert all(repr(value) in recorded for value in (message, *args))
    assert bench.lines == [f"{recorded}\n"]
    assert capsys.readouterr().err == ""


def test_nerves_own_diagnostics_are_not_events(bench: Bench) -> None:
    """They are only written to the console; a user's logger with such a name is not affected."""
    for name, path in (("nerve.kernel", OWN_FOLDER), ("nerve.kernel", "/app/"), ("nerve", "/app/"), ("nervous", "/")):
        bench.logger.handle(
            logging.makeLogRecord({"name": name, "pathname": f"{path}a.py", "msg": path, "levelno": 20})
        )
    assert [msgspec.json.decode(event.payload)["message"] for event in bench.events.events] == ["/app/", "/app/", "/"]
    assert len(bench.lines) == 4


def test_a_user_s_logger_below_nerve_is_recorded(bench: Bench) -> None:
    """What counts is the file that logs, not the name of the logger."""
    bench.logger.name = "nerve.mine"
    bench.logger.info("hello")
    assert bench.payload() == {"logger": "nerve.mine", "message": "hello"}


def test_a_handler_of_nerve_ignores_what_a_compute_does_to_it(bench: Bench) -> None:
    """A loop over all handlers that sets their level, or adds a filter, leaves it as it is."""
    for handler in bench.logger.handlers:
        handler.setLevel(logging.CRITICAL)
        handler.addFilter(lambda _record: False)
        handler.close()
    bench.logger.info("hello")
    assert bench.payload()["message"] == "hello"


def test_an_event_that_can_not_be_sent_raises_nothing(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A logging call must not fail because of the event queue."""
    bench.events.error = OSError("no lane")
    bench.logger.info("hello")
    assert "OSError: no lane" in capsys.readouterr().err
    assert bench.lines == ["hello\n"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_process_that_a_compute_has_forked_only_logs_to_the_console(bench: Bench) -> None:
    """It can't send events, and logging must not raise there."""
    bench.events.error = RuntimeError("events can't be logged from a process that a compute has forked")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            bench.logger.info("from a grandchild")
            code = 0 if bench.lines == ["from a grandchild\n"] and not bench.events.events else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_an_interruption_waits_for_the_handlers(bench: Bench) -> None:
    """The record is handled completely, and the next one is not begun."""

    def compute() -> None:
        bench.logger.info("before")
        bench.logger.info("never")

    def stop(record: logging.LogRecord) -> bool:
        signal.raise_signal(signal.SIGUSR1)
        return True

    bench.other.addFilter(stop)
    with pytest.raises(Interruption):
        bench.interrupter.run(compute, 30)
    assert bench.lines == ["before\n"]
    assert len(bench.events.events) == 1


def can_be_acquired(lock: Any) -> bool:
    """Return True if another thread can acquire a lock."""
    taken: list[bool] = []

    def take() -> None:
        taken.append(lock.acquire(timeout=SECONDS_FOR_A_LOCK))
        if taken[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return taken[0]


@pytest.mark.parametrize("seed", range(4))
def test_interruptions_at_random_moments_of_logging_leave_no_lock_held(
    bench: Bench, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """After fifty computes were interrupted while logging, logging works, and every event is complete."""
    chance = random.Random(seed)

    def compute() -> None:
        n = 0
        while True:
            n += 1
            bench.logger.info("number %d", n, extra={"n": n})

    for _ in range(50):
        with pytest.raises(Interruption):
            bench.interrupter.run(compute, chance.uniform(0.0002, 0.003))
    for lock in (bench.handler.lock, bench.other.lock, bench.events.lock, *(h.lock for h in bench.logger.handlers)):
        assert can_be_acquired(lock)
    thread = threading.Thread(target=bench.logger.info, args=("still here",))
    thread.start()
    thread.join(SECONDS_FOR_A_LOCK)
    assert bench.lines[-1] == "still here\n"
    assert bench.payload()["message"] == "still here"
    for event in bench.events.events[:-1]:
        payload = msgspec.json.decode(event.payload)
        assert payload["message"] == f"number {payload['n']}"
    assert capsys.readouterr().err == ""
