"""Diagnostics: the records of all processes are printed by one, in order, whatever happens to the others."""

from __future__ import annotations

import io
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from support.waiting import wait_until

from nerve.processes.log_relay import (
    MAX_RECORD_CHARS,
    Allowance,
    ConsoleHandler,
    DatagramQueue,
    RelayHandler,
    install,
    make_relay,
)

# Test runners may have threads; what is forked here touches none of their locks.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

PLAIN = logging.Formatter("%(process)d %(levelname)s %(name)s %(message)s")


def record(message: object, *args: object, level: int = logging.INFO, name: str = "app") -> logging.LogRecord:
    """Make a record as a logger does."""
    return logging.LogRecord(name, level, "file.py", 1, message, args, None)


def waiting(relay: RelayHandler) -> bool:
    """Return True if a record can be received."""
    return bool(select.select([relay.records.receiving], [], [], 0)[0])


def fork(work: Callable[[], object]) -> int:
    """Run `work` in a child, which then exits; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


class Rig:
    """A relay whose receiving process writes to a file until the test hangs up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        handler = logging.FileHandler(path, delay=True, errors="backslashreplace")
        handler.setFormatter(PLAIN)
        self.relay = RelayHandler(handler, DatagramQueue())
        self._ours, theirs = socket.socketpair()
        self.receiver = fork(lambda: self._receive(theirs))
        theirs.close()

    @property
    def lines(self) -> list[str]:
        """The lines printed so far."""
        return self.path.read_text().splitlines() if self.path.exists() else []

    def printed(self, text: str) -> bool:
        """Return True if a text has been printed."""
        return any(text in line for line in self.lines)

    def finish(self) -> None:
        """Hang up, and check that the receiving process exits by itself."""
        if self.receiver:
            self._ours.close()
            pid, self.receiver = self.receiver, 0
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            self.relay.records.close()

    def _receive(self, link: socket.socket) -> None:
        self._ours.close()
        self.relay.receive_until_hangup(link.fileno())


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Return a relay and its receiving process, which must exit with code 0."""
    rig = Rig(tmp_path / "printed.log")
    yield rig
    rig.finish()


@pytest.fixture
def relay() -> Iterator[RelayHandler]:
    """Return a relay without a receiving process: the test receives."""
    relay = RelayHandler(logging.NullHandler(), DatagramQueue())
    yield relay
    relay.records.close()


# One process: how a record arrives.


def test_a_record_arrives_as_it_was_made(relay: RelayHandler) -> None:
    """With its name, level, moment, process and the formatted message, without its arguments."""
    sent = record("%d of %s", 3, {"a": object()}, level=logging.WARNING, name="app.disk")
    relay.handle(sent)
    got = relay.records.get()
    assert (got.name, got.levelno, got.levelname) == ("app.disk", logging.WARNING, "WARNING")
    assert got.getMessage().startswith("3 of {'a': <object")
    assert (got.created, got.process, got.processName) == (sent.created, os.getpid(), sent.processName)


def test_a_traceback_travels_as_text(relay: RelayHandler) -> None:
    """It follows the message, and the exception need not be picklable."""
    try:
        1 / 0  # noqa: B018 - for the traceback
    except ZeroDivisionError:
        relay.handle(logging.LogRecord("app", logging.ERROR, "f.py", 1, "it broke", None, sys.exc_info()))
    got = relay.records.get()
    assert got.getMessage() == "it broke"
    assert got.exc_text
    assert got.exc_text.startswith("Traceback")
    assert got.exc_text.endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("text", ["", "100%", "caf\udce9", "\x00\x1b", "漢" * 10, "a\nb"])
def test_any_text_can_be_sent(relay: RelayHandler, text: str) -> None:
    """Invalid Unicode is escaped, in the message and in the logger's name."""
    relay.handle(record(text, name=f"app{text}"))
    got = relay.records.get()
    assert got.getMessage() == text.encode("utf-8", "backslashreplace").decode()
    assert got.name.startswith("app")


def test_a_huge_message_is_cut(relay: RelayHandler) -> None:
    """Of ten megabytes only the beginning is sent."""
    relay.handle(record("😀" * 10_000_000))
    assert relay.records.get().getMessage() == "😀" * MAX_RECORD_CHARS
    relay.handle(record("\ud800" * 10_000_000))
    assert len(relay.records.get().getMessage()) <= MAX_RECORD_CHARS


def test_a_record_that_can_not_be_formatted_is_reported_where_it_was_logged(
    relay: RelayHandler, capfd: pytest.CaptureFixture[str]
) -> None:
    """As the logging module does it: on stderr, without raising; the next record is sent."""
    relay.handle(record("%d", "no number"))
    relay.handle(record("next"))
    assert "Logging error" in capfd.readouterr().err
    assert relay.records.get().getMessage() == "next"


