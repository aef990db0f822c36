"""EventSender blocks where it must, never for ever, and looks after its lane while nobody calls."""

from __future__ import annotations

import gc
import select
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.eventqueue import Call, StepWriter, event, names
from support.waiting import wait_until

from nerve.clock import SystemClock
from nerve.eventqueue import Done, EventSender, Purge, sender
from nerve.events.model import LogEvent


class GuardError(Exception):
    """What a guard raises in these tests."""


class Guard:
    """A guard that counts how often a blocked caller looked, and raises when the test says so."""

    def __init__(self) -> None:
        self.depth = 0
        self.checks = 0
        self.interrupt = False

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_exception: object) -> None:
        self.depth -= 1

    def check(self) -> None:
        """Raise what has arrived."""
        self.checks += 1
        if self.interrupt:
            self.interrupt = False
            raise GuardError

    def until_blocked(self) -> None:
        """Wait until a caller has looked twice more: it is blocked."""
        seen = self.checks
        wait_until(lambda: self.checks >= seen + 2, "a caller is blocked")


class Serving:
    """A thread that keeps a writer going, except where the test pauses it."""

    def __init__(self, writer: StepWriter) -> None:
        self.writer = writer
        self.lock = threading.Lock()
        self._going = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._going.set()
        self._thread.start()

    def _serve(self) -> None:
        while not self._over.wait(0.001):
            with self.lock:
                if self._going.is_set():
                    self.writer.commit()

    def pause(self) -> None:
        """Have the writer do nothing, from now on."""
        self._going.clear()
        with self.lock:
            pass

    def resume(self) -> None:
        """Have the writer go on."""
        self._going.set()

    def close(self) -> None:
        """End the thread, not the writer."""
        self._over.set()
        self._thread.join()

    def committed(self) -> list[str]:
        """The names of the events that are committed."""
        with self.lock:
            return names(self.writer.log.events)


Serve = Callable[[], Serving]
MakeSender = Callable[..., EventSender]


@pytest.fixture
def writer(folder: Path) -> Iterator[StepWriter]:
    """A writer that nobody drives yet."""
    with closing(StepWriter(folder, SystemClock())) as made:
        yield made


@pytest.fixture
def serving(writer: StepWriter) -> Iterator[Serving]:
    """A writer that is kept going."""
    with closing(Serving(writer)) as made:
        yield made


@pytest.fixture
def guard() -> Guard:
    """The guard of all senders of a test."""
    return Guard()


@pytest.fixture
def make_sender(folder: Path, guard: Guard) -> Iterator[MakeSender]:
    """Make senders that are started; they are closed at the end."""
    with ExitStack() as stack:

        def make(**options: Any) -> EventSender:
            made = EventSender(folder / "events", "p", guard, **options)
            stack.callback(made.close, 0)
            made.start()
            return made

        yield make


def many(count: int, size: int = 0) -> list[LogEvent]:
    """Make events of this size, named by their numbers."""
    return [event(str(n), payload="x" * size) for n in range(count)]


def one_by_one(queue: EventSender, events: Sequence[LogEvent]) -> None:
    """Send each event as a batch."""
    for one in events:
        queue.send([one])


def test_what_is_sent_is_committed_in_order(serving: Serving, make_sender: MakeSender, guard: Guard) -> None:
    """`settle` returns once it is; no caller is left inside the guard."""
    queue = make_sender()
    one_by_one(queue, many(100))
    assert queue.settle(10)
    assert serving.committed() == [str(n) for n in range(100)]
    assert guard.depth == 0


def test_threads_may_send_at_the_same_time(serving: Serving, make_sender: MakeSender) -> None:
    """Each event of each thread is committed once, in the order of its thread."""
    queue = make_sender(limit_bytes=2_000)
    calls = [Call(one_by_one, queue, [event(f"{t}/{n}") for n in range(100)]) for t in range(4)]
    for call in calls:
        call.result()
    assert queue.settle(10)
    committed = serving.committed()
    for t in range(4):
        assert [name for name in committed if name.startswith(f"{t}/")] == [f"{t}/{n}" for n in range(100)]


