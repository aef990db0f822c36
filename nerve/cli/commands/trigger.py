"""`nerve trigger`: run a sense now, and with --wait show what came of it."""

from __future__ import annotations

import sys

import click
import msgspec

from nerve.cli.formatting import json_line, text_lines, view_of
from nerve.cli.moments import SystemZone
from nerve.cli.options import Duration, workspace_of
from nerve.control.client import ControlClient
from nerve.control.protocol import Accepted, Finished, TriggerSense
from nerve.errors import PayloadError
from nerve.events.model import Log
from nerve.events.payload import encode_payload
from nerve.store.filters import Filter
from nerve.store.table.reader import LogReader

ANSWER_SECONDS = 5.0


@click.command()
@click.argument("sense")
@click.option("--payload", metavar="JSON", help="What the sense gets as its signal's payload.")
@click.option("--wait", is_flag=True, help="Wait for the run, show its entries, and exit 0 if it is ok, else 1.")
@click.option("--timeout", type=Duration(), default=3600.0, show_default="1h", help="How long to wait at most.")
@click.option("--json", "as_json", is_flag=True, help="With --wait: show the entries as JSON lines.")
@click.pass_context
def trigger(ctx: click.Context, sense: str, payload: str | None, wait: bool, timeout: float, as_json: bool) -> None:
    """Run a sense now, by hand.

    \b
    Example:
      nerve trigger disk --wait
      nerve trigger pressure --payload '{"reason": "a look"}'
    """
    workspace = workspace_of(ctx)
    checked = None if payload is None else _checked(payload)
    with ControlClient(workspace.control_socket, workspace.home) as client:
        client.send(TriggerSense(sense, checked, wait))
        client.expect(Accepted, ANSWER_SECONDS)
        if not wait:
            click.echo(f"nerve: {sense} is triggered; see what comes of it: nerve logs --sense {sense} -f", err=True)
            return
        finished = client.expect(Finished, timeout)
    with LogReader(workspace.logs_db) as reader:
        for entry in reader.query(Filter(ref_id=finished.run_id)):
            click.echo(_shown(entry, as_json=as_json), nl=False)
    sys.exit(0 if finished.status == "ok" else 1)


def _shown(entry: Log, *, as_json: bool) -> str:
    if as_json:
        return json_line(entry, terminal=sys.stdout.isatty()).decode()
    return text_lines(entry, view_of(sys.stdout, SystemZone()))


def _checked(payload: str) -> str:
    try:
        return encode_payload(msgspec.json.decode(payload), max_bytes=sys.maxsize)
    except (msgspec.DecodeError, UnicodeEncodeError, PayloadError) as error:
        raise click.BadParameter(f"that is no JSON: {error}", param_hint="--payload") from None
