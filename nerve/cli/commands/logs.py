"""`nerve logs`: ask the log, and follow it."""

from __future__ import annotations

import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import tzinfo
from typing import TextIO

import click

from nerve.cli.formatting import colours_wanted, json_line, text_lines, view_of
from nerve.cli.log_access import abandon, moment, open_workspace_log, zone_of
from nerve.errors import NerveError
from nerve.events.model import DamagedLog, Log
from nerve.store.filters import Filter, Match, parse_matches
from nerve.store.query import LogSource

POLL_SECONDS = 0.05
"""How often `-f` looks for new entries."""

TERMINAL_LIMIT, FOLLOW_LIMIT = 100, 10
CHUNK_BYTES = 32 * 1024
LARGEST = 2**63 - 1  # what SQLite can compare an id with

Render = Callable[[Log], bytes]


class Output:
    """Standard output, in chunks of whole lines; knows whether anyone still reads it."""

    def __init__(self, stream: TextIO) -> None:
        self.is_terminal = stream.isatty()
        self.encoding = stream.encoding or "utf-8"
        self._stream = stream
        self._waiting = bytearray()
        self._hangup = _hangup_of(stream)

    def write(self, lines: Iterable[bytes]) -> int:
        """Write lines as they come, flush, and give how many there were; BrokenPipeError when nobody reads them."""
        count = 0
        for line in lines:
            count += 1
            self._waiting += line
            if len(self._waiting) >= CHUNK_BYTES:
                self._flush()
        self._flush()
        return count

    def wait(self, seconds: float) -> bool:
        """Wait that long, and tell whether anyone still reads; returns at once when nobody does."""
        if self._hangup is None:
            time.sleep(seconds)
            return True
        return not self._hangup.poll(seconds * 1000)

    def abandon(self) -> None:
        """Let what is still in the stream's buffer go nowhere, so that Python's own flush at exit is silent."""
        abandon(self._stream)

    def _flush(self) -> None:
        chunk, self._waiting = memoryview(self._waiting), bytearray()
        while chunk:  # unbuffered, as PYTHONUNBUFFERED has it, a write may take a part only
            chunk = chunk[self._stream.buffer.write(chunk) :]
        self._stream.buffer.flush()


class Listing:
    """Writes entries to an output; the first damaged one is told of on stderr."""

    def __init__(self, output: Output, render: Render) -> None:
        self._output = output
        self._render = render
        self._has_told = False

    def write(self, entries: Iterable[Log]) -> int:
        """Write entries as they come, and give how many there were."""
        return self._output.write(map(self._line, entries))

    def _line(self, entry: Log) -> bytes:
        if isinstance(entry, DamagedLog) and not self._has_told:
            self._has_told = True
            click.echo(f"nerve: the payload of entry {entry.id} is no JSON, and is shown as text", err=True)
        return self._render(entry)