def test_without_a_writer_send_blocks_until_there_is_one(folder: Path, make_sender: MakeSender, guard: Guard) -> None:
    """The sender finds the writer by itself, whenever it comes."""
    queue = make_sender()
    call = Call(queue.send, [event("a")])
    guard.until_blocked()
    assert call.blocked
    with closing(StepWriter(folder, SystemClock())) as writer, closing(Serving(writer)) as serving:
        call.result()
        assert queue.settle(10)
        assert serving.committed() == ["a"]


def test_send_returns_when_the_last_byte_is_out(serving: Serving, make_sender: MakeSender, guard: Guard) -> None:
    """A batch that the socket can't hold keeps its sender until the writer has read enough of it."""
    queue = make_sender()
    queue.send([event("first")])
    assert queue.settle(10)
    serving.pause()
    call = Call(queue.send, [event("large", payload="x" * 10_000_000)])
    guard.until_blocked()
    assert call.blocked
    assert not queue._lane.clear
    serving.resume()
    call.result()
    assert queue._lane.clear
    assert queue.settle(10)
    assert serving.committed() == ["first", "large"]


def test_memory_is_bounded_while_the_writer_is_behind(serving: Serving, make_sender: MakeSender, guard: Guard) -> None:
    """A sender that is full waits with the next batch, and goes on as soon as the writer does."""
    queue = make_sender(limit_bytes=10_000)
    queue.send([event("first")])
    assert queue.settle(10)
    serving.pause()
    call = Call(one_by_one, queue, many(100, size=1_000))
    guard.until_blocked()
    assert call.blocked
    assert 10_000 <= queue._lane._unacked_bytes <= 10_000 + 1_100
    serving.resume()
    call.result()
    assert queue.settle(10)
    assert serving.committed() == ["first", *(str(n) for n in range(100))]


@pytest.mark.parametrize("limit_bytes", [1, 1_000_000], ids=["while full", "while nobody listens"])
def test_an_interruption_gets_out_of_a_blocked_send(
    folder: Path, make_sender: MakeSender, guard: Guard, limit_bytes: int
) -> None:
    """What the guard raises reaches the caller, and the sender is as usable as before."""
    queue = make_sender(limit_bytes=limit_bytes)
    guard.interrupt = True
    with pytest.raises(GuardError):
        queue.send([event("interrupted")])
    call = Call(queue.send, [event("next")])
    guard.until_blocked()
    guard.interrupt = True
    with pytest.raises(GuardError):
        call.result()
    assert guard.depth == 0
    with closing(StepWriter(folder, SystemClock())) as writer, closing(Serving(writer)) as serving:
        queue.send([event("last")])
        assert queue.settle(10)
        expected = ["interrupted", "last"] if limit_bytes == 1 else ["interrupted", "next", "last"]
        assert serving.committed() == expected


def test_an_idle_sender_survives_its_writer(writer: StepWriter, make_sender: MakeSender) -> None:
    """Nobody calls the sender: it connects to the next writer, and sends again what the last one had not committed."""
    queue = make_sender()
    call = Call(queue.send, [event("a")])
    wait_until(lambda: writer.turn() or not call.blocked, "the sender has been welcomed")
    wait_until(lambda: writer.turn() or writer.receiver.waiting, "the batch has been read")
    writer.restart()
    with closing(Serving(writer)) as serving:
        wait_until(lambda: serving.committed() == ["a"], "the next writer has committed it")
        assert queue.settle(10)
    assert writer.offences == []


def test_settling_takes_no_longer_than_it_may(writer: StepWriter, make_sender: MakeSender) -> None:
    """With a writer that does not commit it says so; with nothing to commit it returns at once."""
    queue = make_sender()
    assert queue.settle(0)
    call = Call(queue.send, [event("a")])
    wait_until(lambda: writer.turn() or not call.blocked, "the sender has been welcomed")
    assert not queue.settle(0.01)


