"""SenseContext: what a compute can do, and what becomes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from nerve.clock import Stamp
from nerve.events.model import Log, LogEvent
from nerve.events.trigger import Signal, Trigger
from nerve.runtime.context import CHARS_PER_BATCH, EVENTS_PER_BATCH, SenseContext

BY_INTERVAL = Trigger("interval", "a-reflex", None, 0, 0)
MAX_PAYLOAD = 100


class Events:
    """A sink that keeps the batches that it is sent, and tells `calls` when it is asked to settle."""

    def __init__(self, calls: list[str]) -> None:
        self.batches: list[list[LogEvent]] = []
        self._calls = calls

    @property
    def sent(self) -> list[LogEvent]:
        """All events, in order."""
        return [event for batch in self.batches for event in batch]

    def send(self, events: Sequence[LogEvent]) -> None:
        """Keep a batch."""
        self.batches.append(list(events))

    def settle(self, timeout: float) -> bool:
        """Remember that it was asked, with a time to wait; the writer is too slow today."""
        assert timeout > 0
        self._calls.append("settle")
        return False


class Archives:
    """A log with one entry, and databases that are just their names."""

    def __init__(self, calls: list[str]) -> None:
        self.filters: dict[str, Any] = {}
        self._calls = calls

    def query_logs(self, **filters: Any) -> list[Log]:
        """Remember the filters."""
        self._calls.append("query")
        self.filters = filters
        return [Log(1, "sense", "reading", "probe/1", None, 0)]

    def own(self, sense: str) -> Any:
        """Name the database."""
        return f"own {sense}"

    def peer(self, sense: str) -> Any:
        """Name the database."""
        return f"peer {sense}"


class Ticks:
    """A clock that moves on by a millisecond whenever it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def now(self) -> float:
        """The seconds so far."""
        return self.reads / 1000

    def stamp(self) -> Stamp:
        """The next moment."""
        self.reads += 1
        return Stamp(self.reads, self.reads * 1_000_000)


class Bench:
    """A context, and all that it stands on."""

    def __init__(self, trigger: Trigger = BY_INTERVAL, max_payload: int = MAX_PAYLOAD) -> None:
        self.calls: list[str] = []
        self.events = Events(self.calls)
        self.archives = Archives(self.calls)
        self.ctx = SenseContext(
            "probe",
            "probe/1",
            trigger,
            events=self.events,
            databases=self.archives,
            clock=Ticks(),
            max_payload=max_payload,
        )


@pytest.fixture
def bench() -> Bench:
    """Give a bench for a run by interval."""
    return Bench()


def test_a_context_tells_who_runs_and_why() -> None:
    """Sense, run, trigger, and the signal where there is one."""
    signal = Signal("disk", {"used": 1}, "disk/1", 5)
    ctx = Bench(Trigger("signal", "on-disk", signal, 3, 4)).ctx
    assert (ctx.sense, ctx.run_id, ctx.trigger.kind, ctx.trigger.coalesced) == ("probe", "probe/1", "signal", 3)
    assert ctx.signal is signal
    assert Bench().ctx.signal is None


def test_nothing_else_can_be_put_on_it(bench: Bench) -> None:
    """A misspelt attribute is an error, and not a note that nobody will read."""
    with pytest.raises(AttributeError):
        bench.ctx.signl = 1  # type: ignore[attr-defined]


def test_an_event_is_out_when_log_returns(bench: Bench) -> None:
    """Each call is a batch of its own, with the moment of the call and this run's id."""
    bench.ctx.log("reading", {"c": 21.5})
    bench.ctx.log("pause")
    assert [len(batch) for batch in bench.events.batches] == [1, 1]
    first, second = bench.events.sent
    assert first == LogEvent("sense", "reading", "probe/1", '{"c":21.5}', 1, 1_000_000)
    assert (second.type, second.payload, second.ts) == ("pause", "null", 2)


@pytest.mark.parametrize("bad", [None, 3, b"reading", "", ["reading"], float])
def test_a_type_that_is_no_text_is_refused_where_it_is_used(bench: Bench, bad: Any) -> None:
    """A mistake in the compute is an error in the compute: nothing at all is sent."""
    with pytest.raises(TypeError, match="the type of an event is a text such as 'reading'"):
        bench.ctx.log(bad, 1)
    with pytest.raises(TypeError):
        bench.ctx.log_many([("fine", 1), (bad, 2)])
    assert bench.events.batches == []


