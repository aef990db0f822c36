"""Whatever dies, and whenever: what is published is committed once, in order, also when everybody dies at once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.eventqueue import BOOT, CountingClock, Producer, StepWriter, event, names, short_folder
from support.waiting import wait_until

from nerve.clock import SystemClock
from nerve.eventqueue.lane_file import HEAD, create_lane_file

PRODUCERS = 3
CAPACITY = 4096
LARGEST = 3000
"""The largest payload, in bytes: some frames fill most of the ring, some lie in files, most wrap sooner or later."""


@dataclass
class Life:
    """One process that produces, as the test knows it: what it has published, which is all that it was promised."""

    producer: Producer
    published: list[str] = field(default_factory=list)
    alive: bool = True


class Queue(RuleBasedStateMachine):
    """Producers and a writer, each of which can die at any point, alone or all at once."""

    @initialize()
    def begin(self) -> None:
        """Start everybody."""
        self.stack = ExitStack()
        self.folder = self.stack.enter_context(short_folder())
        self.writer = StepWriter(self.folder, CountingClock())
        self.stack.callback(self.writer.close)
        self.lives: list[Life] = []
        self.running = [self.born() for _ in range(PRODUCERS)]

    def born(self) -> Life:
        """A new process, with a name of its own."""
        producer = self.writer.producer(f"producer-{len(self.lives)}", CAPACITY)
        self.stack.callback(producer.die)
        self.lives.append(Life(producer))
        return self.lives[-1]

    @rule(n=st.integers(0, PRODUCERS - 1), sizes=st.lists(st.integers(0, LARGEST), min_size=1, max_size=3))
    def publish(self, n: int, sizes: list[int]) -> None:
        """A producer publishes a batch, if it has room."""
        life = self.running[n]
        made = [f"{life.producer.name}/{len(life.published) + m}" for m in range(len(sizes))]
        stamps = [self.writer.clock.stamp().mono for _ in sizes]
        events = [event(name, at, "x" * size) for name, at, size in zip(made, stamps, sizes, strict=True)]
        if life.producer.publish(*events):
            life.published += made

    @rule(max_events=st.sampled_from([1, 3, 1000]))
    def commit(self, max_events: int) -> None:
        """The writer commits, and says so."""
        self.writer.commit(max_events)

    @rule()
    def read(self) -> None:
        """The writer reads, and keeps it in memory."""
        self.writer.receiver.drain()

    @rule(max_events=st.sampled_from([1, 3, 1000]))
    def die_before_the_acknowledgement(self, max_events: int) -> None:
        """The writer is killed between a commit and its acknowledgement."""
        self.writer.commit(max_events, acknowledge=False)
        self.writer.restart()

    @rule()
    def die(self) -> None:
        """The writer is killed with batches in its hands."""
        self.writer.gather()
        self.writer.restart()

    @rule(n=st.integers(0, PRODUCERS - 1), size=st.integers(0, LARGEST))
    def kill_in_the_middle(self, n: int, size: int) -> None:
        """A producer is killed before the store that publishes its frame, and another one takes its place."""
        life = self.running[n]
        head = life.producer.words[HEAD]
        if life.producer.publish(event("half", payload="x" * size)):
            life.producer.words[HEAD] = head
        life.producer.die()
        life.alive = False
        self.running[n] = self.born()

    @rule()
    def everybody_dies(self) -> None:
        """All at once, the writer with them."""
        for n in range(PRODUCERS):
            self.running[n].producer.die()
            self.running[n].alive = False
        self.writer.restart()
        self.running = [self.born() for _ in range(PRODUCERS)]

    @rule()
    def remove_the_dead(self) -> None:
        """The writer removes what is drained of the dead, and forgets their positions."""
        for life in self.lives:
            lane = None if life.alive else self.writer.receiver.open(life.producer.name)
            if lane:
                lane.gone = True
        ended = self.writer.receiver.ended()
        producers = [lane.producer for lane in ended]
        self.writer.receiver.remove(ended)
        self.writer.log.forget(*producers)

    def committed(self, life: Life) -> list[str]:
        """What is committed of a producer's events, in order."""
        return [name for name in names(self.writer.log.events) if name.startswith(f"{life.producer.name}/")]

    @invariant()
    def nothing_is_doubled_or_out_of_order(self) -> None:
        """What is committed of a producer is what it published, up to some point."""
        for life in self.lives:
            committed = self.committed(life)
            assert committed == life.published[: len(committed)]

    def teardown(self) -> None:
        """In the end everything published is committed, of the living and of the dead; no file of a frame is left."""
        for _ in range(10_000):
            self.writer.commit()
            if not self.writer.receiver.waiting and not self.writer.receiver.has_news:
                break
        for life in self.lives:
            assert self.committed(life) == life.published
        assert self.writer.reports == []
        assert [lane.corrupt for lane in self.writer.receiver.lanes if lane.corrupt] == []
        for life in self.lives:
            life.alive = False
        self.remove_the_dead()
        assert list(self.folder.iterdir()) == []
        assert self.writer.log.positions == {}
        self.stack.close()


