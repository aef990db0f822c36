"""SenseContext: what a compute sees, and what it sends and queries."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from support.clock import FakeClock
from support.events_sink import EventsSink
from support.storage import FakeStorage

from nerve.events.model import LogEvent
from nerve.events.trigger import Signal, Trigger
from nerve.runtime.context import CHARS_PER_BATCH, EVENTS_PER_BATCH, SenseContext, end_context
from nerve.store.filters import Filter

BY_INTERVAL = Trigger("interval", "a-reflex", None, 0, 0)
MAX_PAYLOAD = 100


class Bench:
    """A context, and fakes of all that it uses; `calls` is the order in which they were used."""

    def __init__(self, trigger: Trigger = BY_INTERVAL, max_payload: int = MAX_PAYLOAD) -> None:
        self.calls: list[str] = []
        self.events = EventsSink(settles=False, on_settle=lambda: self.calls.append("settle"))
        self.storage = FakeStorage(on_query=lambda: self.calls.append("query"))
        self.ctx = SenseContext(
            "probe",
            "probe/1",
            trigger,
            events=self.events,
            storage=self.storage,
            clock=FakeClock(0.0, wall_ms=0, tick=0.001),
            max_payload=max_payload,
        )


@pytest.fixture
def bench() -> Bench:
    """A context of a run by interval."""
    return Bench()


def test_a_context_has_the_sense_the_run_the_trigger_and_its_signal() -> None:
    """A trigger without a signal leaves `ctx.signal` None."""
    signal = Signal("disk", {"used": 1}, "disk/1", 5)
    ctx = Bench(Trigger("signal", "on-disk", signal, 3, 4)).ctx
    assert (ctx.sense, ctx.run_id, ctx.trigger.kind, ctx.trigger.coalesced) == ("probe", "probe/1", "signal", 3)
    assert ctx.signal is signal
    assert Bench().ctx.signal is None


def test_an_unknown_attribute_can_not_be_set(bench: Bench) -> None:
    """A misspelt attribute is an error, and not silently ignored."""
    with pytest.raises(AttributeError):
        bench.ctx.signl = 1  # type: ignore[attr-defined]


def test_each_call_of_log_sends_one_event_at_once(bench: Bench) -> None:
    """The event has the time of the call and this run's id."""
    bench.ctx.log("reading", {"c": 21.5})
    bench.ctx.log("pause")
    assert [len(batch) for batch in bench.events.batches] == [1, 1]
    first, second = bench.events.events
    assert first == LogEvent("sense", "reading", "probe/1", '{"c":21.5}', 1, 1_000_000)
    assert (second.type, second.payload, second.ts) == ("pause", "null", 2)


@pytest.mark.parametrize("bad", [None, 3, b"reading", "", ["reading"], float])
def test_a_type_that_is_not_a_text_is_an_error_in_the_compute(bench: Bench, bad: Any) -> None:
    """Nothing is sent, not even the valid events of the same call."""
    with pytest.raises(TypeError, match="the type of an event is a text such as 'reading'"):
        bench.ctx.log(bad, 1)
    with pytest.raises(TypeError):
        bench.ctx.log_many([("fine", 1), (bad, 2)])
    assert bench.events.batches == []


@pytest.mark.parametrize("bad", [math.nan, object(), "x" * MAX_PAYLOAD])
def test_a_payload_that_can_not_be_stored_is_recorded_as_an_error(bench: Bench, bad: object) -> None:
    """The compute continues, and the other events of the call are sent."""
    bench.ctx.log_many([("one", 1), ("two", bad), ("three", 3)])
    assert [(event.source, event.type) for event in bench.events.events] == [
        ("sense", "one"),
        ("system", "error"),
        ("sense", "three"),
    ]
    assert msgspec.json.decode(bench.events.events[1].payload)["kind"] == "payload"


