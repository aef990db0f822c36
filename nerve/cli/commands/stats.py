"""`nerve stats`: how the senses do, each with its runs, failures and durations over a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import click
from rich.table import Table
from rich.text import Text

from nerve.cli.console import console_for
from nerve.cli.formatting import View, escape, print_json, quoted, short_ref, view_of
from nerve.cli.log_access import moment, open_workspace_log, printing, zone_of
from nerve.cli.moments import format_moment
from nerve.clock import SystemClock
from nerve.store.filters import Filter
from nerve.store.query import LogSource
from nerve.store.statistics import Counting, SenseStatistics, Statistics
from nerve.units import format_duration

BLOCKS = " ▁▂▃▄▅▆▇█"

ENDS, ERRORS = Filter("reflex", "run_complete"), Filter("system", "error")


@click.command()
@click.option("--since", metavar="TIME", callback=moment, help="Only from then on: 10m, 2026-11-23, yesterday ...")
@click.option("--until", metavar="TIME", callback=moment, help="Only up to then; a bare day means its end.")
@click.option("--sense", help="Only this sense.")
@click.option("--archived", is_flag=True, help="Count what is in the archive, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@click.option("--utc", is_flag=True, is_eager=True, help="Read and show times in UTC, not in local time.")
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
    """Count, for each sense, the runs that have ended: failures, durations, and how they spread over the time.

    p50 and p95 are durations that half of the runs, and 95 in 100, don't exceed: exact ones, not estimates.

    \b
    Example:
      nerve stats --since 1h
      nerve stats --since yesterday --until yesterday --sense disk-usage
      nerve stats --json | jq '.senses[] | select(.failures > 0) | .name'
    """
    narrowed = Filter(sense=sense, since=since, until=until)
    with open_workspace_log(ctx, archived=archived) as log:
        found = _counted(log, narrowed)
    with printing():
        if as_json:
            print_json(found)
        else:
            _show(found, view_of(sys.stdout, zone_of(utc=utc), utc=utc))


def _counted(log: LogSource, narrowed: Filter) -> Statistics:
    ends = replace(ENDS, sense=narrowed.sense, since=narrowed.since, until=narrowed.until)
    errors = replace(ERRORS, sense=narrowed.sense, since=narrowed.since, until=narrowed.until)
    counting = Counting(*_times(log, ends))
    counting.count_ends(log.rows(ends))
    counting.note_errors(log.rows(errors))
    return counting.result()


def _times(log: LogSource, ends: Filter) -> tuple[int, int]:
    """Give the time to cut into parts: what was asked for and, where it is open, from the first run, or to the last."""
    since, until = ends.since, ends.until
    if since is None:
        first = next(iter(log.rows(ends)), None)
        since = first[-1] if first else 0
    if until is None:
        last = log.query(replace(ends, limit=1))
        until = SystemClock().stamp().ts if ends.since is not None else last[-1].ts if last else since
    return since, max(since, until)


def _line(one: SenseStatistics, view: View) -> str:
    """Give a sense as a line for a pipe: its name, and all else as key=value."""
    pairs: list[tuple[str, object]] = [("runs", one.runs), ("failures", one.failures), *one.statuses.items()]
    pairs += [("p50_ms", one.p50_ms), ("p95_ms", one.p95_ms), ("max_ms", one.max_ms)]
    if error := one.last_error:
        pairs += [("last_error_ts", format_moment(error.ts, view.zone, offset=True)), ("last_error", error.message)]
    return " ".join([escape(one.name), *(f"{key}={quoted(value)}" for key, value in pairs if value is not None)])


def _show(found: Statistics, view: View) -> None:
    console = console_for(view)
    if view.width is None:
        sys.stdout.writelines(f"{_line(one, view)}\n" for one in found.senses)
        return
    if not found.senses:
        click.secho("no run has ended in that time: see what there is with `nerve logs`", err=True, dim=view.colour)
        return
    begin, end = (format_moment(ts, view.zone, offset=view.offset) for ts in (found.since, found.until))
    console.print(Text(f"{begin} to {end}, a column is {format_duration(found.step_ms / 1000)}", "dim"))
    console.print(_table(found))
    for one in found.senses:
        if one.last_error:
            console.print(Text(" ").join(_last_error(one, view)), soft_wrap=True)


def _table(found: Statistics) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for header, is_number in (("sense", False), ("runs", True), ("p50", True), ("p95", True), ("max", True)):
        table.add_column(header, justify="right" if is_number else "left", no_wrap=True)
    table.add_column("runs over time", no_wrap=True)
    table.add_column("failures")
    for one in found.senses:
        times = (_duration(ms) for ms in (one.p50_ms, one.p95_ms, one.max_ms))
        table.add_row(escape(one.name), str(one.runs), *times, sparkline(one.runs_over_time), Text.assemble(*_bad(one)))
    return table


def _bad(one: SenseStatistics) -> Iterator[tuple[str, str]]:
    if one.failures:
        yield sparkline(one.failures_over_time), "red"
    for status, count in one.statuses.items():
        if status != "ok":
            yield f" {count} {escape(status)}", "yellow" if status == "cancelled" else "red"


def _last_error(one: SenseStatistics, view: View) -> Iterator[Text]:
    if error := one.last_error:
        yield Text(format_moment(error.ts, view.zone, offset=view.offset), "dim")
        yield Text(short_ref(error.ref_id))
        yield Text(escape(f"{error.kind or 'error'}: {error.message}"), "red")


def sparkline(counts: tuple[int, ...]) -> str:
    """Draw counts as blocks, the greatest full, and what is more than none never empty."""
    most = max(*counts, 1)
    return "".join(BLOCKS[-(-count * (len(BLOCKS) - 1) // most)] for count in counts)


def _duration(ms: float | None) -> str:
    return "-" if ms is None else format_duration(ms / 1000)
