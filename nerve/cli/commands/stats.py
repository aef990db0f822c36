"""`nerve stats`: show runs, failures and durations per sense."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import click
from rich.table import Table
from rich.text import Text

from nerve.cli.console import Styled, View, console_for, say, view_of
from nerve.cli.formatting import ALIGNED_WIDTH, print_json, quoted, short_ref
from nerve.cli.log_access import moment, open_workspace_log, printing, show_hints, zone_of
from nerve.cli.moments import format_moment
from nerve.clock import SystemClock
from nerve.escaping import escape
from nerve.store.filters import Filter
from nerve.store.query import LogSource
from nerve.store.statistics import Counting, SenseStatistics, Statistics
from nerve.units import format_duration

BLOCKS = " ▁▂▃▄▅▆▇█"


@click.command()
@click.option(
    "--since", metavar="TIME", callback=moment, help="Runs that ended at or after TIME (10m, 2026-11-23, yesterday)."
)
@click.option(
    "--until", metavar="TIME", callback=moment, help="Runs that ended at or before TIME; a bare day includes all of it."
)
@click.option("--sense", help="Runs of this sense.")
@click.option("--archived", is_flag=True, help="Include the archive.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--utc", is_flag=True, is_eager=True, help="Read and show times in UTC instead of local time.")
@click.pass_context
def stats(
    ctx: click.Context,
    since: int | None,
    until: int | None,
    sense: str | None,
    archived: bool,
    as_json: bool,
    utc: bool,
) -> None:
    """Show runs, failures and durations per sense, and how they are distributed over time.

    Only runs that have ended count. p50 and p95 are the median and the 95th percentile of their durations; both are
    exact.

    \b
    Example:
      nerve stats --since 1h
      nerve stats --since yesterday --until yesterday --sense disk-usage
      nerve stats --json | jq '.senses[] | select(.failures > 0) | .name'
    """
    criteria = Filter(sense=sense, since=since, until=until)
    with open_workspace_log(ctx, archived=archived) as log:
        statistics = _count(log, criteria)
    has_hint = not statistics.senses and show_hints(ctx, criteria, archived=archived)
    with printing():
        if as_json:
            print_json(statistics)
        else:
            _show(statistics, view_of(sys.stdout, zone_of(utc=utc), utc=utc), has_hint=has_hint)


def _count(log: LogSource, criteria: Filter) -> Statistics:
    ends = replace(criteria, source="reflex", type="run_complete")
    errors = replace(criteria, source="system", type="error")
    counting = Counting(*_period(log, ends))
    counting.count_ends(log.rows(ends))
    counting.note_errors(log.rows(errors))
    return counting.result()


def _period(log: LogSource, ends: Filter) -> tuple[int, int]:
    """Return start and end of the period (unix ms): those of the filter, or else of the first and the last run."""
    since, until = ends.since, ends.until
    if since is None:
        first = next(iter(log.rows(ends)), None)
        since = first[-1] if first else 0
    if until is None:
        last = log.query(replace(ends, limit=1))
        until = SystemClock().stamp().ts if ends.since is not None else last[-1].ts if last else since
    return since, max(since, until)


def _line(sense: SenseStatistics, view: View) -> str:
    """Return a line for a pipe: the sense's name, and everything else as key=value."""
    pairs: list[tuple[str, object]] = [("runs", sense.runs), ("failures", sense.failures), *sense.statuses.items()]
    pairs += [("p50_ms", sense.p50_ms), ("p95_ms", sense.p95_ms), ("max_ms", sense.max_ms)]
    if error := sense.last_error:
        pairs += [("last_error_ts", format_moment(error.ts, view.zone, offset=True)), ("last_error", error.message)]
    return " ".join(
        [escape(sense.name), *(f"{quoted(key)}={quoted(value)}" for key, value in pairs if value is not None)]
    )


def _show(statistics: Statistics, view: View, *, has_hint: bool) -> None:
    console = console_for(view)
    if view.width is None:
        for sense in statistics.senses:
            say(_line(sense, view))
        return
    if not statistics.senses:
        if not has_hint:
            hint = "no run ended in this period: list all entries with `nerve logs`"
            say(Styled(hint, dim=True), err=True)
        return
    begin, end = (format_moment(ts, view.zone, offset=view.offset) for ts in (statistics.since, statistics.until))
    console.print(Text(f"{begin} to {end}, {format_duration(statistics.step_ms / 1000)} per block", "dim"))
    console.print(_table(statistics, is_wide=view.width >= ALIGNED_WIDTH))
    for sense in statistics.senses:
        if sense.last_error:
            console.print(Text(" ").join(_last_error(sense, view)), soft_wrap=True)


def _table(statistics: Statistics, *, is_wide: bool) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for header, is_number in (("sense", False), ("runs", True), ("p50", True), ("p95", True), ("max", True)):
        table.add_column(header, justify="right" if is_number else "left", no_wrap=True)
    table.add_column("runs over time", no_wrap=True)
    table.add_column("failures")
    for sense in statistics.senses:
        times = (_duration(ms) for ms in (sense.p50_ms, sense.p95_ms, sense.max_ms))
        failures = Text.assemble(*_failures(sense, is_wide=is_wide))
        table.add_row(escape(sense.name), str(sense.runs), *times, sparkline(sense.runs_over_time), failures)
    return table


def _failures(sense: SenseStatistics, *, is_wide: bool) -> Iterator[tuple[str, str]]:
    if sense.failures and is_wide:
        yield f"{sparkline(sense.failures_over_time)} ", "red"
    counts = [(escape(status), count) for status, count in sense.statuses.items() if status != "ok"]
    for n, (status, count) in enumerate(counts):
        yield f"{', ' if n else ''}{count} {status}", "yellow" if status == "cancelled" else "red"


def _last_error(sense: SenseStatistics, view: View) -> Iterator[Text]:
    if error := sense.last_error:
        yield Text(format_moment(error.ts, view.zone, offset=view.offset), "dim")
        yield Text(short_ref(error.ref_id))
        yield Text(escape(f"{error.kind or 'error'}: {error.message}"), "red")


def sparkline(counts: tuple[int, ...]) -> str:
    """Draw counts as blocks: the greatest is a full block, and only a count of 0 is empty."""
    most = max(*counts, 1)
    return "".join(BLOCKS[-(-count * (len(BLOCKS) - 1) // most)] for count in counts)


def _duration(ms: float | None) -> str:
    return "-" if ms is None else format_duration(ms / 1000)
