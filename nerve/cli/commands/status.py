"""`nerve status`: how the running engine is, as tables or as JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click
import msgspec
import psutil
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nerve.cli.left_behind import left_behind_note
from nerve.cli.options import workspace_of
from nerve.control.client import ControlClient
from nerve.control.protocol import GetStatus, StatusReply
from nerve.control.status import EngineStatus, LaneStatus, SenseStatus, WorkerStatus
from nerve.errors import NotRunningError
from nerve.units import format_duration, format_size

ANSWER_SECONDS = 5.0
WATCH_SECONDS = 1.0
PIPE_COLUMNS = 400
STATE_STYLES = {"busy": "green", "running": "green", "backoff": "red", "throttled": "yellow", "stopping": "yellow"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C or the engine's end.")
@click.pass_context
def status(ctx: click.Context, as_json: bool, watch: bool) -> None:
    """Show every process and every sense of the running engine, and what is wrong with it.

    \b
    Example:
      nerve status --watch
      nerve status --json | jq .writer
    """
    if watch:
        _watch(lambda: fetch_status(ctx), as_json=as_json)
        return
    engine = fetch_status(ctx)
    if as_json:
        click.echo(msgspec.json.encode(engine).decode())
    else:
        _console().print(rendered(engine))


def _console() -> Console:
    """Give what prints; a pipe has no edge to break lines at."""
    return Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def _watch(fetch: Callable[[], EngineStatus], *, as_json: bool) -> None:
    """Show a status every second: over the one before at a terminal, below it (or a line of JSON) elsewhere."""
    console = _console()
    try:
        if as_json or not console.is_terminal:
            while True:
                engine = fetch()
                console.out(msgspec.json.encode(engine).decode()) if as_json else console.print(rendered(engine))
                time.sleep(WATCH_SECONDS)
        with Live(rendered(fetch()), console=console, auto_refresh=False, vertical_overflow="visible") as live:
            while True:
                time.sleep(WATCH_SECONDS)
                live.update(rendered(fetch()), refresh=True)
    except KeyboardInterrupt:
        return  # that is how one ends it


def fetch_status(ctx: click.Context) -> EngineStatus:
    """Ask the running engine, and fill in the memory of its workers."""
    workspace = workspace_of(ctx)
    try:
        with ControlClient(workspace.control_socket, workspace.home) as client:
            client.send(GetStatus())
            engine = client.expect(StatusReply, ANSWER_SECONDS).status
    except NotRunningError as error:
        note = left_behind_note(workspace)
        raise NotRunningError(f"{error}\nnerve: note: {note}" if note else str(error)) from None
    workers = [msgspec.structs.replace(worker, rss_bytes=_rss(worker.pid)) for worker in engine.workers]
    return msgspec.structs.replace(engine, workers=workers)


def _rss(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None  # it has just ended


def rendered(engine: EngineStatus) -> RenderableType:
    """Lay a status out for people."""
    kernel = engine.kernel
    up = format_duration(round(kernel.uptime_ms / 1000) or 1)
    return Group(
        Text.from_markup(f"[bold]nerve {kernel.version}[/] up {up}, kernel {kernel.pid}, boot {kernel.boot_id}"),
        *(Text.assemble(("problem ", "bold red"), problem) for problem in engine.problems),
        _services(engine),
        _workers(engine.workers),
        *([_lanes(engine.lanes)] if any(lane.bytes for lane in engine.lanes) else []),
        _senses(engine.senses),
    )


def _services(engine: EngineStatus) -> Table:
    table = Table("process", "pid", "how it is", box=None, header_style="dim", pad_edge=False)
    writer, archiver = engine.writer, engine.archiver
    if writer.committed is None:
        table.add_row("writer", _pid(writer.pid), "[red]no report[/]")
    else:
        wal = format_size(writer.wal_bytes or 0)
        how = (
            f"{writer.committed} committed, {writer.events_per_s:.1f}/s, lag {writer.lag_ms:.1f} ms, "
            f"queue {writer.queue_depth}, {writer.unacknowledged} unacknowledged, WAL {wal}"
        )
        table.add_row("writer", _pid(writer.pid), how)
    done = f"archived up to {archiver.archived_up_to}" if archiver.archived_up_to else "nothing archived yet"
    table.add_row(
        "archiver", _pid(archiver.pid), f"{done}, last run {_ago(archiver.last_ts)}, next {_ago(archiver.next_ts)}"
    )
    table.add_row("watcher", _pid(engine.watcher.pid), "")
    return table


def _workers(workers: list[WorkerStatus]) -> Table:
    table = Table("worker", "state", "run", "runs", "memory", box=None, header_style="dim", pad_edge=False)
    for worker in workers:
        rss = format_size(worker.rss_bytes) if worker.rss_bytes else "-"
        table.add_row(str(worker.pid), _state(worker.state), worker.run or "-", str(worker.runs), rss)
    return table


def _lanes(lanes: list[LaneStatus]) -> Table:
    """Lay out what waits for its commit, by producer."""
    table = Table("lane", "pid", "waiting", "for", box=None, header_style="dim", pad_edge=False)
    for lane in lanes:
        if lane.bytes:
            table.add_row(lane.producer, str(lane.pid), format_size(lane.bytes), f"{lane.age_ms:.1f} ms")
    return table


def _senses(senses: list[SenseStatus]) -> Table:
    table = Table(
        "sense", "state", "last run", "", "next due", "failures", box=None, header_style="dim", pad_edge=False
    )
    for sense in senses:
        failures = f"[red]{sense.consecutive_failures}[/]" if sense.consecutive_failures else "0"
        last = _status(sense.last_status)
        table.add_row(sense.name, _state(sense.state), _ago(sense.last_ts), last, _ago(sense.next_due_ts), failures)
    return table


def _ago(ts: int | None) -> str:
    """Say how far a moment in unix ms is from now."""
    if ts is None:
        return "-"
    seconds = time.time() - ts / 1000
    distance = format_duration(round(abs(seconds)) or 1)
    return f"{distance} ago" if seconds >= 0 else f"in {distance}"


def _pid(pid: int | None) -> str:
    return "[red]none[/]" if pid is None else str(pid)


def _state(state: str) -> str:
    style = STATE_STYLES.get(state)
    return f"[{style}]{state}[/]" if style else state


def _status(status: str | None) -> str:
    if status is None:
        return "-"
    return status if status == "ok" else f"[red]{status}[/]"
