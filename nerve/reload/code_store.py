"""The code that ran, kept by its digest: each file in data/code is named after the SHA-256 of what is in it.

A version of one file is that file. A version with helpers is a list with a line for each of its files, the sense's own
first: the name under which it is imported, and its SHA-256, by which it is found. So a helper is kept once for all
senses, and `sha256sum` can check everything.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nerve.errors import NerveError
from nerve.reload.codebase import DIGEST_DIGITS, Version

logger = logging.getLogger("nerve.code")

_NAME = re.compile(rf"[0-9a-f]{{{DIGEST_DIGITS}}}")
_LINE = re.compile(rb"[^\s]+ [0-9a-f]{64}")


class KeptFile(NamedTuple):
    """A file of a version; `source` is None if it is no longer kept."""

    name: str
    digest: str
    source: bytes | None


class CodeStore:
    """The folder data/code; any number of workers may keep code in it at the same time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._has_warned = False

    def keep(self, version: Version) -> None:
        """Keep the code of a version before its first run (worker); a failure is logged, and does not stop the run."""
        if version.error:
            return
        try:
            with suppress(FileNotFoundError):
                os.utime(self._folder / version.digest)  # it is used, so that `prune` spares it
                return
            self._folder.mkdir(mode=0o700, exist_ok=True)
            lines = []
            for module in version.files:
                digest = hashlib.sha256(module.source).hexdigest()
                lines.append(f"{module.name} {digest}\n")
                self._write(digest[:DIGEST_DIGITS], module.source)
            if version.helpers:
                self._write(version.digest, "".join(lines).encode())
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                logger.warning("can't keep the code of %s in %s: %s", version.digest, self._folder, error.strerror)

    def find(self, start: str) -> list[str]:
        """Return the digests that begin with `start`, in order."""
        return [name for name in self._names() if name.startswith(start)]

    def files(self, digest: str) -> tuple[KeptFile, ...]:
        """Return the files of a version, the sense's own first; raises NerveError if it is not kept."""
        content = self._read(digest)
        if content is None:
            raise NerveError(f"no code is kept for {digest!r}")
        listed = _listed(content)
        if listed is None:
            return (KeptFile("", digest, content),)
        return tuple(KeptFile(name, part, self._read(part)) for name, part in listed)

    def unused_since(self, moment: float) -> set[str]:
        """Return the digests that no worker has started to use since `moment` (unix seconds)."""
        found = set()
        for name in self._names():
            with suppress(OSError):
                if (self._folder / name).stat().st_mtime < moment:
                    found.add(name)
        return found

    def prune(self, digests: Collection[str], used: Collection[str]) -> int:
        """Remove those of `digests` that are not `used`, nor a file of a version that stays; return their number."""
        for name in used:
            with suppress(OSError):
                os.utime(self._folder / name)
        removable = set(digests) - set(used)
        for name in self._names():
            if name not in removable:
                removable -= {part for _name, part in _listed(self._read(name) or b"") or ()}
        for name in removable:
            with suppress(OSError):
                (self._folder / name).unlink()
        return len(removable)

    def _names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._folder) if _NAME.fullmatch(name))  # noqa: PTH208 - names
        except OSError:
            return []

    def _read(self, digest: str) -> bytes | None:
        try:
            return (self._folder / digest).read_bytes()
        except OSError:
            return None

    def _write(self, name: str, content: bytes) -> None:
        """Write a file that appears as a whole, for its owner alone, unless it is there."""
        path = self._folder / name
        if path.exists():
            return
        temporary = self._folder / f".{name}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(temporary, flags, 0o600), "wb") as file:  # noqa: PTH123 - Path.open() takes no descriptor
                file.write(content)
            temporary.rename(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def _listed(content: bytes) -> list[tuple[str, str]] | None:
    """Return the names and digests of a list; None for a source, of which no line of this form is valid Python."""
    lines = content.splitlines()
    if not lines or not all(map(_LINE.fullmatch, lines)):
        return None
    return [(name, digest[:DIGEST_DIGITS]) for name, _, digest in (line.decode().partition(" ") for line in lines)]


def iter_text(files: Collection[KeptFile]) -> Iterator[bytes]:
    """Yield the sources of files; of several, each below a line with its name."""
    for file in files:
        if len(files) > 1:
            yield f"# {file.name} {file.digest}\n".encode()
        yield file.source if file.source is not None else b"# no longer kept\n"
        if len(files) > 1 and file.source and not file.source.endswith(b"\n"):
            yield b"\n"