def test_a_full_queue_drops_records_and_the_next_one_has_their_number(relay: RelayHandler) -> None:
    """Logging never blocks; the number is sent as soon as there is room."""
    relay.records._allowance = Allowance(10**9)
    sent = 0
    while relay.records._dropped < 5:
        relay.handle(record("x" * 1000))
        sent += 1
    received = 0
    while waiting(relay):
        relay.records.get()
        received += 1
    dropped = sent - received
    relay.handle(record("room again"))
    relay.handle(record("and again"))
    assert relay.records.get().getMessage() == f"({dropped} records dropped) room again"
    assert relay.records.get().getMessage() == "and again"


def test_a_process_that_exceeds_its_allowance_has_records_dropped(relay: RelayHandler) -> None:
    """A tight loop leaves room for other processes; the dropped records are counted as usual."""
    relay.records._allowance = Allowance(10)
    for n in range(15):
        flood = record("%d", n)
        flood.created = 100.0
        relay.handle(flood)
    later = record("a second later")
    later.created = 101.0
    relay.handle(later)
    got = [relay.records.get().getMessage() for _ in range(11)]
    assert got == [*map(str, range(10)), "(5 records dropped) a second later"]
    assert not waiting(relay)


def test_an_allowance_holds_when_the_clock_jumps() -> None:
    """Set back or far ahead, it never grants more than one second's worth, and never stops granting."""
    allowance = Allowance(10)
    for now in (1000.0, 1e300, 1000.0, 0.0):
        taken = sum(allowance.take(now) for _ in range(100))
        assert taken <= 10
    assert sum(allowance.take(1.0) for _ in range(100)) == 10
    assert sum(allowance.take(1.5) for _ in range(100)) == 5


def test_a_burst_of_records_is_not_dropped(relay: RelayHandler) -> None:
    """The socket has room for a hundred lines while the receiver is behind."""
    for n in range(100):
        relay.handle(record("line %d of a burst", n))
    assert [relay.records.get().getMessage() for _ in range(100)] == [f"line {n} of a burst" for n in range(100)]


@pytest.mark.parametrize(
    "junk", [b"", b"junk", b"\xc1", b"\x91\xa1\xff", b"\x97" + b"\x91" * 50_000, b"\x00" * 200_000]
)
def test_an_invalid_datagram_becomes_a_record_that_says_so(relay: RelayHandler, junk: bytes) -> None:
    """It is one unreadable record, and the next one is received."""
    relay.records._out.send(junk)
    relay.handle(record("next"))
    assert relay.records.get().getMessage().startswith("an unreadable record: ")
    assert relay.records.get().getMessage() == "next"


def test_a_relay_starts_no_thread_and_receives_nothing_by_itself() -> None:
    """The kernel forks, which is unsafe in a process with threads."""
    before = threading.active_count()
    relay = make_relay()
    relay.handle(record("waits"))
    assert threading.active_count() == before
    assert waiting(relay)
    relay.records.close()


def test_closing_a_handler_leaves_the_queue_open(relay: RelayHandler) -> None:
    """`logging.shutdown` in one process must not cut off another; closing twice is fine."""
    relay.close()
    relay.close()
    relay.records.put_nowait(record("still"))
    assert relay.records.get().getMessage() == "still"


