"""`nerve init`: create a workspace with working senses."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import click

from nerve.cli.console import say
from nerve.cli.options import current_folder
from nerve.errors import WorkspaceError
from nerve.workspace import require_utf8

SENSES = ("cpu", "load", "memory", "disk", "pressure")


FILES = (".gitignore", "Procfile", *(f"senses/{sense}.py" for sense in SENSES), "nerve.yaml")
"""The files of a new workspace. nerve.yaml comes last, so that a folder that has one has all the others."""


@click.command()
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("-q", "--quiet", is_flag=True, help="Print nothing on success.")
@click.pass_context
def init(ctx: click.Context, directory: Path | None, quiet: bool) -> None:
    """Create a workspace with working senses in DIR (default: the current folder).

    Existing files are kept unchanged.

    \b
    Example:
      nerve init my-workspace
    """
    home: Path = directory or ctx.find_root().obj or Path()
    require_utf8((current_folder(home) / home).resolve())
    template = resources.files("nerve") / "workspace_template"
    for name in FILES:
        path = home / name
        written = _write_new(path, (template / name).read_bytes())
        if not quiet:
            say(f"created {path}" if written else f"kept    {path} (exists already)")
    if not quiet:
        for line in ("", "Next:", *(f"  {step}" for step in _next_steps(home))):
            say(line)


def _write_new(path: Path, content: bytes) -> bool:
    """Write a file unless it exists; return True if it was written. A failed write leaves no partial file behind."""
    _make_folder(path.parent)
    created = False
    try:
        with open(path, "xb", opener=_open_for_owner) as file:
            created = True
            file.write(content)
    except FileExistsError:
        return False
    except OSError as error:
        if created:
            path.unlink()
        raise _unwritable(path, error) from None
    return True


def _open_for_owner(path: str, flags: int) -> int:
    """Open a file that only its owner may write, whatever the umask is: what is in it is executed."""
    return os.open(path, flags, 0o644)


def _make_folder(folder: Path) -> None:
    try:
        for missing in (*reversed(folder.parents), folder):
            missing.mkdir(mode=0o755, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise WorkspaceError(f"can't create the folder {folder}: a file is in the way; choose another folder") from None
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(path: Path, error: OSError) -> WorkspaceError:
    step = "make the folder writable, or choose another one with `nerve init DIR`"
    return WorkspaceError(f"can't write {path}: {error.strerror}; {step}")


def _is_current(home: Path) -> bool:
    try:
        return home.resolve() == Path.cwd()
    except OSError:  # the current folder has been deleted
        return False


def _next_steps(home: Path) -> Iterator[str]:
    if not _is_current(home):
        yield f"cd {shlex.quote(str(home))}"
    yield "nerve start"
    yield "nerve logs -f      (in another terminal)"
