"""`nerve code`: print the source of a version that ran."""

from __future__ import annotations

import re
import sys

import click

from nerve.cli.log_access import printing
from nerve.cli.options import workspace_of
from nerve.errors import NerveError
from nerve.escaping import escape, escape_lines
from nerve.reload.code_store import CodeStore, iter_text

CANDIDATES = 5


@click.command()
@click.argument("digest")
@click.option("--file", "name", metavar="NAME", help="Print only this file, by the name that its heading has.")
@click.pass_context
def code(ctx: click.Context, digest: str, name: str | None) -> None:
    """Print the source of a version that ran.

    DIGEST is that of a run, as `nerve trace -v` and the `run_start` entries in the log show it, or its first digits. A
    version of several files is printed with a heading for each. In a pipe, a version of one file is exactly that file.

    Code is kept in data/code from its first run on, as long as the log has runs of it.

    \b
    Example:
      nerve code 5c1f0aab
      nerve code 5c1f0aab --file senses.disk > senses/disk.py
    """
    store = CodeStore(workspace_of(ctx).code_dir)
    files = store.files(_resolve(store, digest))
    if name is not None:
        names = ", ".join(file.name for file in files if file.name)
        files = tuple(file for file in files if file.name == name)
        if not files:
            raise NerveError(f"no file {name!r} in this version" + (f": its files are {names}" if names else ""))
    with printing():
        for part in iter_text(files):
            if sys.stdout.isatty():
                click.echo(escape_lines(part.decode(errors="replace").expandtabs()), nl=False)
            else:
                click.echo(part, nl=False)


def _resolve(store: CodeStore, typed: str) -> str:
    """Return the digest that begins with what was typed; raises NerveError if there is none, or more than one."""
    if not re.fullmatch("[0-9a-f]+", typed):
        raise click.BadParameter(f"{typed!r} is not a digest: it has the digits 0-9 and a-f", param_hint="DIGEST")
    found = store.find(typed)
    if not found:
        step = "list the digests of runs with `nerve trace -v RUN`"
        raise NerveError(f"no code is kept for {typed!r}, or no longer: {step}")
    if len(found) > 1:
        names = ", ".join(found[:CANDIDATES]) + ", ..." * (len(found) > CANDIDATES)
        raise NerveError(f"ambiguous digest {typed!r}: {escape(names)}; give more digits")
    return found[0]
