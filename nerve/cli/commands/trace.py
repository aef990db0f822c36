"""`nerve trace`: where a run came from, and what came of it."""

from __future__ import annotations

import re
import sys

import click

from nerve.cli.console import console_for
from nerve.cli.formatting import View, print_json, view_of
from nerve.cli.log_access import open_workspace_log, printing, zone_of
from nerve.cli.trace_tree import TreeRenderer, columns_of
from nerve.clock import SystemClock
from nerve.errors import NerveError
from nerve.ids import RUN_ID_DIGITS
from nerve.store.provenance.trace import RunSource, Trace, TraceLimits, trace_run

CANDIDATES = 5
"""So many runs are named when an id can be that of several."""

DEPTH, LIMIT = click.IntRange(0, 100), click.IntRange(1, 10_000)

_WHOLE_ID = re.compile(rf"[a-z0-9_-]+/[0-9a-f]{{{RUN_ID_DIGITS}}}")


@click.command()
@click.argument("run")
@click.option("-v", "--verbose", is_flag=True, help="Also what the runs logged themselves, and tracebacks.")
@click.option("--depth", metavar="N", type=DEPTH, default=20, show_default=True, help="Levels above it, and below.")
@click.option("--limit", metavar="N", type=LIMIT, default=200, show_default=True, help="At most so many runs.")
@click.option("--archived", is_flag=True, help="Look in the archive too, which takes longer.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, in which runs hold the runs they caused.")
@click.option("--utc", is_flag=True, help="Show times in UTC, not in local time.")
@click.pass_context
def trace(
    ctx: click.Context,
    run: str,
    verbose: bool,
    depth: int,
    limit: int,
    archived: bool,
    as_json: bool,
    utc: bool,
) -> None:
    """Show where a run came from, and what came of it: the causal tree that it belongs to.

    RUN is a run id as any entry of the run has it, or as much of it as is unambiguous: its beginning, its first
    digits, or its last ones as `nerve logs` shows them on a terminal.

    \b
    Example:
      nerve trace pressure/…f2e27e
      nerve trace -v 01a20a78
      nerve trace --json pressure/01a20a78 | jq .root
    """
    bounds = TraceLimits(depth, limit, own=verbose)
    with open_workspace_log(ctx, archived=archived) as log:
        runs = log.runs()
        found = trace_run(runs, _the_one(runs, run), bounds)
    with printing():
        if as_json:
            print_json(found)
        else:
            _show(found, view_of(sys.stdout, zone_of(utc=utc), utc=utc), verbose=verbose)


def _show(found: Trace, view: View, *, verbose: bool) -> None:
    tree = TreeRenderer(view, SystemClock().stamp().ts, verbose=verbose).tree(found)
    console_for(view, at_least=columns_of(tree)).print(tree)


def _the_one(runs: RunSource, typed: str) -> str:
    """Find the run that is meant; NerveError when there is none, or more than one."""
    try:
        found = runs.find(typed, CANDIDATES + 1)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="RUN") from None
    if len(found) > 1:
        names = ", ".join(found[:CANDIDATES]) + ", ..." * (len(found) > CANDIDATES)
        raise NerveError(f"{typed!r} can be any of {names}: write more of the one that you mean")
    if found:
        return found[0]
    if _WHOLE_ID.fullmatch(typed) and (runs.is_archived(typed) or runs.caused_by([typed])):
        return typed
    raise NerveError(f"no run has an id like {typed!r}: see which there are with `nerve logs --type run_start`")
