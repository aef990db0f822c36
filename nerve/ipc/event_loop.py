"""The event loop of a process with a single thread: waits for descriptors, with a timeout."""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import Any, Protocol


class Source(Protocol):
    """Anything with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor to watch."""


class Loop:
    """Watches descriptors; a source with the attribute `unsent` is watched for writing, too, while that is true."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, tuple[Source, Callable[[], None]]] = {}
        self._writing: set[int] = set()

    def watch(self, source: Source, act: Callable[[], None]) -> None:
        """Call `act` whenever `source` is readable, and whenever it is writable while `unsent` is true."""
        descriptor = source.fileno()
        self._selector.register(descriptor, selectors.EVENT_READ)
        self._watched[descriptor] = (source, act)

    def forget(self, source: Source) -> None:
        """Stop watching a source; call this before it is closed. Does nothing for a source that is not watched."""
        self.forget_descriptor(source.fileno())

    def forget_descriptor(self, descriptor: int) -> None:
        """Stop watching a source by its descriptor, which may be closed already."""
        if self._watched.pop(descriptor, None):
            self._selector.unregister(descriptor)
            self._writing.discard(descriptor)

    def wait(self, timeout: float | None) -> None:
        """Wait up to `timeout` seconds (None: no limit) until a source is ready, and call `act` of each that is."""
        for descriptor, (source, _act) in self._watched.items():
            self._adjust(descriptor, source)
        for key, _mask in self._selector.select(timeout):
            watched = self._watched.get(key.fd)
            if watched:  # an earlier `act` of this round may have called `forget`
                watched[1]()

    def close(self) -> None:
        """Stop watching everything."""
        self._watched.clear()
        self._selector.close()

    def _adjust(self, descriptor: int, source: Any) -> None:
        unsent = getattr(source, "unsent", False)
        if unsent != (
            descriptor in self._writing
        ):  # looking up what the selector has registered takes ten times as long
            self._writing ^= {descriptor}
            self._selector.modify(descriptor, selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0))
