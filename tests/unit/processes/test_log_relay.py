"""Diagnostics: the records of all processes come out of one, in order, whatever happens to any of the others."""

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


def fork(work: Callable[[], object]) -> int:
    """Run `work` in a child, which ends right after it; gives its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


class Rig:
    """A relay whose receiving process prints into a file, until the test hangs up."""

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
        """What has been printed so far."""
        return self.path.read_text().splitlines() if self.path.exists() else []

    def printed(self, text: str) -> bool:
        """Tell whether a text has been printed."""
        return any(text in line for line in self.lines)

    def finish(self) -> None:
        """Hang up, and see the receiving process end by itself."""
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
    """Give a relay and its receiving process, which must end well."""
    rig = Rig(tmp_path / "printed.log")
    yield rig
    rig.finish()


@pytest.fixture
def relay() -> Iterator[RelayHandler]:
    """Give a relay that nobody receives from, but the test."""
    relay = RelayHandler(logging.NullHandler(), DatagramQueue())
    yield relay
    relay.records.close()


# One process: what a record is when it arrives.


def test_a_record_arrives_as_it_was_made(relay: RelayHandler) -> None:
    """Name, level, moment, process and the finished message; arguments stay behind."""
    sent = record("%d of %s", 3, {"a": object()}, level=logging.WARNING, name="app.disk")
    relay.handle(sent)
    got = relay.records.get()
    assert (got.name, got.levelno, got.levelname) == ("app.disk", logging.WARNING, "WARNING")
    assert got.getMessage().startswith("3 of {'a': <object")
    assert (got.created, got.process, got.processName) == (sent.created, os.getpid(), sent.processName)


def test_a_traceback_travels_as_text(relay: RelayHandler) -> None:
    """An exception needs not be picklable, and its traceback follows the message."""
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
    """What is no valid Unicode is escaped, in the message as in the logger's name."""
    relay.handle(record(text, name=f"app{text}"))
    got = relay.records.get()
    assert got.getMessage() == text.encode("utf-8", "backslashreplace").decode()
    assert got.name.startswith("app")


def test_a_huge_message_is_cut(relay: RelayHandler) -> None:
    """Ten megabytes are no diagnostics; the start of them is."""
    relay.handle(record("😀" * 10_000_000))
    assert relay.records.get().getMessage() == "😀" * MAX_RECORD_CHARS
    relay.handle(record("\ud800" * 10_000_000))
    assert len(relay.records.get().getMessage()) <= MAX_RECORD_CHARS


def test_a_record_that_can_not_be_formatted_is_reported_where_it_was_made(
    relay: RelayHandler, capfd: pytest.CaptureFixture[str]
) -> None:
    """Logging's own rule: complain on stderr, and never raise; the next record is fine."""
    relay.handle(record("%d", "no number"))
    relay.handle(record("next"))
    assert "Logging error" in capfd.readouterr().err
    assert relay.records.get().getMessage() == "next"


def test_a_full_queue_drops_and_the_next_record_says_how_many(relay: RelayHandler) -> None:
    """Nobody ever blocks: what finds no room is counted, and the count is told as soon as there is room."""
    relay.records._allowance = Allowance(10**9)
    sent = 0
    while relay.records._dropped < 5:
        relay.handle(record("x" * 1000))
        sent += 1
    received = 0
    while relay.records.qsize():
        relay.records.get()
        received += 1
    dropped = sent - received
    relay.handle(record("room again"))
    relay.handle(record("and again"))
    assert relay.records.get().getMessage() == f"({dropped} records dropped) room again"
    assert relay.records.get().getMessage() == "and again"


def test_a_process_that_logs_without_end_is_held_to_its_allowance(relay: RelayHandler) -> None:
    """A tight loop can't crowd out the others: what it sends too much is dropped, and counted like the rest."""
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
    assert not relay.records.qsize()


def test_an_allowance_survives_a_clock_that_jumps() -> None:
    """Set back or absurdly far ahead, it never gives more than a second's worth, and never stops giving."""
    allowance = Allowance(10)
    for now in (1000.0, 1e300, 1000.0, 0.0):
        taken = sum(allowance.take(now) for _ in range(100))
        assert taken <= 10
    assert sum(allowance.take(1.0) for _ in range(100)) == 10
    assert sum(allowance.take(1.5) for _ in range(100)) == 5


