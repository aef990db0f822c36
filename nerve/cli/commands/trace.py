"""`nerve trace`: show a run's causes and effects."""

from __future__ import annotations

import re
import sys

import click

from nerve.cli.console import View, console_for, view_of
from nerve.cli.formatting import print_json
from nerve.cli.log_access import open_workspace_log, printing, zone_of
from nerve.cli.trace_tree import TreeRenderer, columns_of
from nerve.clock import SystemClock
from nerve.errors import NerveError
from nerve.escaping import escape
from nerve.ids import RUN_ID_DIGITS
from nerve.store.provenance.trace import RunSource, Trace, TraceLimits, trace_run

CANDIDATES = 5
"""Maximum number of runs that are named if an id is ambiguous."""

DEPTH, LIMIT = click.IntRange(0, 100), click.IntRange(1, 10_000)

_WHOLE_ID = re.compile(rf"[a-z0-9_-]+/[0-9a-f]{{{RUN_ID_DIGITS}}}")


@click.command()
@click.argument("run")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Also show the runs' own entries, tracebacks and code digests.",
)
@click.option(
    "--depth",
    metavar="N",
    type=DEPTH,
    default=20,
    show_default=True,
    help="Levels to show above the run, and below it.",
)
@click.option(
    "--limit", metavar="N", type=LIMIT, default=200, show_default=True, help="Maximum number of runs to show."
)
@click.option("--archived", is_flag=True, help="Search the archive too, which takes longer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with each run's effects nested in it.")
@click.option("--utc", is_flag=True, help="Show times in UTC instead of local time.")
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
    """Show a run's causes and effects, as a tree: what started the chain, and everything it led to.

    RUN is a run id or any unambiguous part of one: its beginning, its first digits, or the short form that `nerve logs`
    shows on a terminal. `waited` is the time between a run's trigger and its start: for its throttle, for a sense of
    its group, or for a worker. `nerve code DIGEST` prints the code of a digest that -v shows.

    \b
    Example:
      nerve trace pressure/…f2e27e
      nerve trace -v 01a20a78
      nerve trace --json pressure/01a20a78 | jq .root
    """
    limits = TraceLimits(depth, limit, own=verbose)
    with open_workspace_log(ctx, archived=archived) as log:
        runs = log.runs()
        result = trace_run(runs, _resolve(runs, run), limits)
    with printing():
        if as_json:
            print_json(result)
        else:
            _show(result, view_of(sys.stdout, zone_of(utc=utc), utc=utc), verbose=verbose)


def _show(result: Trace, view: View, *, verbose: bool) -> None:
    tree = TreeRenderer(view, SystemClock().stamp().ts, verbose=verbose).tree(result)
    console_for(view, at_least=columns_of(tree)).print(tree)


def _resolve(runs: RunSource, typed: str) -> str:
    """Return the run id that `typed` is a part of; raises NerveError if there is no such run, or more than one."""
    try:
        candidates = runs.find(typed, CANDIDATES + 1)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="RUN") from None
    if len(candidates) > 1:
        names = ", ".join(candidates[:CANDIDATES]) + ", ..." * (len(candidates) > CANDIDATES)
        raise NerveError(f"ambiguous run id {typed!r}: {escape(names)}; give more digits")
    if candidates:
        return candidates[0]
    if _WHOLE_ID.fullmatch(typed) and (runs.is_archived(typed) or runs.caused_by([typed])):
        return typed
    raise NerveError(f"no run matches {typed!r}: list the runs with `nerve logs --type run_start`")