def test_closing_says_goodbye(serving: Serving, make_sender: MakeSender) -> None:
    """Everything is committed, the position is forgotten, and closing again changes nothing."""
    queue = make_sender()
    queue.send([event("a")])
    assert queue.close(10)
    assert queue.close(10)
    assert serving.committed() == ["a"]
    wait_until(lambda: serving.writer.log.positions == {}, "the writer has forgotten the producer")
    assert not queue._thread.is_alive()


def test_closing_without_a_writer_gives_up(make_sender: MakeSender, guard: Guard) -> None:
    """It tells that not everything is committed; no thread and no descriptor is left, and nobody stays blocked."""
    gc.collect()
    before = psutil.Process().num_fds()
    queue = make_sender()
    call = Call(queue.send, [event("a")])
    guard.until_blocked()
    assert not queue.close(0.01)
    assert not queue.close(100)
    with pytest.raises(RuntimeError, match="about to end"):
        call.result()
    assert not queue._thread.is_alive()
    assert psutil.Process().num_fds() == before


def test_a_sender_that_was_never_started_can_be_closed(folder: Path, guard: Guard) -> None:
    """Its thread has nothing to be told."""
    queue = EventSender(folder / "events", "p", guard)
    assert queue.close(0)


def test_a_closed_sender_takes_nothing(serving: Serving, make_sender: MakeSender) -> None:
    """Nobody would ever send it: that is told, not waited for."""
    queue = make_sender()
    assert queue.close(10)
    for call in (lambda: queue.send([event("late")]), lambda: queue.ask(Purge(1, "2026-11-23", 1), 10)):
        with pytest.raises(RuntimeError, match="about to end"):
            call()


def test_a_forked_process_can_not_use_the_lane_of_its_parent(serving: Serving, make_sender: MakeSender) -> None:
    """It is told so before it touches a lock that may be held for ever on its side of the fork."""
    queue = make_sender()
    queue._pid = -1
    with queue._changed:
        with pytest.raises(RuntimeError, match="forked"):
            Call(queue.send, [event("a")]).result()
        assert Call(queue.settle, 10).result() is False
    queue._pid = psutil.Process().pid


class LoggingList(list[LogEvent]):
    """A batch in the middle of whose submission something else is logged, as a finalizer does."""

    def __init__(self, events: Sequence[LogEvent], log: Callable[[], None]) -> None:
        super().__init__(events)
        self._log = log

    def __iter__(self) -> Iterator[LogEvent]:
        self._log()
        return super().__iter__()


def test_a_finalizer_that_logs_inside_send_is_sent_after_it(serving: Serving, make_sender: MakeSender) -> None:
    """The garbage collector may run a user's code in the middle of a submission: no batch gets another's number."""
    queue = make_sender()
    queue.send(LoggingList([event("outer")], lambda: queue.send([event("inner")])))
    queue.send([event("next")])
    assert queue.settle(10)
    assert serving.committed() == ["outer", "inner", "next"]
    assert serving.writer.offences == []