def test_the_relay_becomes_the_only_handler_of_the_root_logger(
    relay: RelayHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handlers that were there before are removed."""
    root = logging.RootLogger(logging.WARNING)
    root.handlers = [logging.NullHandler(), logging.NullHandler()]
    monkeypatch.setattr(logging, "getLogger", lambda: root)
    install(relay, logging.DEBUG)
    assert (root.handlers, root.level) == ([relay], logging.DEBUG)


# Several processes.


def test_the_records_of_each_process_are_printed_in_order(rig: Rig) -> None:
    """None is lost while the receiver keeps up."""

    def log_numbers() -> None:
        for n in range(200):
            while not select.select([], [rig.relay.records.sending], [], 1)[1]:
                pass
            rig.relay.handle(record("number %d.", n))

    children = [fork(log_numbers) for _ in range(3)]
    for pid in children:
        os.waitpid(pid, 0)
    rig.finish()
    for pid in children:
        theirs = [line.split()[-1] for line in rig.lines if line.startswith(f"{pid} INFO app")]
        assert theirs == [f"{n}." for n in range(200)]


def test_a_process_killed_while_it_logs_stops_no_other(rig: Rig) -> None:
    """SIGKILL at any moment leaves neither a lock nor half a record."""

    def log_for_ever() -> None:
        while True:
            rig.relay.handle(record("busy " + "x" * 2000))

    for round_ in range(5):
        pid = fork(log_for_ever)
        wait_until(partial(rig.printed, f"{pid} INFO app busy"), "the process logs")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

        def printed(round_: int = round_) -> bool:
            rig.relay.handle(record("round %d is over", round_))
            return rig.printed(f"round {round_} is over")

        wait_until(printed, "another process is printed")
    assert not rig.printed("unreadable")


def test_the_receiver_prints_everything_before_it_ends(rig: Rig) -> None:
    """Records that were sent before the hang-up are printed after it."""
    os.kill(rig.receiver, signal.SIGSTOP)
    for n in range(50):
        rig.relay.handle(record("last words %d.", n))
    rig._ours.close()
    os.kill(rig.receiver, signal.SIGCONT)
    rig.finish()
    assert [line.split()[-1] for line in rig.lines] == [f"{n}." for n in range(50)]


def test_a_receiver_without_records_ends_on_hangup_too(rig: Rig) -> None:
    """It waits for records and the hang-up at once."""
    rig.finish()
    assert rig.lines == []


def test_the_receiver_goes_on_after_an_invalid_datagram(rig: Rig) -> None:
    """The records before and after it are printed."""
    rig.relay.handle(record("before"))
    os.write(rig.relay.records.sending, b"\x97\xa1\xff")
    rig.relay.handle(record("after"))
    rig.finish()
    assert [line.split()[-1] for line in rig.lines if "app" in line] == ["before", "after"]
    assert rig.printed("unreadable record")


# Printing.


class Unwritable(io.StringIO):
    """A stream whose `write` raises an error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        """Raise the error."""
        raise self._error


def closed_stream() -> io.StringIO:
    """Return a closed stream."""
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    "stream",
    [
        closed_stream(),
        Unwritable(BrokenPipeError()),
        Unwritable(OSError(5, "the terminal is gone")),
        Unwritable(UnicodeEncodeError("ascii", "é", 0, 1, "no")),
        Unwritable(RecursionError()),
        None,
    ],
    ids=["closed", "broken pipe", "gone", "encoding", "recursion", "none"],
)
def test_printing_never_raises(stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception would end the library's loop: failures are counted instead."""
    monkeypatch.setattr(sys, "stderr", stream)
    handler = ConsoleHandler()
    handler.emit(record("first"))
    handler.emit(record("second"))
    assert handler.failures == 2


def test_a_record_with_an_impossible_moment_is_counted_and_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can't be formatted, but the next record is printed."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    relay = make_relay()
    absurd = record("absurd")
    absurd.created = 1e300
    relay.handle(absurd)
    relay.handle(record("next"))
    ours, theirs = socket.socketpair()
    ours.close()
    relay.receive_until_hangup(theirs.fileno())
    theirs.close()
    assert stream.getvalue().endswith("app: next\n")
    assert isinstance(relay.sub_handler, ConsoleHandler)
    assert relay.sub_handler.failures == 1


def test_a_printed_line_has_time_level_process_and_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record is one line, which shows its origin."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    sent = record("hello", level=logging.WARNING)
    sent.processName = "worker"
    ConsoleHandler().emit(sent)
    assert f" WARNING worker[{os.getpid()}] app: hello\n" in stream.getvalue()


FORGED = "00:00:00 ERROR   MainProcess[1] nerve.kernel: the log is lost"


def printed(monkeypatch: pytest.MonkeyPatch, *sent: logging.LogRecord) -> list[str]:
    """Return the lines that the receiving process prints of these records."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    relay = make_relay()
    for each in sent:
        relay.handle(each)
    ours, theirs = socket.socketpair()
    ours.close()
    relay.receive_until_hangup(theirs.fileno())
    theirs.close()
    return stream.getvalue().removesuffix("\n").split("\n")


@pytest.mark.parametrize(
    "hostile", ["a\n", "a\r", "\x1b]0;title\x07", "\x9b31m", "\u2028", "\u202e", "\u200b", "\x00", "\x85", "caf\udce9"]
)
def test_no_record_reaches_the_terminal_as_anything_but_its_line(monkeypatch: pytest.MonkeyPatch, hostile: str) -> None:
    """Neither its message nor its logger's name can control the terminal or forge a line."""
    sent = [
        record(f"{hostile}{FORGED}"),
        record("message", name=f"app{hostile}{FORGED}"),
        record("%s", hostile + FORGED),
    ]
    lines = printed(monkeypatch, *sent)
    assert len(lines) == len(sent)
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith(FORGED) for line in lines)


def test_a_printed_traceback_is_indented_and_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of an exception may have lines, but no line begins like a record."""
    try:
        raise ValueError(f"\x1b[2J\n{FORGED}")  # noqa: TRY301 - for its traceback
    except ValueError:
        sent = logging.LogRecord(
            "app", logging.ERROR, "f.py", 1, "it broke", None, sys.exc_info(), None, "Stack:\n  here"
        )
    first, *trace = printed(monkeypatch, sent)
    assert first.endswith("app: it broke")
    assert trace[0] == "    Traceback (most recent call last):"
    assert trace[-2:] == ["    Stack:", "      here"]
    assert f"    {FORGED}" in trace
    assert all(line.startswith("    ") and line.isprintable() for line in trace)
