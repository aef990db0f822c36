"""EventSender blocks where it must, never for ever, and an interruption there leaves nothing half done."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest
from support.eventqueue import Call, Producer, StepWriter, event, names
from support.waiting import wait_until

from nerve.clock import SystemClock
from nerve.eventqueue import EventSender, sender
from nerve.eventqueue.lane_file import HEAD
from nerve.events.model import LogEvent

CAPACITY = 4096


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


@pytest.fixture
def writer(folder: Path) -> Iterator[StepWriter]:
    """A writer that nobody drives yet."""
    with closing(StepWriter(folder, SystemClock())) as made:
        yield made


@pytest.fixture
def producer(writer: StepWriter) -> Producer:
    """The lane of the sender."""
    return writer.producer(capacity=CAPACITY)


@pytest.fixture
def serving(writer: StepWriter, producer: Producer) -> Iterator[Serving]:
    """A writer that is kept going."""
    with closing(Serving(writer)) as made:
        yield made


@pytest.fixture
def guard() -> Guard:
    """The guard of the sender."""
    return Guard()


@pytest.fixture
def queue(producer: Producer, guard: Guard) -> Iterator[EventSender]:
    """A sender with its lane."""
    with ExitStack() as stack:
        made = EventSender(producer.lane, guard)
        stack.callback(made.close)
        yield made


def many(count: int, size: int = 0) -> list[LogEvent]:
    """Make events of this size, named by their numbers."""
    return [event(str(n), payload="x" * size) for n in range(count)]


def one_by_one(queue: EventSender, events: Sequence[LogEvent]) -> None:
    """Send each event as a batch."""
    for one in events:
        queue.send([one])


def fill(queue: EventSender, producer: Producer) -> list[str]:
    """Send events until the lane has no room for another one of that size; returns their names."""
    sent = []
    while producer.lane.head - producer.lane.tail <= CAPACITY - 200:
        sent.append(f"filling {len(sent)}")
        queue.send([event(sent[-1], payload="x" * 100)])
    return sent


LARGE = event("large", payload="x" * 1000)
"""An event that has no room in a lane that is filled."""


def test_what_is_sent_is_committed_in_order(serving: Serving, queue: EventSender, guard: Guard) -> None:
    """`settle` returns once it is; no caller is left inside the guard."""
    one_by_one(queue, many(100))
    assert queue.settle(10)
    assert serving.committed() == [str(n) for n in range(100)]
    assert guard.depth == 0


def test_threads_may_send_at_the_same_time(serving: Serving, queue: EventSender) -> None:
    """Each event of each thread is committed once, in the order of its thread."""
    calls = [Call(one_by_one, queue, [event(f"{t}/{n}") for n in range(100)]) for t in range(4)]
    for call in calls:
        call.result()
    assert queue.settle(10)
    committed = serving.committed()
    for t in range(4):
        assert [name for name in committed if name.startswith(f"{t}/")] == [f"{t}/{n}" for n in range(100)]


def test_send_needs_nobody_while_there_is_room(queue: EventSender, writer: StepWriter) -> None:
    """What it has published waits for a writer, whenever there is one."""
    queue.send([event("a")])
    assert not queue.settle(0.01)
    assert names(writer.commit().events) == ["a"]
    assert queue.settle(0)


def test_a_full_lane_blocks_and_goes_on_with_the_writer(
    serving: Serving, queue: EventSender, producer: Producer, guard: Guard
) -> None:
    """Nothing is dropped, and nothing is kept elsewhere."""
    serving.pause()
    filled = fill(queue, producer)
    call = Call(one_by_one, queue, many(50, 1000))
    guard.until_blocked()
    assert call.blocked
    serving.resume()
    call.result()
    assert queue.settle(10)
    assert serving.committed() == [*filled, *(str(n) for n in range(50))]


def test_an_event_larger_than_the_lane_is_sent_as_soon_as_any(serving: Serving, queue: EventSender) -> None:
    """It has a file of its own; what comes after it waits for its commit."""
    for n in range(5):
        queue.send([event(f"large {n}", payload="x" * 10 * CAPACITY)])
        queue.send([event(f"small {n}")])
    assert queue.settle(10)
    assert serving.committed() == [f"{size} {n}" for n in range(5) for size in ("large", "small")]


def test_an_interruption_gets_out_of_a_blocked_send(
    serving: Serving, queue: EventSender, producer: Producer, guard: Guard
) -> None:
    """What the guard raises reaches the caller, nothing of the event is published, and the sender can be used again."""
    serving.pause()
    filled = fill(queue, producer)
    head = producer.words[HEAD]
    guard.interrupt = True
    with pytest.raises(GuardError):
        queue.send([LARGE])
    call = Call(queue.send, [LARGE])
    guard.until_blocked()
    guard.interrupt = True
    with pytest.raises(GuardError):
        call.result()
    assert guard.depth == 0
    assert producer.words[HEAD] == head
    serving.resume()
    queue.send([event("last")])
    assert queue.settle(10)
    assert serving.committed() == [*filled, "last"]


def test_a_blocked_thread_holds_no_lock(serving: Serving, queue: EventSender, producer: Producer, guard: Guard) -> None:
    """The main thread can be interrupted, though another thread waits for room."""
    serving.pause()
    fill(queue, producer)
    blocked = Call(queue.send, [LARGE])
    guard.until_blocked()
    assert queue._lock.acquire(timeout=10)
    queue._lock.release()
    serving.resume()
    blocked.result()


def test_settling_takes_no_longer_than_it_may(queue: EventSender, writer: StepWriter) -> None:
    """With nothing to commit it returns at once."""
    assert queue.settle(0)
    queue.send([event("a")])
    assert not queue.settle(0.01)
    writer.commit()
    assert queue.settle(0)


def test_a_closed_sender_takes_nothing(serving: Serving, queue: EventSender, producer: Producer, guard: Guard) -> None:
    """That is told, not waited for, and whoever is blocked is told, too; what was sent before stays."""
    serving.pause()
    filled = fill(queue, producer)
    call = Call(queue.send, [LARGE])
    guard.until_blocked()
    queue.close()
    queue.close()
    with pytest.raises(RuntimeError, match="about to end"):
        call.result()
    with pytest.raises(RuntimeError, match="about to end"):
        queue.send([event("late")])
    assert not queue.settle(10)
    serving.resume()
    wait_until(lambda: serving.committed() == filled, "what was sent is committed")


def test_a_sender_leaves_no_descriptor_and_no_thread(writer: StepWriter, guard: Guard) -> None:
    """It never has a thread, for it needs none."""
    gc.collect()
    before, threads = psutil.Process().num_fds(), threading.active_count()
    queue = EventSender(Producer(writer.folder, writer.wakeup, "other").lane, guard)
    queue.send([event("a")])
    assert threading.active_count() == threads
    queue.close()
    assert psutil.Process().num_fds() == before


def test_a_forked_process_can_not_use_the_lane_of_its_parent(queue: EventSender, producer: Producer) -> None:
    """It is told so before it touches a lock that may be held for ever on its side of the fork."""
    queue.send([event("a")])
    head = producer.words[HEAD]
    with queue._lock:
        pid = os.fork()
        if pid == 0:
            try:
                queue.send([event("b")])
            except RuntimeError as error:
                os._exit(0 if "forked" in str(error) and not queue.settle(10) else 2)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert producer.words[HEAD] == head
    queue.send([event("c")])


class LoggingWords:
    """The header of a lane, while something else is logged in the middle of a publication, as a finalizer does."""

    def __init__(self, words: memoryview, log: Callable[[], None]) -> None:
        self._words = words
        self._log = log

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._log()
        self._words[index] = value


def test_a_finalizer_that_logs_inside_send_is_sent_after_it(
    serving: Serving, queue: EventSender, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector may run a user's code between any two steps: no frame is written over another."""
    pending = ["inner", "innermost"]

    def log() -> None:
        if pending:
            queue.send([event(pending.pop(0))])

    monkeypatch.setattr(producer.lane, "_words", LoggingWords(producer.words, log))
    queue.send([event("outer")])
    queue.send([event("next")])
    assert queue.settle(10)
    assert serving.committed() == ["outer", "inner", "innermost", "next"]
    assert serving.writer.reports == []


