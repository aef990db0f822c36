"""Where a run came from and what came of it: the causal tree that it belongs to, within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import msgspec

from nerve.events.model import Log
from nerve.store.provenance.traced_run import RunEntries, TracedRun, build_tree, read_start

MOST_STEPS = 10_000
"""So many causes are followed up, and so many runs are counted that are left out: a tree need not have an end."""


class RunSource(Protocol):
    """Where runs are read: the log, or the log with its archive."""

    def find(self, name: str, at_most: int) -> list[str]:
        """Give the ids of up to `at_most` runs that `name` can mean; ValueError for no part of an id."""

    def cause_of(self, run_id: str) -> str | None:
        """Give the run whose signal has fired this one; None where there is none, or where its start is not there."""

    def caused_by(self, runs: Sequence[str]) -> list[Log]:
        """Give the `run_start` of each run that a signal of one of `runs` has fired, in the order of their id."""

    def count_below(self, runs: Sequence[str], at_most: int) -> int:
        """Count `runs` and all that came of them, directly or not; stops at `at_most`."""

    def entries_of(self, runs: Sequence[str], *, own: bool) -> Iterable[Log]:
        """Give starts, ends and errors of `runs` and, with `own`, all else that they have logged, ascending by id."""

    def is_archived(self, run_id: str) -> bool:
        """Tell whether the entries of a run of that age have moved to the archive."""


@dataclass(frozen=True, slots=True)
class TraceLimits:
    """How much is given: levels above and below the run that was asked for, runs, and their own entries or not."""

    depth: int = 20
    limit: int = 200
    own: bool = False


class Trace(msgspec.Struct, frozen=True):
    """The tree that the run `asked` belongs to.

    `root` is the first run as far as the log knows, or, with `is_rooted` false, as far as was looked; `above` counts
    the runs from there down to the top of `tree`. With `is_counted` false, `more_runs` in the tree count too few.
    """

    asked: str
    root: str
    is_rooted: bool
    is_counted: bool
    above: int
    tree: TracedRun


def trace_run(runs: RunSource, asked: str, bounds: TraceLimits) -> Trace:
    """Follow the causes of a run up to the first one, and from there what came of it."""
    line = list(_causes(runs, asked))
    shown = line[: bounds.depth + 1]
    plan = _Plan(shown, bounds.limit)
    plan.grow(runs, [asked], bounds.depth)
    plan.grow(runs, shown[1:], bounds.depth)
    told = {run: RunEntries("archived" if runs.is_archived(run) else "missing") for run in plan.children}
    for entry in runs.entries_of(list(told), own=bounds.own):
        told[entry.ref_id or ""].take(entry)
    more = _counted(runs, plan.left_out)
    return Trace(
        asked=asked,
        root=line[-1],
        is_rooted=len(line) <= MOST_STEPS,
        is_counted=sum(more.values()) < MOST_STEPS,
        above=len(line) - len(shown),
        tree=build_tree(shown[-1], plan.children, told, more, asked),
    )


def _causes(runs: RunSource, asked: str) -> Iterator[str]:
    """Give a run, its cause, the cause of that, and so on."""
    seen: set[str] = set()
    run: str | None = asked
    while run is not None and run not in seen and len(seen) <= MOST_STEPS:
        seen.add(run)
        yield run
        run = runs.cause_of(run)


def _counted(runs: RunSource, left_out: Mapping[str, Sequence[str]]) -> dict[str, int]:
    room, counts = MOST_STEPS, {}
    for cause, left in left_out.items():
        counts[cause] = max(len(left), runs.count_below(left, room))
        room = max(0, room - counts[cause])
    return counts


class _Plan:
    """Which runs are given, each with those that it caused, and which are left out."""

    def __init__(self, line: Sequence[str], limit: int) -> None:
        self.children: dict[str, list[str]] = {run: [] for run in line}
        self.left_out: dict[str, list[str]] = {}
        self._limit = limit
        for run, cause in pairwise(line):
            self.children[cause].append(run)

    def grow(self, runs: RunSource, level: Sequence[str], depth: int) -> None:
        """Add what came of the runs of `level`, down to `depth` levels below them, as far as there is room."""
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
