"""`nerve start`: the composition root, which gives the kernel its roles and runs it."""

from __future__ import annotations

import os
import shlex
import sqlite3
from multiprocessing import current_process
from pathlib import Path

import click
import psutil
from setproctitle import setproctitle

from nerve.cli.console import discard_output, say
from nerve.cli.options import Duration, counted, workspace_of
from nerve.cli.preflight import NotedVersion, preflight_warnings
from nerve.clock import SystemClock
from nerve.config.config import MAX_WORKERS, Config, load_config
from nerve.ids import uuid7_hex
from nerve.ipc.sockets import socket_listening_at
from nerve.kernel.kernel import Kernel
from nerve.lock import WorkspaceLock
from nerve.processes import log_relay
from nerve.processes.child import Boot, Role
from nerve.processes.services import Roles
from nerve.reload.revision import Revision, initial_revision
from nerve.store.filters import Filter
from nerve.store.table.reader import LogReader
from nerve.workers import archiver, compute, diagnostics, watcher, writer
from nerve.workspace import Workspace

PREDECESSOR_SECONDS = 5.0
"""How long a start waits for the lock: the writer of a killed engine still holds it while it drains its queue."""

ROLES = Roles(
    compute=Role("worker", compute.main, prefetches=True, has_lane=True, leads_group=True),
    writer=Role("writer", writer.main, outlives_kernel=True, inherits=lambda boot: {boot.listener.fileno(), boot.lock}),
    archiver=Role("archiver", archiver.main, has_lane=True),
    watcher=Role("watcher", watcher.main),
    diagnostics=Role(
        "diagnostics",
        diagnostics.main,
        outlives_kernel=True,
        inherits=lambda boot: {boot.relay.records.receiving},
    ),
)


@click.command()
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, MAX_WORKERS),
    envvar="NERVE_WORKERS",
    show_envvar=True,
    help="Number of workers. Default: `workers` in nerve.yaml, or the number of CPUs.",
)
@click.option("--for", "run_for", type=Duration(), envvar="NERVE_FOR", help="Stop after this duration, e.g. 15s.")
@click.pass_context
def start(ctx: click.Context, workers: int | None, run_for: float | None) -> None:
    """Run the engine in the foreground, until Ctrl-C, SIGTERM or `nerve stop`.

    \b
    Example:
      nerve start --workers 8
    """
    workspace = workspace_of(ctx)
    config = load_config(workspace.config_path)
    workspace.prepare()
    clock = SystemClock()
    with WorkspaceLock.acquire(workspace, wait=PREDECESSOR_SECONDS, clock=clock) as lock:
        _announce(f"nerve: workspace {workspace.home}, database {workspace.logs_db}")
        _announce(f"nerve: {_greeting(workspace, config, workers or config.workers)}")
        version = sqlite3.sqlite_version_info
        is_new = NotedVersion(workspace.data_dir / "sqlite-version").is_new(version)
        mounts = psutil.disk_partitions(all=True)
        for warning in preflight_warnings(workspace.data_dir, mounts, version if is_new else ()):
            say(f"nerve: note: {warning}", err=True)
        boot_id = uuid7_hex()
        revision = initial_revision(config, workspace)
        _run(workspace, revision, lock.fileno(), boot_id, workers, run_for)
    _show_summary(workspace, boot_id)


def _run(
    workspace: Workspace, revision: Revision, lock: int, boot_id: str, workers: int | None, run_for: float | None
) -> None:
    """Run one boot until it stops; this process becomes the kernel."""
    relay = log_relay.make_relay()
    listener = socket_listening_at(workspace.event_socket)
    control = socket_listening_at(workspace.control_socket)
    try:
        boot = Boot(workspace, boot_id, revision, listener, lock, relay)
        setproctitle("nerve: kernel")
        current_process().name = "kernel"
        log_relay.install(relay)
        Kernel(boot, ROLES, control, SystemClock(), workers).run(run_for)
    finally:
        listener.close()
        workspace.event_socket.unlink(missing_ok=True)
        workspace.control_socket.unlink(missing_ok=True)


def _greeting(workspace: Workspace, config: Config, workers: int) -> str:
    """Return one line on what runs and which commands come next."""
    nerve = f"nerve{_home_option(workspace.home)}"
    senses, reflexes = counted(len(config.senses), "sense"), counted(len(config.reflexes), "reflex", "reflexes")
    commands = f"in another terminal: `{nerve} logs -f`, `{nerve} status`; stop with Ctrl-C"
    return f"{counted(workers, 'worker')}, {senses}, {reflexes}; {commands}"


def _home_option(home: Path) -> str:
    try:
        return "" if Path.cwd() == home else f" --home {shlex.quote(os.path.relpath(home))}"
    except OSError:  # the current folder has been deleted
        return f" --home {shlex.quote(str(home))}"


def _announce(line: str) -> None:
    """Print a line if that is possible: an engine also runs without anybody who reads what it says."""
    try:
        say(line)
    except OSError:
        discard_output()


def _show_summary(workspace: Workspace, boot_id: str) -> None:
    """Print how many entries this boot has logged, by type."""
    with LogReader(workspace.logs_db) as reader:
        started = reader.query(Filter(source="system", type="start", ref_id=boot_id))
        counts = reader.counts_since(started[0].id - 1) if started else []
    total = counted(sum(count for _source, _type, count in counts), "entry", "entries")
    say(f"nerve: logged {total} in {workspace.logs_db}")
    for source, kind, count in counts:
        say(f"nerve: {count:>9}  {source}/{kind}")
