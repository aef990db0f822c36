"""What producers and the writer say to each other on a lane."""

from __future__ import annotations

from typing import Annotated

import msgspec

from nerve.events.model import LogEvent


class Hello(msgspec.Struct, frozen=True, tag=1, array_like=True):
    """A producer introduces itself; `producer` is unique to one process, and stays the same when it reconnects.

    `committed` is the last batch that it knows to be committed: the writer may have forgotten who was silent for long.
    `last` is the last batch that it has: those after the committed ones follow, and others may depend on them.
    """

    producer: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    committed: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    last: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


class Batch(msgspec.Struct, frozen=True, tag=2, array_like=True, gc=False):
    """Events in order; `seq` counts the batches of one producer from 1 on, without a gap."""

    seq: int
    events: Annotated[list[LogEvent], msgspec.Meta(min_length=1)]


class Goodbye(msgspec.Struct, frozen=True, tag=3, array_like=True):
    """The producer has all its acknowledgements and will not come back: its position can be forgotten."""


class Purge(msgspec.Struct, frozen=True, tag=4, array_like=True):
    """The archiver's order: delete up to `most` rows of the UTC day `day` with id <= `last_id`, but for `open_runs`.

    They are in the archive. When fewer than `most` are gone, none is left.
    """

    request: int
    day: str
    last_id: int
    open_runs: tuple[str, ...] = ()
    most: Annotated[int, msgspec.Meta(ge=1, le=2**53)] = 2**53


class Vacuum(msgspec.Struct, frozen=True, tag=5, array_like=True):
    """The archiver's order: rebuild the whole file, without its unused space."""

    request: int


class Record(msgspec.Struct, frozen=True, tag=7, array_like=True):
    """The archiver's order: append the event of the archive's file with this number, unless that has been done."""

    request: int
    event: LogEvent
    number: Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class Conclude(msgspec.Struct, frozen=True, tag=6, array_like=True):
    """The archiver's order: remember its run, and give unused space back whenever there is time for it.

    It archived `rows` rows into `files` files, and ended at `ts` (unix ms).
    """

    request: int
    ts: int
    files: int
    rows: int


class Welcome(msgspec.Struct, frozen=True, tag=1, array_like=True):
    """The writer's answer to Hello: the last batch of this producer that is committed (0: none)."""

    seq: int


class Ack(msgspec.Struct, frozen=True, tag=2, array_like=True):
    """Every batch up to `seq` is committed."""

    seq: int


class Done(msgspec.Struct, frozen=True, tag=3, array_like=True):
    """An order has been carried out (`rows` deleted), or has failed with `error`."""

    request: int
    rows: int
    error: str | None = None


Order = Record | Purge | Vacuum | Conclude
ToWriter = Hello | Batch | Goodbye | Record | Purge | Vacuum | Conclude
FromWriter = Welcome | Ack | Done