def test_a_finalizer_that_logs_in_the_lanes_own_thread_does_not_wait_for_it(
    serving: Serving, make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That thread alone can make room, so there it is only noted, even when the lane is full."""
    queue = make_sender(limit_bytes=1)
    queue.send([event("first")])
    assert queue.settle(10)
    serving.pause()
    queue.send([event("second")])
    receive, poll = queue._lane.receive, queue._poll
    pending = ["inside", "outside"]

    def log(name: str, *, now: bool) -> None:
        if pending and pending[0] == name and now:
            pending.remove(name)
            queue.send([event(name)])

    monkeypatch.setattr(queue._lane, "receive", lambda: (log("inside", now=queue._lane.full), receive())[1])
    monkeypatch.setattr(queue, "_poll", lambda: (log("outside", now=queue._lane.settled), poll())[1])
    serving.resume()
    wait_until(lambda: len(serving.committed()) == 4, "all are committed")
    assert serving.committed() == ["first", "second", "inside", "outside"]


def answer(serving: Serving) -> None:
    """Answer every order that the writer has, once it has one."""

    def answered() -> bool:
        with serving.lock:
            receiver = serving.writer.receiver
            waiting = list(receiver.requests)
            for request in waiting:
                receiver.answer(request, Done(request.order.request, 42))
        return bool(waiting)

    wait_until(answered, "the writer has got an order")


def test_an_order_is_answered(serving: Serving, make_sender: MakeSender) -> None:
    """Each order gets its own answer."""
    queue = make_sender()
    for request in (1, 2):
        call = Call(queue.ask, Purge(request, "2026-11-23", 5), 10)
        answer(serving)
        assert call.result() == Done(request, 42)


def test_an_order_waits_for_a_writer_but_not_for_long(make_sender: MakeSender) -> None:
    """Without a writer there is no answer."""
    assert make_sender().ask(Purge(1, "2026-11-23", 5), 0.01) is None


def test_an_order_that_takes_too_long_is_given_up(serving: Serving, make_sender: MakeSender) -> None:
    """The writer is there, and does not answer in time."""
    queue = make_sender()
    queue.send([event("a")])
    assert queue.ask(Purge(1, "2026-11-23", 5), 0.01) is None


def test_an_order_ends_with_the_writer_that_had_it(
    serving: Serving, make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked is told at once that there is no answer, even when the next writer is found before it looks."""
    queue = make_sender()
    queue.send([event("a")])
    monkeypatch.setattr(sender, "CHECK_SECONDS", 3600)
    call = Call(queue.ask, Purge(1, "2026-11-23", 5), 3600)
    wait_until(lambda: serving.writer.receiver.requests, "the writer has got the order")
    tend = queue._tend

    def drop_and_connect_in_one_go() -> None:
        tend()
        if not queue._lane.connected:
            tend()

    monkeypatch.setattr(queue, "_tend", drop_and_connect_in_one_go)
    with serving.lock:
        serving.writer.restart()
    assert call.result() is None


def test_a_hangup_is_told(serving: Serving, make_sender: MakeSender) -> None:
    """A descriptor whose other end closes calls back once; what can be read from it is nobody's business here."""
    told: list[str] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        queue = make_sender(hangups={ours.fileno(): lambda: told.append("hangup")})
        theirs.sendall(b"something to read")
        queue.send([event("a")])
        assert queue.settle(10)
        assert told == []
        theirs.close()
        wait_until(lambda: told, "the hangup is told")
        queue.send([event("b")])
        assert queue.settle(10)
        assert told == ["hangup"]


def test_nothing_polls_while_there_is_nothing_to_do(
    serving: Serving, make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connected sender sleeps until something comes; only one without a connection looks again by itself."""
    timeouts: list[int | None] = []
    poll = sender.select.poll

    class Poll:
        def __init__(self) -> None:
            self._poll = poll()
            self.register = self._poll.register

        def poll(self, timeout: int | None) -> Any:
            timeouts.append(timeout)
            return self._poll.poll(timeout)

    monkeypatch.setattr(sender.select, "poll", Poll)
    queue = make_sender()
    queue.send([event("a")])
    assert queue.settle(10)
    assert set(timeouts) == {None}
    with serving.lock:
        serving.writer.restart()
    wait_until(lambda: queue._lane.connections == 2, "the sender has reconnected")
    wait_until(lambda: timeouts[-1] is None, "it sleeps again")
    queue._wake()
    wait_until(lambda: not select.select([queue._wake_in], [], [], 0)[0], "it has heard that it was woken")
    assert set(timeouts) == {None, sender.RECONNECT_MS}