@pytest.mark.parametrize("count", [0, 1, EVENTS_PER_BATCH, EVENTS_PER_BATCH + 1, 3 * EVENTS_PER_BATCH + 7])
def test_log_many_sends_events_in_order_and_in_batches(bench: Bench, count: int) -> None:
    """It takes any iterable; no batch is empty or larger than allowed, and no event is lost."""
    bench.ctx.log_many((f"n{n}", n) for n in range(count))
    assert [event.type for event in bench.events.events] == [f"n{n}" for n in range(count)]
    assert [event.mono for event in bench.events.events] == sorted(event.mono for event in bench.events.events)
    assert all(0 < len(batch) <= EVENTS_PER_BATCH for batch in bench.events.batches)
    assert len(bench.events.batches) == -(-count // EVENTS_PER_BATCH)


def test_batches_of_large_events_have_fewer_of_them() -> None:
    """A batch is one frame to the writer, whose size is limited, whatever max_payload is."""
    bench = Bench(max_payload=CHARS_PER_BATCH)
    sizes = [CHARS_PER_BATCH // 3] * 10 + [CHARS_PER_BATCH - 10, 1, 1, CHARS_PER_BATCH - 10]
    bench.ctx.log_many(("large", "x" * size) for size in sizes)
    assert [len(event.payload) - 2 for event in bench.events.events] == sizes
    for batch in bench.events.batches:
        assert len(batch) == 1 or sum(len(event.payload) for event in batch) <= CHARS_PER_BATCH
    assert len(bench.events.batches) < len(sizes)


def test_log_many_refuses_events_that_are_not_pairs(bench: Bench) -> None:
    """A list of types alone is an error in the compute, before anything is sent."""
    with pytest.raises(ValueError, match="unpack"):
        bench.ctx.log_many(["reading"])  # type: ignore[list-item]
    assert bench.events.batches == []


def test_a_query_waits_until_what_was_logged_is_committed(bench: Bench) -> None:
    """It waits for a while only: the log is queried even if the writer is slower than that."""
    since = datetime(2026, 11, 23, tzinfo=UTC)
    found = bench.ctx.query_logs(
        source="sense",
        type="reading",
        ref_id="probe/1",
        sense="probe",
        since=since,
        until=9,
        errors=True,
        limit=3,
        archived=True,
    )
    assert [log.type for log in found] == ["reading"]
    assert bench.calls == ["settle", "query"]
    expected = Filter("sense", "reading", "probe/1", "probe", since=1_795_392_000_000, until=9, errors=True, limit=3)
    assert bench.storage.queries == [(expected, True)]


def test_a_query_without_filters_matches_everything_in_the_table(bench: Bench) -> None:
    """Each filter may be left out, and none can be passed by position."""
    bench.ctx.query_logs()
    assert bench.storage.queries == [(Filter(), False)]
    with pytest.raises(TypeError):
        bench.ctx.query_logs("sense")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("filters", "error", "message"),
    [
        ({"since": datetime(2026, 11, 23)}, ValueError, "since is a datetime without a timezone"),  # noqa: DTZ001
        ({"until": "yesterday"}, TypeError, "until is 'yesterday'"),
        ({"until": True}, TypeError, "until is True"),
        ({"limit": -1}, ValueError, "limit is -1"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused_before_the_query(
    bench: Bench, filters: dict[str, Any], error: type[Exception], message: str
) -> None:
    """The error names the argument, and nothing is waited for."""
    with pytest.raises(error, match=message):
        bench.ctx.query_logs(**filters)
    assert bench.calls == []


def test_a_moment_with_any_timezone_is_the_same_moment(bench: Bench) -> None:
    """A datetime is converted to unix ms, rounded down."""
    for hours in (0, 5, -3):
        noon = datetime(1970, 1, 1, 12, 0, 0, 1999, tzinfo=UTC).astimezone(timezone(timedelta(hours=hours)))
        bench.ctx.query_logs(since=noon)
    assert [query.since for query, _archived in bench.storage.queries] == [12 * 3_600_000 + 1] * 3


def test_db_is_the_senses_own_database_and_peer_db_that_of_another(bench: Bench) -> None:
    """The sense's own is an attribute; another's is opened by name."""
    assert (str(bench.ctx.db), str(bench.ctx.peer_db("disk"))) == ("own probe", "peer disk")


def test_entries_that_could_not_be_stored_are_counted(bench: Bench) -> None:
    """Whether they were too large or not JSON, logged one by one or together."""
    bench.ctx.log("good", 1)
    bench.ctx.log("large", "x" * (MAX_PAYLOAD + 1))
    bench.ctx.log_many([("nan", math.nan), ("good", 2), ("object", object())])
    assert end_context(bench.ctx) == 3


def test_a_context_that_is_used_after_its_run_says_so_once(bench: Bench) -> None:
    """What is logged with it is still recorded under its run."""
    bench.ctx.log("reading")
    end_context(bench.ctx)
    bench.ctx.log("late")
    bench.ctx.log_many([("late", 2)])
    notice = msgspec.json.decode(bench.events.events[1].payload)["message"]
    assert [(event.source, event.type) for event in bench.events.events] == [
        ("sense", "reading"), ("logging", "warning"), ("sense", "late"), ("sense", "late"),
    ]  # fmt: skip
    assert notice.startswith("the thread 'MainThread' goes on logging although its run has ended")
    assert {event.ref_id for event in bench.events.events} == {"probe/1"}
