"""The file of a lane: made whole or not at all, recognised by its header, and removed without a trace."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.eventqueue import BOOT

from nerve.errors import WireError
from nerve.eventqueue.lane_file import (
    HEAD,
    HEADER_BYTES,
    NEVER,
    NOTIFY_AT,
    LaneFile,
    create_lane_file,
    is_held,
)

CAPACITY = 16 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a lane."""
    made = tmp_path / "worker-1.lane"
    create_lane_file(made, "worker-1", BOOT, CAPACITY)
    return made


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_new_lane_has_all_of_its_room_and_nothing_in_it(path: Path) -> None:
    """Its blocks are there, so that a full disk can't turn a store into a SIGBUS."""
    status = path.stat()
    assert status.st_size == HEADER_BYTES + CAPACITY
    assert status.st_blocks * 512 >= status.st_size
    assert status.st_mode & 0o777 == 0o600
    file = LaneFile(path)
    assert (file.producer, file.boot_id, file.capacity) == ("worker-1", BOOT, CAPACITY)
    assert (file.words[HEAD], file.words[NOTIFY_AT]) == (0, NEVER)
    file.close()
    file.close()


@pytest.mark.parametrize("room", [0, HEADER_BYTES, HEADER_BYTES + CAPACITY - 1])
def test_a_lane_without_room_is_an_error_and_leaves_nothing(tmp_path: Path, room: int) -> None:
    """Whoever wanted it can try again later."""
    path = tmp_path / "worker-1.lane"
    with file_size_limit(room), pytest.raises(OSError, match="File too large"):
        create_lane_file(path, "worker-1", BOOT, CAPACITY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("at", "bytes_", "why"),
    [
        (0, b"Nervlane", "checksum"),
        (8, b"\xff", "checksum"),
        (90, b"x", "checksum"),
    ],
    ids=["magic", "capacity", "producer"],
)
def test_a_damaged_header_is_refused(path: Path, at: int, bytes_: bytes, why: str) -> None:
    """None of it is believed."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes_)
    with pytest.raises(WireError, match=why):
        LaneFile(path)


@pytest.mark.parametrize("size", [0, 10, HEADER_BYTES, HEADER_BYTES + CAPACITY - 1, HEADER_BYTES + CAPACITY + 1])
def test_a_file_of_another_size_is_refused(path: Path, size: int) -> None:
    """What is not there can't be mapped: to read it would kill the reader."""
    os.truncate(path, size)
    with pytest.raises(WireError):
        LaneFile(path)


def test_a_copy_of_the_ring_goes_round_its_end(path: Path) -> None:
    """Positions only grow: the ring has no end for those who read it."""
    file = LaneFile(path)
    file.ring[:8], file.ring[-8:] = b"01234567", b"abcdefgh"
    assert file.read(CAPACITY - 8, CAPACITY + 8) == b"abcdefgh01234567"
    assert file.read(CAPACITY, CAPACITY + 8) == b"01234567"
    file.close()


def test_a_lane_is_removed_with_the_bodies_of_its_frames_and_no_others(path: Path, tmp_path: Path) -> None:
    """Nothing of it is left, and nothing of a lane whose name begins like it is touched."""
    file = LaneFile(path)
    file.body_path(128).touch()
    file.body_path(136).with_suffix(".new").touch()
    (tmp_path / "worker-10.lane").touch()
    file.remove()
    file.remove()
    file.close()
    assert [left.name for left in tmp_path.iterdir()] == ["worker-10.lane"]


HOLDER = """
import os, signal, sys
from pathlib import Path
from nerve.eventqueue.lane_file import LaneFile
file = LaneFile(Path(sys.argv[1]), hold=True)
print("held", flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_lane_is_held_until_its_producer_has_ended(path: Path, tmp_path: Path) -> None:
    """However it ends; a lane that is not there is not held."""
    assert not is_held(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        assert is_held(path)
        holder.stdin.close()
        assert holder.wait() == -9
    assert not is_held(path)
    assert not is_held(tmp_path / "nobody.lane")
