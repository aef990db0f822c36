"""`nerve trigger`: run a sense now, and with --wait show its result."""

from __future__ import annotations

import sys

import click
import msgspec

from nerve.cli.console import say, view_of
from nerve.cli.formatting import json_line, text_lines
from nerve.cli.moments import SystemZone
from nerve.cli.options import Duration, workspace_of
from nerve.control.client import ControlClient
from nerve.control.protocol import Accepted, Finished, TriggerSense
from nerve.errors import ControlError, ControlTimeoutError, PayloadError
from nerve.events.model import Log
from nerve.events.payload import encode_payload
from nerve.store.filters import Filter
from nerve.store.table.reader import LogReader
from nerve.units import format_duration

ANSWER_SECONDS = 5.0


@click.command()
@click.argument("sense")
@click.option("--payload", metavar="JSON", help="Payload of the signal that the sense receives.")
@click.option(
    "--wait", is_flag=True, help="Wait for the run, show its entries, and exit with 0 if it succeeded, 1 if not."
)
@click.option("--timeout", type=Duration(), default=3600.0, help="With --wait: how long to wait. Default: 1h.")
@click.option("--json", "as_json", is_flag=True, help="With --wait: print the entries as JSON lines.")
@click.pass_context
def trigger(ctx: click.Context, sense: str, payload: str | None, wait: bool, timeout: float, as_json: bool) -> None:
    """Run a sense now.

    If the sense is running already, one more run follows, with the newest payload.

    \b
    Example:
      nerve trigger disk --wait
      nerve trigger pressure --payload '{"reason": "manual check"}'
    """
    workspace = workspace_of(ctx)
    encoded = None if payload is None else _encode_payload(payload)
    with ControlClient(workspace.control_socket, workspace.home) as client:
        client.send(TriggerSense(sense, encoded, wait))
        client.expect(Accepted, ANSWER_SECONDS)
        if not wait:
            say(f"nerve: triggered {sense}; follow it with `nerve logs --sense {sense} -f`", err=True)
            return
        finished = _wait_for_end(client, sense, timeout)
    with LogReader(workspace.logs_db) as reader:
        for entry in reader.query(Filter(ref_id=finished.run_id)):
            click.echo(_format(entry, as_json=as_json), nl=False)
    sys.exit(0 if finished.status == "ok" else 1)


def _wait_for_end(client: ControlClient, sense: str, timeout: float) -> Finished:
    try:
        return client.expect(Finished, timeout)
    except KeyboardInterrupt:
        step = f"see `nerve status`, or follow it with `nerve logs --sense {sense} -f`"
        raise ControlError(f"no longer waiting; the run of {sense} goes on: {step}") from None
    except ControlTimeoutError:
        state = "it is still running, or waiting for its turn; see `nerve status`"
        raise ControlError(f"{sense} has not finished after {format_duration(timeout)}: {state}") from None


def _format(entry: Log, *, as_json: bool) -> str:
    if as_json:
        return json_line(entry, terminal=sys.stdout.isatty()).decode()
    return text_lines(entry, view_of(sys.stdout, SystemZone()))


def _encode_payload(payload: str) -> str:
    try:
        return encode_payload(msgspec.json.decode(payload), max_bytes=sys.maxsize)
    except (msgspec.DecodeError, UnicodeEncodeError, PayloadError) as error:
        raise click.BadParameter(f"it is not valid JSON: {error}", param_hint="--payload") from None
