"""The archiver's orders to the writer, and the answer to them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from nerve.events.model import LogEvent


class Purge(msgspec.Struct, frozen=True, tag=4, array_like=True):
    """Delete up to `most` rows of the UTC day `day` with id <= `last_id`, but for `open_runs`.

    They are in the archive. When fewer than `most` are gone, none is left.
    """

    request: int
    day: str
    last_id: int
    open_runs: tuple[str, ...] = ()
    most: Annotated[int, msgspec.Meta(ge=1, le=2**53)] = 2**53


class Vacuum(msgspec.Struct, frozen=True, tag=5, array_like=True):
    """Rebuild the whole file, without its unused space."""

    request: int


class Conclude(msgspec.Struct, frozen=True, tag=6, array_like=True):
    """Remember the archiver's run, and give unused space back whenever there is time for it.

    The run archived `rows` rows into `files` files, and ended at `ts` (unix ms).
    """

    request: int
    ts: int
    files: int
    rows: int


class Record(msgspec.Struct, frozen=True, tag=7, array_like=True):
    """Append the event of the archive's file with this number, unless that has been done."""

    request: int
    event: LogEvent
    number: Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class Done(msgspec.Struct, frozen=True, tag=3, array_like=True):
    """The writer's answer: an order has been carried out (`rows` deleted), or has failed with `error`."""

    request: int
    rows: int
    error: str | None = None


Order = Record | Purge | Vacuum | Conclude