@pytest.mark.parametrize("bad", [math.nan, object(), "x" * MAX_PAYLOAD])
def test_a_payload_that_can_not_be_stored_is_recorded_as_an_error(bench: Bench, bad: object) -> None:
    """The compute goes on, and so do the other events of the batch."""
    bench.ctx.log_many([("one", 1), ("two", bad), ("three", 3)])
    assert [(event.source, event.type) for event in bench.events.sent] == [
        ("sense", "one"),
        ("system", "error"),
        ("sense", "three"),
    ]
    assert msgspec.json.decode(bench.events.sent[1].payload)["kind"] == "payload"


@pytest.mark.parametrize("count", [0, 1, EVENTS_PER_BATCH, EVENTS_PER_BATCH + 1, 3 * EVENTS_PER_BATCH + 7])
def test_many_events_go_out_in_order_and_in_batches(bench: Bench, count: int) -> None:
    """Any iterable will do; no batch is empty or larger than allowed, and nothing is lost between them."""
    bench.ctx.log_many((f"n{n}", n) for n in range(count))
    assert [event.type for event in bench.events.sent] == [f"n{n}" for n in range(count)]
    assert [event.mono for event in bench.events.sent] == sorted(event.mono for event in bench.events.sent)
    assert all(0 < len(batch) <= EVENTS_PER_BATCH for batch in bench.events.batches)
    assert len(bench.events.batches) == -(-count // EVENTS_PER_BATCH)


def test_large_events_make_for_smaller_batches() -> None:
    """A batch is one message to the writer, and must not outgrow it, whatever max_payload is."""
    bench = Bench(max_payload=CHARS_PER_BATCH)
    sizes = [CHARS_PER_BATCH // 3] * 10 + [CHARS_PER_BATCH - 10, 1, 1, CHARS_PER_BATCH - 10]
    bench.ctx.log_many(("large", "x" * size) for size in sizes)
    assert [len(event.payload) - 2 for event in bench.events.sent] == sizes
    for batch in bench.events.batches:
        assert len(batch) == 1 or sum(len(event.payload) for event in batch) <= CHARS_PER_BATCH
    assert len(bench.events.batches) < len(sizes)


def test_events_that_are_no_pairs_are_refused(bench: Bench) -> None:
    """A flat list is an error in the compute, before anything is sent."""
    with pytest.raises(ValueError, match="unpack"):
        bench.ctx.log_many(["reading"])  # type: ignore[list-item]
    assert bench.events.batches == []


def test_a_look_back_sees_what_was_just_logged(bench: Bench) -> None:
    """The log is read after what was sent has settled, or after a while; it is read in any case."""
    since = datetime(2026, 11, 23, tzinfo=UTC)
    found = bench.ctx.query_logs(
        source="sense", type="reading", ref_id="probe/1", sense="probe", since=since, until=9, errors=True, limit=3
    )
    assert [log.type for log in found] == ["reading"]
    assert bench.calls == ["settle", "query"]
    assert bench.archives.filters == {
        "source": "sense",
        "type": "reading",
        "ref_id": "probe/1",
        "sense": "probe",
        "since": since,
        "until": 9,
        "errors": True,
        "limit": 3,
        "archived": False,
    }


def test_a_look_back_without_filters_asks_for_everything(bench: Bench) -> None:
    """Each filter may be left out, and none can be given by position."""
    bench.ctx.query_logs()
    assert (bench.archives.filters.pop("archived"), bench.archives.filters.pop("errors")) == (False, False)
    assert set(bench.archives.filters.values()) == {None}
    with pytest.raises(TypeError):
        bench.ctx.query_logs("sense")  # type: ignore[call-arg]


def test_databases_are_one_s_own_or_a_peer_s(bench: Bench) -> None:
    """The sense's own is an attribute; another's is asked for by name."""
    assert (str(bench.ctx.db), str(bench.ctx.peer_db("disk"))) == ("own probe", "peer disk")
