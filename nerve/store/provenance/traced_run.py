"""A run as a causal tree shows it, told by the entries that the log has of it; pure, knows no database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from nerve.events.model import Log
from nerve.ids import sense_of

MOST_ENTRIES = 20
"""So many errors of one run, and so many entries of its own, are given."""

T = TypeVar("T")


class TracedRun(msgspec.Struct, frozen=True):
    """A run in its tree.

    `status` is that of its end, `open` while it has none; where there is neither start nor end, `archived` or
    `missing`. `digest` is that of the code that ran. `lateness_ms` and `duration_ms` are ms, `start_ts` and `end_ts`
    unix ms. `entries` are its own ones, where they were asked for; `more_entries` counts what was left out of them and
    of `errors`. `more_runs` counts the runs that came of this one, directly or not, and are left out of `caused`.
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


class RecordedStart(msgspec.Struct, frozen=True):
    """What matters of the payload of a `run_start`."""

    trigger: str | None = None
    reflex: str | None = None
    cause: str | None = None
    coalesced: int = 0
    skipped: int = 0
    lateness_ms: int | float | None = None
    digest: str | None = None


class RecordedEnd(msgspec.Struct, frozen=True):
    """What matters of the payload of a `run_complete`; its status is `unknown` where that can't be read."""

    status: str = "unknown"
    duration_ms: float | None = None
    signal: bool = False


def read_start(entry: Log) -> RecordedStart:
    """Read the payload of a `run_start`; of what is none of ours, it gives the least."""
    return _read(entry, RecordedStart)


def read_end(entry: Log) -> RecordedEnd:
    """Read the payload of a `run_complete`; of what is none of ours, it gives the least."""
    return _read(entry, RecordedEnd)


_decode_end = msgspec.json.Decoder(RecordedEnd).decode


def decode_end(payload: str) -> RecordedEnd:
    """Read the payload of a `run_complete` from its JSON text; of what is none of ours, it gives the least."""
    try:
        return _decode_end(payload)
    except (msgspec.DecodeError, RecursionError):
        return RecordedEnd()


@dataclass(slots=True)
class RunEntries:
    """The entries of one run, as far as there is room for them; `unseen` says what it is where there is none."""

    unseen: str = "missing"
    start: Log | None = None
    end: Log | None = None
    errors: list[Log] = field(default_factory=list)
    own: list[Log] = field(default_factory=list)
    more: int = 0

    def take(self, entry: Log) -> None:
        """Put an entry to its like."""
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
    top: str, children: Mapping[str, Sequence[str]], told: Mapping[str, RunEntries], more: Mapping[str, int], asked: str
) -> TracedRun:
    """Put the runs together, from the last ones up to the `top`."""
    done: dict[str, TracedRun] = {}
    for run in reversed(list(_downwards(top, children))):
        caused = tuple(done.pop(child) for child in children[run])
        done[run] = _traced(run, told[run], caused, more.get(run, 0), asked)
    return done[top]


def _downwards(top: str, children: Mapping[str, Sequence[str]]) -> Iterator[str]:
    level = [top]
    while level:
        yield from level
        level = [child for run in level for child in children[run]]


def _traced(run: str, told: RunEntries, caused: tuple[TracedRun, ...], more_runs: int, asked: str) -> TracedRun:
    start = read_start(told.start) if told.start else RecordedStart()
    end = read_end(told.end) if told.end else RecordedEnd("open" if told.start else told.unseen)
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
        start_ts=told.start.ts if told.start else None,
        end_ts=told.end.ts if told.end else None,
        duration_ms=end.duration_ms,
        signal=end.signal,
        errors=tuple(told.errors),
        entries=tuple(told.own),
        more_entries=told.more,
        caused=caused,
        more_runs=more_runs,
    )


def _read(entry: Log, kind: type[T]) -> T:
    try:
        return msgspec.convert(entry.payload, kind)
    except msgspec.ValidationError:
        return kind()
