"""TracedRun: a run in a causal tree, built from its entries; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from nerve.events.model import Log
from nerve.ids import sense_of

MOST_ENTRIES = 20
"""Limit on the errors, and on the other entries, that are shown of one run."""

T = TypeVar("T")


class TracedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run in its tree.

    `status` is that of its end, or `open` while it has none; without a start and an end, `archived` or `missing`.
    `digest` is that of the code that ran. `lateness_ms` and `duration_ms` are in ms, `start_ts` and `end_ts` in unix
    ms. `entries` are those that the run logged itself, if requested; `more_entries` counts those left out of `entries`
    and `errors`. `more_runs` counts the direct and indirect effects of this run that are left out of `caused`.
    """

    run: str
    sense: str
    asked: bool
    status: str
    trigger: str | None
    reflex: str | None
    cause: str | None
    coalesced: int
    skipped: int
    lateness_ms: int | float | None
    digest: str | None
    start_ts: int | None
    end_ts: int | None
    duration_ms: float | None
    signal: bool
    errors: tuple[Log, ...]
    entries: tuple[Log, ...]
    more_entries: int
    caused: tuple[TracedRun, ...]
    more_runs: int


class RecordedStart(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a `run_start` payload that are used."""

    trigger: str | None = None
    reflex: str | None = None
    cause: str | None = None
    coalesced: int = 0
    skipped: int = 0
    lateness_ms: int | float | None = None
    digest: str | None = None


class RecordedEnd(msgspec.Struct, frozen=True):
    """The fields of a `run_complete` payload that are used; the status is `unknown` for an invalid payload."""

    status: str = "unknown"
    duration_ms: float | None = None
    signal: bool = False


def read_start(entry: Log) -> RecordedStart:
    """Decode the payload of a `run_start`; an invalid one yields the defaults."""
    return _read(entry, RecordedStart)


def read_end(entry: Log) -> RecordedEnd:
    """Decode the payload of a `run_complete`; an invalid one yields the defaults."""
    return _read(entry, RecordedEnd)


_decode_end = msgspec.json.Decoder(RecordedEnd).decode


def decode_end(payload: str) -> RecordedEnd:
    """Decode the payload of a `run_complete` from JSON text; an invalid one yields the defaults."""
    try:
        return _decode_end(payload)
    except (msgspec.DecodeError, RecursionError):
        return RecordedEnd()


@dataclass(slots=True)
class RunEntries:
    """The entries of one run, within limits; `without_entries` is its status if it has neither start nor end."""

    without_entries: str = "missing"
    start: Log | None = None
    end: Log | None = None
    errors: list[Log] = field(default_factory=list)
    own: list[Log] = field(default_factory=list)
    more: int = 0

    def add(self, entry: Log) -> None:
        """Add an entry to those of its kind."""
        match entry.source, entry.type:
            case "reflex", "run_start":
                self.start = entry
            case "reflex", "run_complete":
                self.end = entry
            case "system", "error":
                self._keep(entry, self.errors)
            case _:
                self._keep(entry, self.own)

    def _keep(self, entry: Log, kept: list[Log]) -> None:
        if len(kept) < MOST_ENTRIES:
            kept.append(entry)
        else:
            self.more += 1


def build_tree(
    top: str,
    children: Mapping[str, Sequence[str]],
    entries: Mapping[str, RunEntries],
    more: Mapping[str, int],
    asked: str,
) -> TracedRun:
    """Build the tree from its leaves up to `top`; `more` counts the effects of each run that are left out."""
    done: dict[str, TracedRun] = {}
    for run in reversed(list(_downwards(top, children))):
        caused = tuple(done.pop(child) for child in children[run])
        done[run] = _traced(run, entries[run], caused, more.get(run, 0), asked)
    return done[top]


def _downwards(top: str, children: Mapping[str, Sequence[str]]) -> Iterator[str]:
    level = [top]
    while level:
        yield from level
        level = [child for run in level for child in children[run]]


def _traced(run: str, entries: RunEntries, caused: tuple[TracedRun, ...], more_runs: int, asked: str) -> TracedRun:
    start = read_start(entries.start) if entries.start else RecordedStart()
    end = read_end(entries.end) if entries.end else RecordedEnd("open" if entries.start else entries.without_entries)
    return TracedRun(
        run=run,
        sense=sense_of(run),
        asked=run == asked,
        status=end.status,
        trigger=start.trigger,
        reflex=start.reflex,
        cause=start.cause,
        coalesced=start.coalesced,
        skipped=start.skipped,
        lateness_ms=start.lateness_ms,
        digest=start.digest,
        start_ts=entries.start.ts if entries.start else None,
        end_ts=entries.end.ts if entries.end else None,
        duration_ms=end.duration_ms,
        signal=end.signal,
        errors=tuple(entries.errors),
        entries=tuple(entries.own),
        more_entries=entries.more,
        caused=caused,
        more_runs=more_runs,
    )


def _read(entry: Log, kind: type[T]) -> T:
    try:
        return msgspec.convert(entry.payload, kind)
    except msgspec.ValidationError:
        return kind()
