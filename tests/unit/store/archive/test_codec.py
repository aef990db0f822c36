"""The codec of archive files: lines, compressed or not."""

from __future__ import annotations

import hashlib
import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from nerve.errors import StoreError
from nerve.store.archive.codec import Stored, measure, read_lines, write_lines

LINES = [b'{"id":%d}\n' % n for n in range(10_000)]


def stored(path: Path, lines: list[bytes]) -> Stored:
    """Write a file, compressed or not according to its suffix."""
    with path.open("wb") as file:
        return write_lines(file, lines, compressed=path.suffix == ".zst")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
def test_lines_are_read_as_they_were_written(tmp_path: Path, name: str) -> None:
    """The returned size and SHA-256 are those of the file, compressed or not."""
    path = tmp_path / name
    written = stored(path, LINES)
    assert list(read_lines(path)) == LINES
    assert written == measure(path) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def test_long_file_is_synced_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits of other processes need not wait for all of it."""
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    stored(tmp_path / "a.jsonl", [b"x" * 99_999 + b"\n"] * 100)
    assert sizes == [4_200_000, 8_400_000]


def test_compressed_file_is_smaller(tmp_path: Path) -> None:
    """Similar lines shrink to less than a quarter."""
    plain, packed = (stored(tmp_path / name, LINES) for name in ("a.jsonl", "a.jsonl.zst"))
    assert packed.bytes < plain.bytes / 4


@given(st.lists(st.binary(max_size=50).map(lambda text: text.replace(b"\n", b"\r") + b"\n"), max_size=30))
def test_any_lines_are_read_back(lines: list[bytes]) -> None:
    """Only line ends separate lines, whatever bytes they have."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl.zst"
        stored(path, lines)
        assert list(read_lines(path)) == lines


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
def test_file_without_lines_is_readable(tmp_path: Path, name: str) -> None:
    """It yields no lines."""
    stored(tmp_path / name, [])
    assert list(read_lines(tmp_path / name)) == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[:-1], "stops before its end"),
        (lambda data: data[: len(data) // 2], "stops before its end"),
        (lambda data: b"", "stops before its end"),
        (lambda data: data + b"more", "continues after its end"),
        (lambda data: data + b"\0" * 10_000, "continues after its end"),
        (lambda data: data[:-4] + b"oops", "is damaged: .*checksum"),
        (lambda data: b"oops" + data, "is damaged"),
    ],
)
def test_damaged_file_raises_store_error(tmp_path: Path, damage: object, says: str) -> None:
    """The message names the file; a truncated file is never taken for a whole one."""
    path = tmp_path / "a.jsonl.zst"
    stored(path, LINES)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(StoreError, match=says) as caught:
        list(read_lines(path))
    assert str(path) in str(caught.value)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Writing and reading 30 MB of short, repetitive lines takes less than 20 MB."""
    path = tmp_path / "a.jsonl.zst"
    line = b'{"text":"' + b"x" * 1000 + b'"}\n'
    tracemalloc.start()
    try:
        with path.open("wb") as file:
            write_lines(file, (line for _ in range(30_000)), compressed=True)
        assert sum(1 for _ in read_lines(path)) == 30_000
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


# What nerve has not written.


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A few KB can become many GB; the time is in proportion to what is read."""
    monkeypatch.setattr("nerve.store.archive.codec.MAX_LINE_BYTES", 4 * 1024**2)
    path = tmp_path / name
    with path.open("wb") as file:
        data = b"x" * (64 * 1024**2)
        file.write(zstandard.ZstdCompressor().compress(data) if path.suffix == ".zst" else data)
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match="it has a line of more than 4 MB"):
            list(read_lines(path))
        assert tracemalloc.get_traced_memory()[1] < 24 * 1024**2
    finally:
        tracemalloc.stop()


def test_data_that_hardly_grows_and_then_explodes_is_read_in_small_parts(tmp_path: Path) -> None:
    """The first part must not lead to reading so much at once that the second fills the memory."""
    path = tmp_path / "a.jsonl.zst"
    with path.open("wb") as file:
        file.write(zstandard.ZstdCompressor().compress(os.urandom(1024**2) + (b"y" * 1023 + b"\n") * 256 * 1024))
    tracemalloc.start()
    try:
        assert sum(len(line) for line in read_lines(path)) == 257 * 1024**2
        assert tracemalloc.get_traced_memory()[1] < 160 * 1024**2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "folder", "device"])
def test_only_a_regular_file_is_read(tmp_path: Path, name: str, kind: str) -> None:
    """A named pipe without a writer would block for ever."""
    path = tmp_path / name
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "link to a pipe":
            os.mkfifo(tmp_path / "pipe")
            path.symlink_to("pipe")
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
    for read in (measure, lambda path: list(read_lines(path))):
        with pytest.raises(StoreError, match="is not a regular file"):
            read(path)


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    """Somebody may have moved old days to another disk."""
    stored(tmp_path / "b.jsonl", LINES)
    (tmp_path / "a.jsonl").symlink_to("b.jsonl")
    assert list(read_lines(tmp_path / "a.jsonl")) == LINES
