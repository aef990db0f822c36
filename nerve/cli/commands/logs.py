"""`nerve logs`: query the log, and follow it."""

from __future__ import annotations

import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import tzinfo
from typing import TextIO

import click

from nerve.cli.console import Styled, say, view_of
from nerve.cli.followed_file import FollowedFile, await_log
from nerve.cli.formatting import json_line, text_lines
from nerve.cli.log_access import moment, open_workspace_log, printing, show_hints, zone_of
from nerve.cli.options import workspace_of
from nerve.events.model import DamagedLog, Log
from nerve.store.filters import Filter, Match, parse_matches
from nerve.store.query import LogSource

POLL_SECONDS = 0.05
"""Interval at which `-f` polls for new entries."""

TERMINAL_LIMIT, FOLLOW_LIMIT = 100, 10
CHUNK_BYTES = 32 * 1024
MAX_ID = 2**63 - 1  # SQLite's largest integer

Render = Callable[[Log], bytes]


class Output:
    """Standard output, written in chunks of whole lines; notices if its reader has closed it."""

    def __init__(self, stream: TextIO) -> None:
        self.is_terminal = stream.isatty()
        self.encoding = stream.encoding or "utf-8"
        self._stream = stream
        self._buffer = bytearray()
        self._hangup = _hangup_of(stream)

    def write(self, lines: Iterable[bytes]) -> int:
        """Write lines as they come, flush, and return their number; raises BrokenPipeError if the reader has gone."""
        count = 0
        for line in lines:
            count += 1
            self._buffer += line
            if len(self._buffer) >= CHUNK_BYTES:
                self._flush()
        self._flush()
        return count

    def wait(self, seconds: float) -> bool:
        """Wait, and return True; return False at once if the reader has gone."""
        if self._hangup is None:
            time.sleep(seconds)
            return True
        return not self._hangup.poll(seconds * 1000)

    def _flush(self) -> None:
        chunk, self._buffer = memoryview(self._buffer), bytearray()
        while chunk:  # with PYTHONUNBUFFERED a write may take only a part
            chunk = chunk[self._stream.buffer.write(chunk) :]
        self._stream.buffer.flush()


class Listing:
    """Writes entries to an output, and warns on stderr of the first damaged one."""

    def __init__(self, output: Output, render: Render) -> None:
        self._output = output
        self._render = render
        self._has_warned = False

    def write(self, entries: Iterable[Log]) -> int:
        """Write entries as they come, and return their number."""
        return self._output.write(map(self._line, entries))

    def _line(self, entry: Log) -> bytes:
        if isinstance(entry, DamagedLog) and not self._has_warned:
            self._has_warned = True
            say(f"nerve: the payload of entry {entry.id} is not valid JSON; it is shown as text", err=True)
        return self._render(entry)