def test_what_a_finalizer_logs_in_a_blocked_send_is_not_lost(
    serving: Serving, queue: EventSender, producer: Producer, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for room after the event that it has interrupted, and comes first if that one is given up."""
    serving.pause()
    filled = fill(queue, producer)
    pending = ["inner"]
    published = producer.lane.publish

    def publish(body: bytes) -> bool:
        if pending:
            queue.send([event(pending.pop(), payload="x" * 1000)])
        return published(body)

    monkeypatch.setattr(producer.lane, "publish", publish)
    guard.interrupt = True
    with pytest.raises(GuardError):
        queue.send([LARGE])
    serving.resume()
    queue.send([event("next")])
    assert queue.settle(10)
    assert serving.committed() == [*filled, "inner", "next"]


def test_a_caller_that_waits_looks_less_and_less_often(queue: EventSender, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full for hours costs no more than a few looks a second."""
    slept: list[float] = []
    monkeypatch.setattr(sender.time, "sleep", slept.append)
    pause = sender.FIRST_PAUSE_SECONDS
    for _ in range(50):
        pause = queue._pause(pause)
    assert slept == sorted(slept)
    assert (slept[0], slept[-1]) == (sender.FIRST_PAUSE_SECONDS, sender.LONGEST_PAUSE_SECONDS)
