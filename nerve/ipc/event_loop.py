"""The loop of a single thread: waits for descriptors, and for the next moment that somebody asked for."""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import Any, Protocol


class Source(Protocol):
    """Something with a descriptor."""

    def fileno(self) -> int:
        """The descriptor to watch."""


class Loop:
    """Watches descriptors; a source that has something unsent is watched for room to write, too."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, tuple[Source, Callable[[], None]]] = {}
        self._writing: set[int] = set()

    def watch(self, source: Source, act: Callable[[], None]) -> None:
        """Call `act` whenever `source` is readable, or writable while it has something `unsent`."""
        descriptor = source.fileno()
        self._selector.register(descriptor, selectors.EVENT_READ)
        self._watched[descriptor] = (source, act)

    def forget(self, source: Source) -> None:
        """Stop watching; call it before the source is closed. A source that is not watched is left alone."""
        self.forget_descriptor(source.fileno())

    def forget_descriptor(self, descriptor: int) -> None:
        """Stop watching a source by the descriptor it had, which may be closed already."""
        if self._watched.pop(descriptor, None):
            self._selector.unregister(descriptor)
            self._writing.discard(descriptor)

    def wait(self, timeout: float | None) -> None:
        """Wait until something is ready, at most `timeout` seconds (None: for ever), and act on all that is."""
        for descriptor, (source, _act) in self._watched.items():
            self._adjust(descriptor, source)
        for key, _mask in self._selector.select(timeout):
            watched = self._watched.get(key.fd)
            if watched:  # an earlier act of this round may have forgotten it
                watched[1]()

    def close(self) -> None:
        """Stop watching everything."""
        self._watched.clear()
        self._selector.close()

    def _adjust(self, descriptor: int, source: Any) -> None:
        unsent = getattr(source, "unsent", False)
        if unsent != (descriptor in self._writing):  # the selector's own books take ten times as long to look up
            self._writing ^= {descriptor}
            self._selector.modify(descriptor, selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0))
