"""The catalog of event types: each constructor writes the source, type, ref_id and JSON that readers rely on."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from nerve.clock import Stamp
from nerve.events import catalog
from nerve.events.model import ErrorDetail, LogEvent
from nerve.events.payload import PREVIEW_CHARS
from nerve.events.trigger import Signal, Trigger

NOW = Stamp(ts=1_700_000_000_000, mono=42)
RUN_ID = "disk/0190"
INTERVAL = Trigger("interval", "disk-interval", None, 0, 1_699_999_999_000)

# The JSON is written out, and compared as text: logs and archives of earlier releases hold exactly this.
RECORDED: list[tuple[LogEvent, str, str | None, str]] = [
    (
        catalog.start(NOW, "boot", version="1", pid=7, workers=2, senses=["disk"], reflexes=["disk-interval"]),
        "system/start",
        "boot",
        '{"version":"1","pid":7,"workers":2,"senses":["disk"],"reflexes":["disk-interval"]}',
    ),
    (
        catalog.stop(NOW, "boot", reason="SIGTERM", uptime_ms=5),
        "system/stop",
        "boot",
        '{"reason":"SIGTERM","uptime_ms":5}',
    ),
    (
        catalog.error(NOW, RUN_ID, ErrorDetail("compute", "no", exception="ValueError", traceback="Trace")),
        "system/error",
        RUN_ID,
        '{"kind":"compute","message":"no","exception":"ValueError","traceback":"Trace"}',
    ),
    (
        catalog.error(NOW, RUN_ID, ErrorDetail("worker_died", "it died", backoff_ms=1000, exit_code=0)),
        "system/error",
        RUN_ID,
        '{"kind":"worker_died","message":"it died","backoff_ms":1000,"exit_code":0}',
    ),
    (
        catalog.archive(NOW, "2026-11-23", rows=3, file="a.jsonl.zst", sha256="ab", reason="retention"),
        "system/archive",
        "2026-11-23",
        '{"rows":3,"file":"a.jsonl.zst","sha256":"ab","reason":"retention"}',
    ),
    (
        catalog.config_reload(NOW, "boot", ("workers 2 -> 4",)),
        "system/config_reload",
        "boot",
        '{"ok":true,"changes":["workers 2 -> 4"]}',
    ),
    (catalog.config_reload(NOW, "boot", ()), "system/config_reload", "boot", '{"ok":true,"changes":[]}'),
    (
        catalog.config_refused(NOW, "boot", ("nerve.yaml:1: no",)),
        "system/config_reload",
        "boot",
        '{"ok":false,"errors":["nerve.yaml:1: no"]}',
    ),
    (
        catalog.sense_reload(NOW, "disk", digest="d", files={"senses/disk.py": "d"}),
        "system/sense_reload",
        "disk",
        '{"ok":true,"digest":"d","files":{"senses/disk.py":"d"}}',
    ),
    (
        catalog.sense_refused(NOW, "disk", "senses/disk.py:1: no"),
        "system/sense_reload",
        "disk",
        '{"ok":false,"error":"senses/disk.py:1: no"}',
    ),
    (
        catalog.sense_refused(NOW, "disk", "senses/disk.py:1: no", "d"),
        "system/sense_reload",
        "disk",
        '{"ok":false,"error":"senses/disk.py:1: no","digest":"d"}',
    ),
    (
        catalog.scale(NOW, "boot", before=2, after=4, by="SIGTTIN"),
        "system/scale",
        "boot",
        '{"from":2,"to":4,"by":"SIGTTIN"}',
    ),
    (
        catalog.run_start(NOW, RUN_ID, "disk", INTERVAL, digest="d", lateness_ms=1, skipped=2),
        "reflex/run_start",
        RUN_ID,
        (
            '{"sense":"disk","reflex":"disk-interval","trigger":"interval","cause":null,'
            '"scheduled_ts":1699999999000,"lateness_ms":1,"skipped":2,"coalesced":0,"digest":"d"}'
        ),
    ),
    (
        catalog.run_complete(NOW, RUN_ID, "disk", status="ok", duration_ms=1.5, signal=True, worker=7),
        "reflex/run_complete",
        RUN_ID,
        '{"sense":"disk","status":"ok","duration_ms":1.5,"signal":true,"worker":7}',
    ),
    (
        catalog.run_complete(NOW, RUN_ID, "disk", status="lost", duration_ms=None, signal=False, worker=None),
        "reflex/run_complete",
        RUN_ID,
        '{"sense":"disk","status":"lost","duration_ms":null,"signal":false,"worker":null}',
    ),
    (catalog.from_sense(NOW, RUN_ID, "reading", {"c": 21.5}), "sense/reading", RUN_ID, '{"c":21.5}'),
    (
        catalog.from_sense(NOW, None, "warning", {"logger": "app", "message": "hot"}, source="logging"),
        "logging/warning",
        None,
        '{"logger":"app","message":"hot"}',
    ),
]


@pytest.mark.parametrize(("event", "name", "ref_id", "payload"), RECORDED, ids=[row[1] for row in RECORDED])
def test_each_constructor_writes_its_source_type_ref_id_and_json(
    event: LogEvent, name: str, ref_id: str | None, payload: str
) -> None:
    """The JSON is the same to the byte as in earlier releases, and the event has the given time."""
    assert (f"{event.source}/{event.type}", event.ref_id, event.payload) == (name, ref_id, payload)
    assert Stamp(event.ts, event.mono) == NOW


@pytest.mark.parametrize("cause", ["cpu/0191", None])
def test_run_start_names_the_run_whose_signal_fired_it(cause: str | None) -> None:
    """Its `cause` is null for a signal that was sent by hand."""
    trigger = Trigger("signal", "on-cpu", Signal("cpu", "1", cause, NOW.ts), 4, NOW.ts)
    event = catalog.run_start(NOW, RUN_ID, "disk", trigger, digest="d", lateness_ms=0, skipped=0)
    payload = payload_of(event)
    assert (payload["cause"], payload["coalesced"]) == (cause, 4)


@pytest.mark.parametrize("bad", [math.nan, 2**63, "\ud800", object(), "x" * 100_000])
def test_a_payload_that_can_not_be_stored_becomes_an_error_of_the_run(bad: object) -> None:
    """The log then says which event it was meant for, why it is not there, and what it looked like."""
    event = catalog.from_sense(NOW, RUN_ID, "reading", {"bad": bad})
    assert (event.source, event.type, event.ref_id) == ("system", "error", RUN_ID)
    payload = payload_of(event)
    assert payload["kind"] == "payload"
    assert payload["event"] == "sense/reading"
    assert "sense/reading" in payload["message"]
    assert payload["preview"]


@pytest.mark.parametrize("name", ["\ud800", "\ud800" * 1000, "x" * 1_000_000])
def test_a_type_that_can_not_be_stored_becomes_an_error_with_a_short_name(name: str) -> None:
    """A compute chooses the type as freely as the payload; in the error it takes no more than a preview."""
    event = catalog.from_sense(NOW, RUN_ID, name, None)
    assert event.type == "error"
    assert payload_of(event)["event"].startswith("sense/")
    assert len(payload_of(event)["event"]) <= 6 * PREVIEW_CHARS
    assert len(event.payload) < 10_000


def test_the_size_limit_is_the_one_that_the_caller_passes() -> None:
    """A limit from the configuration applies to what computes log and to their logging records."""
    assert catalog.from_sense(NOW, RUN_ID, "a", "x" * 50, 52).type == "a"
    assert catalog.from_sense(NOW, RUN_ID, "a", "x" * 50, 51).type == "error"
    record = catalog.from_sense(NOW, RUN_ID, "info", "x" * 50, 51, source="logging")
    assert (record.source, payload_of(record)["event"]) == ("system", "logging/info")


def test_an_event_whose_time_is_out_of_range_is_not_decoded() -> None:
    """A time that a 64-bit column can't hold is refused by the decoder, before it can spoil a commit."""
    fields = ["sense", "reading", RUN_ID, "null", 2**60, 1]
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=LogEvent)


def payload_of(event: LogEvent) -> Any:
    """Return the decoded payload of an event."""
    return msgspec.json.decode(event.payload)