def _matches(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[Match, ...]:
    try:
        return parse_matches(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("match", nargs=-1, callback=_matches)
@click.option("--source", help="Entries of this source: system, reflex, sense or logging.")
@click.option("--type", help="Entries of this type, e.g. run_complete.")
@click.option("--ref", metavar="ID", help="Entries with this ref_id (a full run id, boot id or name).")
@click.option("--sense", help="Entries of this sense and its runs.")
@click.option("--since", metavar="TIME", callback=moment, help="Entries at or after TIME (10m, 2026-11-23, yesterday).")
@click.option(
    "--until", metavar="TIME", callback=moment, help="Entries at or before TIME; a bare day includes all of it."
)
@click.option("--errors", is_flag=True, help="Errors, failed runs, and logging of level warning and above.")
@click.option(
    "-n",
    "lines",
    metavar="N",
    type=click.IntRange(min=0),
    help="The newest N entries. Default: 100 on a terminal, 10 with -f; no limit in a pipe or with --after.",
)
@click.option("-f", "--follow", is_flag=True, help="Keep showing new entries, until Ctrl-C.")
@click.option(
    "--after", metavar="ID", type=click.IntRange(min=0), help="Entries after the one with this id, to resume."
)
@click.option("--archived", is_flag=True, help="Search the archive too (with --since and --until, only those days).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, as in the archive.")
@click.option("--utc", is_flag=True, is_eager=True, help="Read and show times in UTC instead of local time.")
@click.pass_context
def logs(
    ctx: click.Context,
    match: tuple[Match, ...],
    source: str | None,
    type: str | None,
    ref: str | None,
    sense: str | None,
    since: int | None,
    until: int | None,
    errors: bool,
    lines: int | None,
    follow: bool,
    after: int | None,
    archived: bool,
    as_json: bool,
    utc: bool,
) -> None:
    """Query the log; entries are shown oldest first.

    A MATCH is FIELD=VALUE, FIELD!=VALUE or FIELD~=REGEX. FIELD is source, type, ref, sense, or a path into the
    payload, such as payload.status. All filters must match; only FIELD=VALUE given twice for one field means either.

    TIME is 10m or 2h30m (ago), 2026-11-23, 2026-11-23T10:00, 2026-11-23T10:00Z, today, yesterday or now.

    On a terminal, an entry is cut to one line unless it is an error, and a run id to its last digits. In a pipe,
    everything is complete.

    \b
    Example:
      nerve logs --errors --since 1h
      nerve logs -f --sense disk-usage
      nerve logs type=run_complete payload.status!=ok | less
      nerve logs --json payload.exception~=Timeout | jq .payload
      nerve logs --archived --errors --since 90d --until 60d
    """
    if follow and until is not None:
        raise click.UsageError("--until can't be used with -f, which waits for future entries", ctx)
    after = None if after is None else min(after, MAX_ID)
    criteria = Filter(source, type, ref, sense, since, until, after_id=after, errors=errors, matches=match)
    output = Output(sys.stdout)
    listing = Listing(output, _renderer(output, zone_of(utc=utc), as_json=as_json, utc=utc))
    if lines is None:
        lines = _default_limit(output, criteria, follow=follow)
    resumes = follow and after is not None
    until_interrupted = suppress(KeyboardInterrupt) if follow else nullcontext()
    with until_interrupted, printing():
        path = workspace_of(ctx).logs_db
        if follow and not await_log(path, output.wait):
            return
        file = FollowedFile.at(path) if follow else None
        with open_workspace_log(ctx, archived=archived or resumes) as reader:
            newest = reader.last_id()
            count = listing.write(_entries(reader, replace(criteria, until_id=newest), lines))
        if not count and lines != 0:
            _show_hints(ctx, criteria, output, archived=archived or resumes, follow=follow)
        if file:
            # The full log, because an entry may move to the archive before it is shown.
            with open_workspace_log(ctx, archived=True) as log:
                _follow(log, file, replace(criteria, after_id=max(newest, after or 0)), output, listing)


def _show_hints(ctx: click.Context, criteria: Filter, output: Output, *, archived: bool, follow: bool) -> None:
    if not show_hints(ctx, criteria, archived=archived) and output.is_terminal and not follow:
        say(Styled(_hint(criteria), dim=True), err=True)


def _follow(reader: LogSource, file: FollowedFile, criteria: Filter, output: Output, listing: Listing) -> None:
    """Show each entry that is committed after `criteria.after_id` once, until the output's reader has gone."""
    last = criteria.after_id or 0
    while output.wait(POLL_SECONDS):
        file.check()
        newest = reader.last_id()
        # One writer commits ids in ascending order, so all entries up to the newest can be read.
        if newest > last:
            listing.write(reader.stream(replace(criteria, after_id=last, until_id=newest)))
            last = newest


def _entries(reader: LogSource, criteria: Filter, limit: int | None) -> Iterable[Log]:
    return reader.stream(criteria) if limit is None else reader.query(replace(criteria, limit=min(limit, MAX_ID)))


def _renderer(output: Output, zone: tzinfo, *, as_json: bool, utc: bool) -> Render:
    if as_json:
        return lambda entry: json_line(entry, terminal=output.is_terminal)

    def render(entry: Log) -> bytes:
        # A new view each time, because the window may be resized while following.
        return text_lines(entry, view_of(sys.stdout, zone, utc=utc)).encode(output.encoding, "backslashreplace")

    return render


def _default_limit(output: Output, criteria: Filter, *, follow: bool) -> int | None:
    if criteria.after_id is not None:
        return None
    if follow:
        return FOLLOW_LIMIT
    return TERMINAL_LIMIT if output.is_terminal else None


def _hint(criteria: Filter) -> str:
    if criteria == Filter():
        return "the log is empty: start the engine with `nerve start`"
    return "no entry matches: remove a filter, or list all entries with `nerve logs`"


def _hangup_of(stream: TextIO) -> select.poll | None:
    """Return a poll object that reports when the other end of a pipe or socket is closed; None for other outputs."""
    try:
        fd = stream.fileno()
        mode = os.fstat(fd).st_mode
    except (OSError, ValueError):  # the stream has no file descriptor
        return None
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return None
    poll = select.poll()
    poll.register(fd, 0)
    return poll