def test_there_is_room_for_a_burst(relay: RelayHandler) -> None:
    """A hundred lines at once are normal, also while the receiver has no time."""
    for n in range(100):
        relay.handle(record("line %d of a burst", n))
    assert [relay.records.get().getMessage() for _ in range(100)] == [f"line {n} of a burst" for n in range(100)]


@pytest.mark.parametrize(
    "junk", [b"", b"junk", b"\xc1", b"\x91\xa1\xff", b"\x97" + b"\x91" * 50_000, b"\x00" * 200_000]
)
def test_junk_becomes_a_record_that_says_so(relay: RelayHandler, junk: bytes) -> None:
    """Whatever finds its way into the socket is one unreadable record, and not the end."""
    relay.records._out.send(junk)
    relay.handle(record("next"))
    assert relay.records.get().getMessage().startswith("an unreadable record: ")
    assert relay.records.get().getMessage() == "next"


def test_no_thread_is_started_and_nothing_is_received_by_itself() -> None:
    """The kernel forks: a handler with a thread would be a hazard."""
    before = threading.active_count()
    relay = make_relay()
    relay.handle(record("waits"))
    assert threading.active_count() == before
    assert relay.records.qsize() == 1
    relay.records.close()


def test_closing_a_handler_leaves_the_queue_to_the_others(relay: RelayHandler) -> None:
    """`logging.shutdown` in one process must not cut off another; it may be called twice."""
    relay.close()
    relay.close()
    relay.records.put_nowait(record("still"))
    assert relay.records.get().getMessage() == "still"


def test_the_relay_becomes_the_only_handler_of_the_root_logger(
    relay: RelayHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process had before is replaced."""
    root = logging.RootLogger(logging.WARNING)
    root.handlers = [logging.NullHandler(), logging.NullHandler()]
    monkeypatch.setattr(logging, "getLogger", lambda: root)
    install(relay, logging.DEBUG)
    assert (root.handlers, root.level) == ([relay], logging.DEBUG)


# Several processes.


def test_what_forked_processes_log_comes_out_in_order(rig: Rig) -> None:
    """Each process's records keep their order, and none is lost while the receiver keeps up."""

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


def test_a_sender_that_is_killed_in_the_middle_stops_nobody(rig: Rig) -> None:
    """SIGKILL at any moment of logging leaves neither a lock nor half a record behind."""

    def log_for_ever() -> None:
        while True:
            rig.relay.handle(record("busy " + "x" * 2000))

    for round_ in range(5):
        pid = fork(log_for_ever)
        wait_until(partial(rig.printed, f"{pid} INFO app busy"), "the sender is at it")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

        def heard(round_: int = round_) -> bool:
            rig.relay.handle(record("round %d is over", round_))
            return rig.printed(f"round {round_} is over")

        wait_until(heard, "another process is heard")
    assert not rig.printed("unreadable")


def test_the_receiver_ends_on_hangup_with_everything_printed(rig: Rig) -> None:
    """What was sent before the hang-up is printed after it."""
    os.kill(rig.receiver, signal.SIGSTOP)
    for n in range(50):
        rig.relay.handle(record("last words %d.", n))
    rig._ours.close()
    os.kill(rig.receiver, signal.SIGCONT)
    rig.finish()
    assert [line.split()[-1] for line in rig.lines] == [f"{n}." for n in range(50)]


def test_a_receiver_without_anything_to_print_ends_on_hangup_too(rig: Rig) -> None:
    """It waits for nothing but records and the hang-up."""
    rig.finish()
    assert rig.lines == []


def test_the_receiver_prints_past_what_it_can_not_read(rig: Rig) -> None:
    """Junk between two records costs neither of them."""
    rig.relay.handle(record("before"))
    os.write(rig.relay.records.sending, b"\x97\xa1\xff")
    rig.relay.handle(record("after"))
    rig.finish()
    assert [line.split()[-1] for line in rig.lines if "app" in line] == ["before", "after"]
    assert rig.printed("unreadable record")


# Where it is printed.


class Unwritable(io.StringIO):
    """A stream that raises whatever it is told to."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        """Raise."""
        raise self._error


def closed_stream() -> io.StringIO:
    """Give a stream that has been closed."""
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
    """An exception would end the library's loop for good: failures are counted instead."""
    monkeypatch.setattr(sys, "stderr", stream)
    handler = ConsoleHandler()
    handler.emit(record("for nobody"))
    handler.emit(record("for nobody, either"))
    assert handler.failures == 2


def test_a_record_whose_moment_is_absurd_is_counted_and_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be formatted does not end the receiving: the next record is printed."""
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
    """One line a record, which says who it comes from."""
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