def _matches(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[Match, ...]:
    try:
        return parse_matches(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("match", nargs=-1, callback=_matches)
@click.option("--source", help="Only this source: system, reflex, sense or logging.")
@click.option("--type", help="Only this type, e.g. run_complete.")
@click.option("--ref", metavar="ID", help="Only what refers to this, written in full: a run id, a boot id, a name.")
@click.option("--sense", help="Only what belongs to this sense.")
@click.option("--since", metavar="TIME", callback=moment, help="Only from then on: 10m, 2026-11-23, yesterday ...")
@click.option("--until", metavar="TIME", callback=moment, help="Only up to then; a bare day means its end.")
@click.option("--errors", is_flag=True, help="Only errors, failed runs, and logging from warning up.")
@click.option(
    "-n",
    "lines",
    metavar="N",
    type=click.IntRange(min=0),
    help="Only the newest N. Default: 100 on a terminal, 10 with -f, else (and with --after) all.",
)
@click.option("-f", "--follow", is_flag=True, help="Then show new entries as they come, until Ctrl-C.")
@click.option("--after", metavar="ID", type=click.IntRange(min=0), help="Only what came after this entry: to resume.")
@click.option("--archived", is_flag=True, help="Look in the archive too; with --since and --until, in those days only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as in the archive.")
@click.option("--utc", is_flag=True, is_eager=True, help="Read and show times in UTC, not in local time.")
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
    """Ask the log: what happened, oldest first.

    A MATCH is FIELD=VALUE, FIELD!=VALUE or FIELD~=REGEX. FIELD is source, type, ref, sense, or a path into the
    payload. The same field with = twice means either; everything else must hold.

    TIME is 10m, 2h30m (ago), 2026-11-23, 2026-11-23T10:00, 2026-11-23T10:00Z, today, yesterday or now.

    On a terminal an entry is cut to one line (an error isn't), and a run id to its last digits; in a pipe all is whole.

    \b
    Example:
      nerve logs --errors --since 1h
      nerve logs -f --sense disk-usage
      nerve logs type=run_complete payload.status!=ok | less
      nerve logs --json payload.exception~=Timeout | jq .payload
      nerve logs --archived --errors --since 90d --until 60d
    """
    if follow and until is not None:
        raise click.UsageError("--until can't be used with -f, which waits for what is still to come", ctx)
    after = None if after is None else min(after, LARGEST)
    wanted = Filter(source, type, ref, sense, since, until, after_id=after, errors=errors, matches=match)
    output = Output(sys.stdout)
    listing = Listing(output, _renderer(output, zone_of(utc=utc), as_json=as_json, utc=utc))
    if lines is None:
        lines = _default_limit(output, wanted, follow=follow)
    resumes = follow and after is not None
    with open_workspace_log(ctx, archived=archived or resumes) as reader, _quiet_end(output, follow=follow):
        newest = reader.last_id()
        shown = listing.write(_entries(reader, replace(wanted, until_id=newest), lines))
        if follow:
            # What has moved to the archive before it could be shown is read there: following misses nothing.
            with open_workspace_log(ctx, archived=True) as log:
                _follow(log, replace(wanted, after_id=max(newest, after or 0)), output, listing)
        elif not shown and lines != 0 and output.is_terminal:
            click.secho(_hint(wanted), err=True, dim=True, color=None if colours_wanted() else False)


def _follow(reader: LogSource, wanted: Filter, output: Output, listing: Listing) -> None:
    """Show what is committed after `wanted.after_id`, each entry once, until nobody reads the output."""
    last = wanted.after_id or 0
    while output.wait(POLL_SECONDS):
        newest = reader.last_id()
        # Ids only grow, and one writer commits them in order: all up to the newest are there to be read.
        if newest > last:
            listing.write(reader.stream(replace(wanted, after_id=last, until_id=newest)))
            last = newest


def _entries(reader: LogSource, wanted: Filter, limit: int | None) -> Iterable[Log]:
    return reader.stream(wanted) if limit is None else reader.query(replace(wanted, limit=min(limit, LARGEST)))


def _renderer(output: Output, zone: tzinfo, *, as_json: bool, utc: bool) -> Render:
    if as_json:
        return lambda entry: json_line(entry, terminal=output.is_terminal)

    def render(entry: Log) -> bytes:
        # Asked each time, since while following the window may change.
        return text_lines(entry, view_of(sys.stdout, zone, utc=utc)).encode(output.encoding, "backslashreplace")

    return render


@contextmanager
def _quiet_end(output: Output, *, follow: bool) -> Iterator[None]:
    """Take the two ways in which a person ends the output for what they are: no failures."""
    try:
        yield
    except BrokenPipeError:
        output.abandon()
    except KeyboardInterrupt:
        if not follow:
            raise
    except OSError as error:
        output.abandon()
        raise NerveError(f"can't write the output: {error.strerror or error}") from None


def _default_limit(output: Output, wanted: Filter, *, follow: bool) -> int | None:
    if wanted.after_id is not None:
        return None
    if follow:
        return FOLLOW_LIMIT
    return TERMINAL_LIMIT if output.is_terminal else None


def _hint(wanted: Filter) -> str:
    if wanted == Filter():
        return "nothing is logged yet: start the engine with `nerve start`"
    return "nothing matches: leave a filter out, or see what there is with `nerve logs`"


def _hangup_of(stream: TextIO) -> select.poll | None:
    """Give what tells that the other end of a pipe or socket is closed; None for an output that has no other end."""
    try:
        fd = stream.fileno()
        mode = os.fstat(fd).st_mode
    except (OSError, ValueError):  # no file at all
        return None
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return None
    poll = select.poll()
    poll.register(fd, 0)
    return poll
