"""Producers that vanish: remembered for as long as they may come back, by the monotonic clock, and then forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support.eventqueue import StepWriter, event, tend

from nerve.clock import Stamp
from nerve.eventqueue import Lane

MEMORY_SECONDS = 60.0
Join = Callable[[str], Lane]


class TwoClocks:
    """A monotonic clock that goes on when the test says so, beside a wall clock that stands somewhere else."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.wall_ms = 0

    def now(self) -> float:
        """Monotonic seconds."""
        return self.time

    def stamp(self) -> Stamp:
        """The moment."""
        return Stamp(self.wall_ms, round(self.time * 1e9))


@pytest.fixture
def clock() -> TwoClocks:
    """Give the clocks, which stand still."""
    return TwoClocks()


@pytest.fixture
def writer(folder: Path, clock: TwoClocks) -> Iterator[StepWriter]:
    """Give a writer that lives by these clocks."""
    with closing(StepWriter(folder, clock)) as made:
        yield made


@pytest.fixture
def join(writer: StepWriter) -> Iterator[Join]:
    """Have producers join whose first batch is committed."""
    with ExitStack() as stack:

        def joined(producer: str) -> Lane:
            lane = Lane(writer.address, producer)
            stack.callback(lane.close)
            lane.submit([event("first")])
            for _ in range(3):
                tend(lane)
                writer.turn()
            writer.commit()
            tend(lane)
            assert lane.settled
            return lane

        yield joined


def vanish(lane: Lane, writer: StepWriter) -> None:
    """End a producer as a SIGKILL does: without a goodbye."""
    assert lane._channel is not None
    lane._channel.close()
    writer.turn()


def forget(writer: StepWriter) -> None:
    """Do what the writer does after each commit."""
    writer.receiver.forget_absent(MEMORY_SECONDS)


def test_who_vanished_is_forgotten_when_its_time_is_up(writer: StepWriter, clock: TwoClocks, join: Join) -> None:
    """Not before, and one at a time, the longest away first; whoever is still there stays."""
    lanes = [join(f"worker-{n}") for n in range(3)]
    for lane in lanes[:2]:
        vanish(lane, writer)
        clock.time += 1.0
    clock.time += MEMORY_SECONDS - 2.5
    forget(writer)
    assert set(writer.log.positions) == {"worker-0", "worker-1", "worker-2"}
    clock.time += 10.0
    forget(writer)
    assert set(writer.log.positions) == {"worker-1", "worker-2"}
    forget(writer)
    clock.time += 10 * MEMORY_SECONDS
    forget(writer)
    assert set(writer.log.positions) == {"worker-2"}
    assert set(writer.receiver._progress) == {"worker-2"}


def test_who_comes_back_is_absent_no_more(writer: StepWriter, clock: TwoClocks, join: Join) -> None:
    """A broken connection alone costs a producer nothing, however long it then stays."""
    lane = join("worker-1")
    vanish(lane, writer)
    tend(lane)
    tend(lane)
    for _ in range(2):
        writer.turn()
        tend(lane)
    assert lane.connected
    clock.time += 10 * MEMORY_SECONDS
    forget(writer)
    assert set(writer.log.positions) == {"worker-1"}


def test_the_wall_clock_has_no_say(writer: StepWriter, clock: TwoClocks, join: Join) -> None:
    """A step of the wall clock while a writer dies makes nobody forgotten: its batches would be stored twice."""
    lane = join("worker-1")
    lane.submit([event("second")])
    writer.turn()
    writer.commit(acknowledge=False)
    clock.wall_ms += 100 * 86_400_000
    writer.restart()
    writer.receiver.expect(writer.log.positions)
    forget(writer)
    for _ in range(3):
        tend(lane)
        writer.turn()
    writer.commit()
    assert [stored.type for stored in writer.log.events] == ["first", "second"]


def test_a_new_writer_forgets_whom_its_predecessor_has_left_behind(
    writer: StepWriter, clock: TwoClocks, join: Join
) -> None:
    """Those who died with it, or before, are known from the log alone; they have the whole time again."""
    vanish(join("worker-1"), writer)
    clock.time += MEMORY_SECONDS - 1
    writer.restart()
    writer.receiver.expect(writer.log.positions)
    clock.time += MEMORY_SECONDS - 1
    forget(writer)
    assert set(writer.log.positions) == {"worker-1"}
    clock.time += 1
    forget(writer)
    assert not writer.log.positions


def test_who_is_back_is_awaited_until_everything_is_sent_again(writer: StepWriter, join: Join) -> None:
    """Others may depend on what it held when it came back; what it logs from then on keeps nobody waiting."""
    lane = join("worker-1")
    lane.submit([event("second")])
    lane.submit([event("third")])
    writer.restart()
    tend(lane)
    tend(lane)
    lane.submit([event("fourth")])
    writer.turn()
    writer.turn()
    assert writer.receiver.producers == 1
    assert writer.receiver.awaits()
    tend(lane)
    writer.turn()
    assert not writer.receiver.awaits()
    assert [stored.type for stored in writer.commit().events] == ["second", "third", "fourth"]
