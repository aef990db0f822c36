"""trace_run: the causes and effects of a run, as a tree within limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import msgspec

from nerve.events.model import Log
from nerve.store.provenance.traced_run import RunEntries, TracedRun, build_tree, read_start

MOST_STEPS = 10_000
"""Limit on the causes that are followed and on the runs left out that are counted: a chain may be endless."""


class RunSource(Protocol):
    """The runs in the log (LoggedRuns), or in the log and its archive (ArchivedRuns)."""

    def find(self, name: str, at_most: int) -> list[str]:
        """Return the ids of up to `at_most` runs that `name` can mean.

        Raises ValueError, with one line, if it can't be a part of a run id.
        """

    def cause_of(self, run_id: str) -> str | None:
        """Return the run whose signal triggered this one; None if there is none, or if its start is missing."""

    def caused_by(self, runs: Sequence[str]) -> list[Log]:
        """Return the `run_start` of each run that a signal of one of `runs` triggered, in the order of their ids."""

    def count_below(self, runs: Sequence[str], at_most: int) -> int:
        """Count `runs` and all direct and indirect effects of theirs, up to `at_most`."""

    def entries_of(self, runs: Sequence[str], *, own: bool) -> Iterable[Log]:
        """Return starts, ends and errors of `runs` and, with `own`, all their other entries, ascending by id."""

    def is_archived(self, run_id: str) -> bool:
        """Return True if the entries of a run of that age have moved to the archive, and are not read."""


@dataclass(frozen=True, slots=True)
class TraceLimits:
    """The size of a tree: levels above and below the requested run, runs, and whether it has their own entries."""

    depth: int = 20
    limit: int = 200
    own: bool = False


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The tree of the run `asked`.

    `root` is the first cause in the log or, if `is_rooted` is false, the last one that was followed; `above` counts the
    runs from there down to the top of `tree`. If `is_counted` is false, the `more_runs` in the tree are too low.
    """

    asked: str
    root: str
    is_rooted: bool
    is_counted: bool
    above: int
    tree: TracedRun


def trace_run(runs: RunSource, asked: str, limits: TraceLimits) -> Trace:
    """Follow the causes of a run up to the first one, and the effects from there down."""
    line = list(_causes(runs, asked))
    shown = line[: limits.depth + 1]
    plan = _Plan(shown, limits.limit)
    plan.grow(runs, [asked], limits.depth)
    plan.grow(runs, shown[1:], limits.depth)
    entries = {run: RunEntries("archived" if runs.is_archived(run) else "missing") for run in plan.children}
    for entry in runs.entries_of(list(entries), own=limits.own):
        entries[entry.ref_id or ""].add(entry)
    more = _count_left_out(runs, plan.left_out)
    return Trace(
        asked=asked,
        root=line[-1],
        is_rooted=len(line) <= MOST_STEPS,
        is_counted=sum(more.values()) < MOST_STEPS,
        above=len(line) - len(shown),
        tree=build_tree(shown[-1], plan.children, entries, more, asked),
    )


def _causes(runs: RunSource, asked: str) -> Iterator[str]:
    """Yield a run, its cause, the cause of that, and so on."""
    seen: set[str] = set()
    run: str | None = asked
    while run is not None and run not in seen and len(seen) <= MOST_STEPS:
        seen.add(run)
        yield run
        run = runs.cause_of(run)


def _count_left_out(runs: RunSource, left_out: Mapping[str, Sequence[str]]) -> dict[str, int]:
    room, counts = MOST_STEPS, {}
    for cause, left in left_out.items():
        counts[cause] = max(len(left), runs.count_below(left, room))
        room = max(0, room - counts[cause])
    return counts


class _Plan:
    """The runs in the tree, each with those that it caused, and the runs left out."""

    def __init__(self, line: Sequence[str], limit: int) -> None:
        self.children: dict[str, list[str]] = {run: [] for run in line}
        self.left_out: dict[str, list[str]] = {}
        self._limit = limit
        for run, cause in pairwise(line):
            self.children[cause].append(run)

    def grow(self, runs: RunSource, level: Sequence[str], depth: int) -> None:
        """Add the effects of the runs in `level`, down to `depth` levels below them, up to the limit."""
        while level:
            added = [self._add(start, fits=depth > 0) for start in runs.caused_by(level)]
            level = [run for run in added if run is not None]
            depth -= 1

    def _add(self, start: Log, *, fits: bool) -> str | None:
        run, cause = start.ref_id, read_start(start).cause
        if run is None or cause is None or run in self.children:
            return None
        if not fits or len(self.children) >= self._limit:
            self.left_out.setdefault(cause, []).append(run)
            return None
        self.children[run] = []
        self.children[cause].append(run)
        return run
