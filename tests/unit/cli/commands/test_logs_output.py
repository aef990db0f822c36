"""The output of `nerve logs`: slow pipes, pipes that close early, a full disk, a real terminal."""

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
        """Return True."""
        return True

    def write(self, data: memoryview) -> int:
        """Write at most 7 bytes, and return their number."""
        self.taken += data[:7]
        return len(data[:7])


class Stream:
    """A text stream over a Narrow, as PYTHONUNBUFFERED makes one."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.buffer = Narrow()

    def isatty(self) -> bool:
        """Return False."""
        return False

    def fileno(self) -> int:
        """Raise UnsupportedOperation, as a stream without a file does."""
        raise io.UnsupportedOperation


def test_output_is_written_in_chunks_and_complete() -> None:
    """At most a chunk of lines is buffered, and nothing is lost if a write takes only a part."""
    stream = Stream()
    line = b"x" * 999 + b"\n"
    buffered = []

    def lines() -> Iterator[bytes]:
        for n in range(100):
            buffered.append(n * len(line) - len(stream.buffer.taken))
            yield line

    assert Output(stream).write(lines()) == 100
    assert stream.buffer.taken == line * 100
    assert max(buffered) < CHUNK_BYTES + len(line)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_closes_early_ends_the_command_with_success(home: Path, write: Write, unbuffered: str) -> None:
    """With `| head -1`, for example, there is no message."""
    write(*numbered(*range(5000)))
    with start(home, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b" 1 sense/reading " in process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(10)) == (b"", 0)


def test_output_to_a_full_disk_is_an_error_in_one_line(home: Path, write: Write) -> None:
    """There is no traceback."""
    if not Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    write(*numbered(1))
    with Path("/dev/full").open("wb") as full, start(home, stdout=full) as process:
        assert process.stderr is not None
        assert process.stderr.read() == b"nerve: can't write the output: No space left on device\n"
        assert process.wait(10) == 1


def test_a_real_terminal_gets_colours_and_lines_of_its_width(home: Path, write: Write) -> None:
    """The width comes from the terminal, as COLUMNS is not set."""
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
