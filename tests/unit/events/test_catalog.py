"""The vocabulary of the log: every constructor fills in what readers of the log rely on."""

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


def payload_of(event: LogEvent) -> Any:
    """Give the payload of an event, decoded."""
    return msgspec.json.decode(event.payload)


@pytest.mark.parametrize(
    ("event", "head", "fields"),
    [
        (
            catalog.start(NOW, "boot", version="1", pid=7, workers=2, senses=["disk"], reflexes=["disk-interval"]),
            ("system", "start", "boot"),
            {"version": "1", "pid": 7, "workers": 2, "senses": ["disk"], "reflexes": ["disk-interval"]},
        ),
        (
            catalog.stop(NOW, "boot", reason="SIGTERM", uptime_ms=5),
            ("system", "stop", "boot"),
            {"reason": "SIGTERM", "uptime_ms": 5},
        ),
        (
            catalog.error(NOW, RUN_ID, ErrorDetail("compute", "no", exception="ValueError", traceback="Trace")),
            ("system", "error", RUN_ID),
            {"kind": "compute", "message": "no", "exception": "ValueError", "traceback": "Trace"},
        ),
        (
            catalog.error(NOW, "writer", ErrorDetail("process_died", "it died", exit_code=0)),
            ("system", "error", "writer"),
            {"kind": "process_died", "message": "it died", "exit_code": 0},
        ),
        (
            catalog.archive(NOW, "2026-11-23", rows=3, file="a.jsonl.zst", sha256="ab", reason="retention"),
            ("system", "archive", "2026-11-23"),
            {"rows": 3, "file": "a.jsonl.zst", "sha256": "ab", "reason": "retention"},
        ),
        (
            catalog.events_dropped(NOW, "worker", n=2, reason="full"),
            ("system", "events_dropped", "worker"),
            {"n": 2, "reason": "full"},
        ),
        (
            catalog.config_reload(NOW, "boot", ("workers 2 -> 4",)),
            ("system", "config_reload", "boot"),
            {"ok": True, "changes": ["workers 2 -> 4"]},
        ),
        (
            catalog.config_refused(NOW, "boot", ("nerve.yaml:1: no",)),
            ("system", "config_reload", "boot"),
            {"ok": False, "errors": ["nerve.yaml:1: no"]},
        ),
        (
            catalog.sense_reload(NOW, "disk", digest="d", files={"senses/disk.py": "d"}),
            ("system", "sense_reload", "disk"),
            {"ok": True, "digest": "d", "files": {"senses/disk.py": "d"}},
        ),
        (
            catalog.sense_refused(NOW, "disk", "senses/disk.py:1: no"),
            ("system", "sense_reload", "disk"),
            {"ok": False, "error": "senses/disk.py:1: no"},
        ),
        (
            catalog.sense_refused(NOW, "disk", "senses/disk.py:1: no", "d"),
            ("system", "sense_reload", "disk"),
            {"ok": False, "error": "senses/disk.py:1: no", "digest": "d"},
        ),
        (
            catalog.scale(NOW, "boot", before=2, after=4, by="SIGTTIN"),
            ("system", "scale", "boot"),
            {"from": 2, "to": 4, "by": "SIGTTIN"},
        ),
        (
            catalog.run_start(NOW, RUN_ID, "disk", INTERVAL, digest="d", lateness_ms=1, skipped=2),
            ("reflex", "run_start", RUN_ID),
            {
                "sense": "disk",
                "reflex": "disk-interval",
                "trigger": "interval",
                "cause": None,
                "scheduled_ts": 1_699_999_999_000,
                "lateness_ms": 1,
                "skipped": 2,
                "coalesced": 0,
                "digest": "d",
            },
        ),
        (
            catalog.run_complete(NOW, RUN_ID, "disk", status="lost", duration_ms=None, signal=False, worker=None),
            ("reflex", "run_complete", RUN_ID),
            {"sense": "disk", "status": "lost", "duration_ms": None, "signal": False, "worker": None},
        ),
        (catalog.from_sense(NOW, RUN_ID, "reading", {"c": 21.5}), ("sense", "reading", RUN_ID), {"c": 21.5}),
        (
            catalog.from_logging(NOW, None, "warning", {"logger": "app", "message": "hot"}, 100),
            ("logging", "warning", None),
            {"logger": "app", "message": "hot"},
        ),
    ],
    ids=lambda value: "/".join(map(str, value[:2])) if isinstance(value, tuple) else "",
)
def test_the_vocabulary(event: LogEvent, head: tuple[object, ...], fields: dict[str, object]) -> None:
    """Each kind of event has its source, type, reference and payload, and bears the moment that it was given."""
    assert (event.source, event.type, event.ref_id) == head
    assert payload_of(event) == fields
    assert Stamp(event.ts, event.mono) == NOW


def test_a_run_fired_by_a_signal_names_the_run_that_signalled() -> None:
    """Causality can be followed from a run to the one before it; a signal sent by hand has none."""
    for cause in ("cpu/0191", None):
        trigger = Trigger("signal", "on-cpu", Signal("cpu", "1", cause, NOW.ts), 4, NOW.ts)
        payload = payload_of(catalog.run_start(NOW, RUN_ID, "disk", trigger, digest="d", lateness_ms=0, skipped=0))
        assert payload["cause"] == cause
        assert payload["coalesced"] == 4


@pytest.mark.parametrize("bad", [math.nan, 2**63, "\ud800", object(), "x" * 100_000])
def test_what_can_not_be_stored_becomes_an_error_of_the_run(bad: object) -> None:
    """A bad payload is quarantined: the log says that there was one, what it was and why it isn't there."""
    event = catalog.from_sense(NOW, RUN_ID, "reading", {"bad": bad})
    assert (event.source, event.type, event.ref_id) == ("system", "error", RUN_ID)
    payload = payload_of(event)
    assert payload["kind"] == "payload"
    assert payload["event"] == "sense/reading"
    assert "sense/reading" in payload["message"]
    assert payload["preview"]


@pytest.mark.parametrize("name", ["\ud800", "\ud800" * 1000, "x" * 1_000_000])
def test_a_type_that_can_not_be_stored_is_quarantined_too(name: str) -> None:
    """The name of an event is as much the compute's as its payload, and no larger in the error than a preview."""
    event = catalog.from_sense(NOW, RUN_ID, name, None)
    assert event.type == "error"
    assert payload_of(event)["event"].startswith("sense/")
    assert len(payload_of(event)["event"]) <= 6 * PREVIEW_CHARS
    assert len(event.payload) < 10_000


def test_the_size_limit_is_the_caller_s() -> None:
    """A limit from the configuration applies to what computes log and to their logging records."""
    assert catalog.from_sense(NOW, RUN_ID, "a", "x" * 50, 52).type == "a"
    assert catalog.from_sense(NOW, RUN_ID, "a", "x" * 50, 51).type == "error"
    assert catalog.from_logging(NOW, RUN_ID, "info", "x" * 50, 51).source == "system"


def test_an_event_out_of_range_is_no_event() -> None:
    """A moment that a 64-bit column can't hold is refused at the door, before it can spoil a commit."""
    fields = ["sense", "reading", RUN_ID, "null", 2**60, 1]
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=LogEvent)
