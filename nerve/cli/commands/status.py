"""`nerve status`: show the state of the running engine, as tables or as JSON."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable

import click
import msgspec
import psutil
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nerve.cli.console import console_for, view_of
from nerve.cli.formatting import print_json
from nerve.cli.left_behind import left_behind_note
from nerve.cli.moments import SystemZone
from nerve.cli.options import workspace_of
from nerve.cli.preflight import preflight_warnings
from nerve.control.client import ControlClient
from nerve.control.protocol import GetStatus, StatusReply
from nerve.control.status import ArchiverStatus, EngineStatus, LaneStatus, SenseStatus, WorkerStatus, WriterStatus
from nerve.errors import NotRunningError, first_lines
from nerve.escaping import escape
from nerve.units import format_duration, format_size

ANSWER_SECONDS = 5.0
WATCH_SECONDS = 1.0
STATE_STYLES = {"busy": "green", "running": "green", "backoff": "red", "throttled": "yellow", "stopping": "yellow"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--watch", is_flag=True, help="Refresh every second, until Ctrl-C or until the engine stops.")
@click.pass_context
def status(ctx: click.Context, as_json: bool, watch: bool) -> None:
    """Show the processes, senses and problems of the running engine.

    \b
    writer    committed  entries since it was started, and per second lately
              lag        time from an event to its commit
              queued     events that wait for the next commit
              WAL        size of data/logs.db-wal, which is emptied again
    archiver  archived   the last UTC day that is in the archive
    worker    stopping   exits after its current run
    sense     pending    due; waits for a worker, or for a sense of its group
              throttled  triggered; waits until its throttle is over
              backoff    triggered; waits because it has killed its worker
              failures   runs in a row, up to the last one, that were not ok

    \b
    Example:
      nerve status --watch
      nerve status --json | jq .writer
    """
    if watch:
        _watch(lambda: fetch_status(ctx), as_json=as_json)
        return
    _show(fetch_status(ctx), as_json=as_json)


def _show(engine: EngineStatus, *, as_json: bool) -> None:
    if as_json:
        print_json(engine)
    else:
        console_for(view_of(sys.stdout, SystemZone())).print(rendered(engine))


def _watch(fetch: Callable[[], EngineStatus], *, as_json: bool) -> None:
    """Show a status every second: a terminal redraws the last one, a pipe gets one after another."""
    console = console_for(view_of(sys.stdout, SystemZone()))
    try:
        if as_json or not console.is_terminal or console.is_dumb_terminal:
            while True:
                _show(fetch(), as_json=as_json)
                time.sleep(WATCH_SECONDS)
        with Live(rendered(fetch()), console=console, auto_refresh=False, vertical_overflow="visible") as live:
            while True:
                time.sleep(WATCH_SECONDS)
                live.update(rendered(fetch()), refresh=True)
    except KeyboardInterrupt:
        return  # the normal way to end it


def fetch_status(ctx: click.Context) -> EngineStatus:
    """Return the status of the running engine, with the memory of its workers and notes on its system added."""
    workspace = workspace_of(ctx)
    try:
        with ControlClient(workspace.control_socket, workspace.home) as client:
            client.send(GetStatus())
            engine = client.expect(StatusReply, ANSWER_SECONDS).status
    except NotRunningError as error:
        note = left_behind_note(workspace)
        raise NotRunningError(f"{error}\nnerve: note: {note}" if note else str(error)) from None
    workers = [msgspec.structs.replace(worker, rss_bytes=_rss(worker.pid)) for worker in engine.workers]
    notes = preflight_warnings(workspace.data_dir, psutil.disk_partitions(all=True), sqlite3.sqlite_version_info)
    return msgspec.structs.replace(engine, workers=workers, notes=notes)


def _rss(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None  # it has just exited


def rendered(engine: EngineStatus) -> RenderableType:
    """Lay a status out as tables."""
    kernel = engine.kernel
    up = format_duration(round(kernel.uptime_ms / 1000) or 1)
    return Group(
        Text.assemble((f"nerve {kernel.version}", "bold"), f" up {up}, kernel {kernel.pid}, boot {kernel.boot_id}"),
        *(Text.assemble(("problem: ", "bold red"), escape(problem)) for problem in first_lines(engine.problems)),
        *(Text.assemble(("note: ", "yellow"), escape(note)) for note in engine.notes),
        _services(engine),
        _workers(engine.workers),
        *([_lanes(engine.lanes)] if any(lane.bytes for lane in engine.lanes) else []),
        _senses(engine.senses),
    )


def _table(*headers: str) -> Table:
    return Table(*headers, box=None, header_style="dim", pad_edge=False)


def _services(engine: EngineStatus) -> Table:
    table = _table("process", "pid", "details")
    table.add_row("writer", _pid(engine.writer.pid), _writer_details(engine.writer))
    table.add_row("archiver", _pid(engine.archiver.pid), _archiver_details(engine.archiver))
    table.add_row("watcher", _pid(engine.watcher.pid), "")
    return table


def _writer_details(writer: WriterStatus) -> Text:
    if writer.committed is None:
        return Text("no report", "red")
    unacknowledged = f"{writer.unacknowledged} unacknowledged, " if writer.unacknowledged else ""
    return Text(
        f"{writer.committed} committed, {writer.events_per_s:.1f}/s, lag {writer.lag_ms:.1f} ms, "
        f"{writer.queue_depth} queued, {unacknowledged}WAL {format_size(writer.wal_bytes or 0)}"
    )


def _archiver_details(archiver: ArchiverStatus) -> str:
    done = f"archived up to {archiver.archived_up_to}" if archiver.archived_up_to else "nothing archived yet"
    return f"{done}, last run {_relative(archiver.last_ts)}, next {_relative(archiver.next_ts)}"


def _workers(workers: list[WorkerStatus]) -> Table:
    table = _table("worker", "state", "current run", "runs", "memory")
    for worker in workers:
        memory = format_size(worker.rss_bytes) if worker.rss_bytes else "-"
        table.add_row(str(worker.pid), _state(worker.state), worker.run or "-", str(worker.runs), memory)
    return table


def _lanes(lanes: list[LaneStatus]) -> Table:
    """Lay out what waits for its commit, by producer."""
    table = Table("lane", "pid", "waiting", "for", box=None, header_style="dim", pad_edge=False)
    for lane in lanes:
        if lane.bytes:
            table.add_row(lane.producer, str(lane.pid), format_size(lane.bytes), f"{lane.age_ms:.1f} ms")
    return table


def _senses(senses: list[SenseStatus]) -> Table:
    table = _table("sense", "state", "last run", "result", "next due", "failures in a row")
    for sense in senses:
        failures = Text(str(sense.consecutive_failures), "red" if sense.consecutive_failures else "")
        last, due = _relative(sense.last_ts), _relative(sense.next_due_ts)
        table.add_row(sense.name, _state(sense.state), last, _result(sense.last_status), due, failures)
    return table


def _relative(ts: int | None) -> str:
    """Return a time (unix ms) relative to now, such as `5s ago` or `in 10s`."""
    if ts is None:
        return "-"
    seconds = time.time() - ts / 1000
    distance = format_duration(round(abs(seconds)) or 1)
    return f"{distance} ago" if seconds >= 0 else f"in {distance}"


def _pid(pid: int | None) -> Text:
    return Text("none", "red") if pid is None else Text(str(pid))


def _state(state: str) -> Text:
    return Text(state, STATE_STYLES.get(state, ""))


def _result(status: str | None) -> Text:
    return Text(status or "-", "" if status in {None, "ok"} else "red")