TestQueue = pytest.mark.filterwarnings("error")(Queue.TestCase)
TestQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

LOGGING = """
import os, struct, sys, threading, time
from pathlib import Path
from nerve.eventqueue import Wakeup, EventSender, Lane, Unguarded
from nerve.events.model import LogEvent

path, note, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
sender = EventSender(Lane(path, Wakeup()), Unguarded())

def log(thread):
    file = os.open(f"{note}-{thread}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    n = 0
    while True:
        payload = "x" * (n * 7919 % 5000)
        sender.send([LogEvent("sense", f"{thread}/{n}", None, payload, 1, time.monotonic_ns())])
        os.write(file, struct.pack("q", n))
        n += 1

for thread in range(threads):
    threading.Thread(target=log, args=(thread,)).start()
print("logging", flush=True)
"""


@pytest.fixture
def real_writer(folder: Path) -> Iterator[StepWriter]:
    """A writer in this process, with the clock of the machine."""
    with closing(StepWriter(folder, SystemClock())) as made:
        yield made


@pytest.mark.parametrize("threads", [1, 3])
def test_a_process_killed_in_the_middle_of_publishing_loses_nothing(
    real_writer: StepWriter, folder: Path, tmp_path: Path, threads: int
) -> None:
    """At any instruction: each number that it noted after `send` had returned is committed, once, in order."""
    rng = random.Random(threads)
    for number in range(12):
        name = f"victim-{number}"
        create_lane_file(folder / f"{name}.lane", name, BOOT, 64 * 1024)
        real_writer.receiver.open(name)
        victim = subprocess.Popen(
            [sys.executable, "-c", LOGGING, str(folder / f"{name}.lane"), str(tmp_path / name), str(threads)],
            stdout=subprocess.PIPE,
        )
        assert victim.stdout is not None
        victim.stdout.readline()
        until = time.monotonic() + rng.uniform(0, 0.05)
        while time.monotonic() < until:
            real_writer.commit()
        if number % 2:
            real_writer.restart()
        victim.kill()
        assert victim.wait() == -signal.SIGKILL
        victim.stdout.close()
        real_writer.restart()
        wait_until(lambda: not (real_writer.commit().events or real_writer.receiver.waiting), "all is committed")
        assert real_writer.reports == []
        lane = real_writer.receiver.open(name)
        assert lane is not None
        assert lane.corrupt is None
        for thread in range(threads):
            note = Path(f"{tmp_path / name}-{thread}")
            noted = note.stat().st_size // 8 if note.exists() else 0
            stored = [stored for stored in names(real_writer.log.events) if stored.startswith(f"{thread}/")]
            assert stored == [f"{thread}/{n}" for n in range(len(stored))]
            assert noted <= len(stored) <= noted + 1
        real_writer.log.commits.clear()
