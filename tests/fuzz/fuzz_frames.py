"""Fuzzes what reads bytes from sockets, guided by coverage: only WireError may ever come out, and memory stays bounded.

The first byte of an input chooses who reads, the second how the bytes are cut into pieces.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from nerve.control.protocol import Envelope, Reply
    from nerve.errors import WireError
    from nerve.ipc.channel import MAX_FRAME, FrameReader
    from nerve.processes.messages import FromChild, ToChild
    from nerve.store.archive.order_messages import Done, Order

READERS = (Order, Done, Envelope, Reply, ToChild, FromChild)


def read(data: bytes) -> None:
    """Feed one input, in pieces, to one kind of reader."""
    if len(data) < 3:
        return
    reader: FrameReader[object] = FrameReader(READERS[data[0] % len(READERS)])
    piece, stream = data[1] + 1, data[2:]
    try:
        for at in range(0, len(stream), piece):
            reader.feed(stream[at : at + piece])
    except WireError:
        return
    if len(reader._partial) > min(len(stream), MAX_FRAME + 4):
        raise AssertionError("more is kept than was sent")


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
