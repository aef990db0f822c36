"""Where `nerve logs` writes to: pipes that take little or close early, a full disk, a real terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.commands import Write
from support.listings import DISK, numbered, stamp, start

from nerve.cli.commands.logs import CHUNK_BYTES, Output
from nerve.events import catalog


class Narrow(io.RawIOBase):
    """An unbuffered output that takes 7 bytes at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = b""

    def writable(self) -> bool:
        """Be an output."""
        return True

    def write(self, data: memoryview) -> int:
        """Take what fits."""
        self.taken += data[:7]
        return len(data[:7])


class Stream:
    """A text stream over a Narrow, as PYTHONUNBUFFERED makes one."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.buffer = Narrow()

    def isatty(self) -> bool:
        """Be no terminal."""
        return False

    def fileno(self) -> int:
        """Have no file."""
        raise io.UnsupportedOperation


def test_output_goes_out_in_chunks_and_whole() -> None:
    """Lines don't pile up in memory, and nothing is lost where a write takes only a part."""
    stream = Stream()
    line = b"x" * 999 + b"\n"
    piles = []

    def lines() -> Iterator[bytes]:
        for n in range(100):
            piles.append(n * len(line) - len(stream.buffer.taken))
            yield line

    assert Output(stream).write(lines()) == 100
    assert stream.buffer.taken == line * 100
    assert max(piles) < CHUNK_BYTES + len(line)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_is_closed_early_is_no_failure(home: Path, write: Write, unbuffered: str) -> None:
    """As with `| head -1`: the command ends without a word, and with success."""
    write(*numbered(*range(5000)))
    with start(home, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b" 1 sense/reading " in process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(10)) == (b"", 0)


def test_a_full_disk_is_one_line(home: Path, write: Write) -> None:
    """Output that can't be written is a failure, told without a traceback."""
    if not Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    write(*numbered(1))
    with Path("/dev/full").open("wb") as full, start(home, stdout=full) as process:
        assert process.stderr is not None
        assert process.stderr.read() == b"nerve: can't write the output: No space left on device\n"
        assert process.wait(10) == 1


def test_a_real_terminal_is_recognised_with_its_width(home: Path, write: Write) -> None:
    """Lines are coloured, and as long as the window allows."""
    write(catalog.from_sense(stamp(1), DISK, "reading", {"text": "x" * 300}))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 90, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with start(home, stdout=theirs, env=environ) as process:
        shown = os.read(ours, 10_000).decode()
        os.close(theirs)
        assert process.wait(10) == 0
    os.close(ours)
    assert "\x1b[2m" in shown
    assert len(click.unstyle(shown).rstrip()) == 90
