"""Whatever dies, and whenever: each batch is committed once, in order, and no half frame does any harm."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.eventqueue import CountingClock, StepWriter, event, names, short_folder, tend

from nerve.eventqueue import Lane, pipe
from nerve.eventqueue.messages import Batch, Hello
from nerve.ipc import channel as wire
from nerve.ipc.channel import pack

PRODUCERS = 3
LARGEST = 40_000
"""The largest payload, in bytes: with the sockets' buffers as small as can be, most of its frames leave in pieces."""


@dataclass
class Life:
    """One process that produces, as the test knows it: what it submitted, and what is sure to survive it."""

    lane: Lane
    producer: str
    submitted: list[str] = field(default_factory=list)
    promised: int = 0
    alive: bool = True


class Queue(RuleBasedStateMachine):
    """Producers and a writer, each of which can die or lose its connection at any point of the conversation."""

    @initialize()
    def begin(self) -> None:
        """Start everybody."""
        self.stack = ExitStack()
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(wire, "SEND_BUFFER_BYTES", 1)
        patch.setattr(pipe, "PIPE_BYTES", 1)
        folder = self.stack.enter_context(short_folder())
        self.writer = StepWriter(folder, CountingClock())
        self.stack.callback(self.writer.close)
        self.lives: list[Life] = []
        self.running = [self.born() for _ in range(PRODUCERS)]

    def born(self) -> Life:
        """A new process, with a name of its own."""
        number = len(self.lives)
        producer = f"producer-{number}"
        lane = Lane(self.writer.address, producer, 2 * LARGEST, piped=number % 2 == 0)
        self.stack.callback(lane.close)
        self.lives.append(Life(lane, producer))
        return self.lives[-1]

    @rule(n=st.integers(0, PRODUCERS - 1), sizes=st.lists(st.integers(0, LARGEST), min_size=1, max_size=3))
    def submit(self, n: int, sizes: list[int]) -> None:
        """A producer submits a batch, and remembers whether it is out of the process."""
        life = self.running[n]
        if life.lane.full:
            return
        made = [f"{life.producer}/{len(life.submitted) + m}" for m in range(len(sizes))]
        stamps = [self.writer.clock.stamp().mono for _ in sizes]
        life.lane.submit([event(name, at, "x" * size) for name, at, size in zip(made, stamps, sizes, strict=True)])
        life.submitted += made
        self.note(life)

    @rule(n=st.integers(0, PRODUCERS - 1))
    def tend(self, n: int) -> None:
        """A producer connects, sends and listens."""
        tend(self.running[n].lane)
        self.note(self.running[n])

    @rule()
    def read(self) -> None:
        """The writer handles what is ready."""
        self.writer.turn()

    @rule(max_events=st.sampled_from([1, 3, 1000]))
    def commit(self, max_events: int) -> None:
        """The writer commits, and says so."""
        self.writer.commit(max_events)

    @rule(max_events=st.sampled_from([1, 3, 1000]))
    def die_before_the_commit(self, max_events: int) -> None:
        """The writer is killed with batches in its hands."""
        self.writer.gather(max_events)
        self.restart()

    @rule(max_events=st.sampled_from([1, 3, 1000]))
    def die_before_the_acknowledgement(self, max_events: int) -> None:
        """The writer is killed between a commit and its acknowledgement."""
        self.writer.commit(max_events, acknowledge=False)
        self.restart()

    @rule()
    def restart(self) -> None:
        """The writer is killed, wherever the frames are; the dead can't send again what it had not committed."""
        self.writer.restart()
        for life in self.lives:
            if not life.alive:
                life.promised = 0

    @rule(n=st.integers(0, PRODUCERS - 1))
    def disconnect(self, n: int) -> None:
        """A producer loses its connection, though both ends live."""
        lane = self.running[n].lane
        if lane._channel:
            lane._channel.close()
            lane._drop_if_ended()

    @rule(n=st.integers(0, PRODUCERS - 1))
    def kill(self, n: int) -> None:
        """A producer is killed, maybe in the middle of a frame, and another one takes its place."""
        life = self.running[n]
        if life.lane._channel:
            life.lane._channel.close()
        life.alive = False
        self.running[n] = self.born()

    def note(self, life: Life) -> None:
        """Note that everything is out of a process: its own death can't take that back."""
        if life.lane.clear:
            life.promised = len(life.submitted)

    def committed(self, life: Life) -> list[str]:
        """What is committed of a producer's events, in order."""
        return [name for name in names(self.writer.log.events) if name.startswith(f"{life.producer}/")]

    @invariant()
    def nothing_is_doubled_or_out_of_order(self) -> None:
        """What is committed of a producer is what it submitted, up to some point."""
        for life in self.lives:
            committed = self.committed(life)
            assert committed == life.submitted[: len(committed)]

    def teardown(self) -> None:
        """In the end everything submitted is committed, and of the dead all that they were promised."""
        for _ in range(10_000):
            for life in self.running:
                tend(life.lane)
            self.writer.commit()
            if all(life.lane.settled for life in self.running) and not self.writer.receiver.waiting:
                break
        for life in self.lives:
            committed = self.committed(life)
            assert committed == life.submitted[: len(committed)]
            assert len(committed) >= (len(life.submitted) if life.alive else life.promised)
        assert self.writer.offences == []
        self.stack.close()


TestQueue = pytest.mark.filterwarnings("error")(Queue.TestCase)
TestQueue.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)

SENDER = """
import os, signal, socket, sys
path, hello_bytes, by = sys.argv[1:]
hello, rest = sys.stdin.buffer.read(int(hello_bytes)), sys.stdin.buffer.read()
lane = socket.socket(socket.AF_UNIX)
lane.connect(path)
if by == "socket":
    lane.sendall(hello + rest)
else:
    reading, writing = os.pipe()
    socket.send_fds(lane, [hello], [reading])
    os.write(writing, rest)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("by", ["socket", "pipe"])
@pytest.mark.parametrize("part", ["half a header", "a header", "half a body", "all but a byte"])
def test_a_producer_killed_in_the_middle_of_a_frame_wedges_nobody(part: str, by: str) -> None:
    """What it had sent before is committed, its half frame is thrown away, and the others never notice."""
    frame = pack(Batch(2, [event("half")]))
    cut = {"half a header": 2, "a header": 4, "half a body": len(frame) // 2, "all but a byte": len(frame) - 1}[part]
    hello = pack(Hello("killed"))
    stream = hello + pack(Batch(1, [event("whole")])) + frame[:cut]
    with ExitStack() as stack:
        folder = stack.enter_context(short_folder())
        writer = StepWriter(folder, CountingClock())
        stack.callback(writer.close)
        other = Lane(writer.address, "other")
        stack.callback(other.close)
        tend(other)
        writer.receiver.drain()
        tend(other)
        other.submit([event("before")])
        arguments = [str(writer.address), str(len(hello)), by]
        killed = subprocess.run([sys.executable, "-IS", "-c", SENDER, *arguments], input=stream, check=False)
        assert killed.returncode == -9
        other.submit([event("after")])
        writer.receiver.drain()  # accepts it, and takes its pipe
        assert sorted(names(writer.commit().events)) == ["after", "before", "whole"]
        writer.turn()
        assert writer.receiver.producers == 1
        tend(other)
        assert other.settled
        other.submit([event("and on")])
        assert names(writer.commit().events) == ["and on"]
        assert writer.offences == []
