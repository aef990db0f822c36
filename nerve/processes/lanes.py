"""The life of every lane: made before its producer is forked, and given up after its end; in the kernel."""

from __future__ import annotations

import logging
import signal
from collections import deque
from itertools import chain
from pathlib import Path

from nerve.errors import WorkspaceError
from nerve.eventqueue import Lane, Wakeup
from nerve.eventqueue.lane_file import LANE_BYTES, SUFFIX, UNFINISHED, create_lane_file
from nerve.ids import uuid7_hex
from nerve.processes.child import Boot, Child, Role
from nerve.processes.messages import Lanes

logger = logging.getLogger("nerve.kernel")

KERNEL_LANE_BYTES = 4 * LANE_BYTES
"""The ring of the kernel's own lane, in bytes: it starts no further run long before this is full."""


class LaneKeeper:
    """Forks children with the lanes that they need, and keeps the writer informed of who may still publish.

    The writer hears of a lane before its producer exists: so it can't take an effect without knowing of its cause.
    A writer that starts is sent everything; it is the writer that removes a lane, once it is drained.
    """

    def __init__(self, boot: Boot, writer: Role) -> None:
        """Make the kernel's own lane; WorkspaceError where there is no room for it."""
        self._boot = boot
        self._folder = boot.workspace.lanes_dir
        self._writer_role = writer
        self._writer: Child | None = None
        self._producers: dict[str, Child | None] = {}
        self._gone: list[str] = []
        self._spare: dict[str, deque[str]] = {}
        for unfinished in self._folder.glob(f"*{UNFINISHED}"):  # its maker was killed
            unfinished.unlink(missing_ok=True)
        self.wakeup = Wakeup()
        self._kernels = self._make_first("kernel", KERNEL_LANE_BYTES)
        self._producers[self._kernels] = None

    def open_own(self) -> Lane:
        """Open the kernel's own lane; its children are not given the mapping."""
        lane = Lane(self._path(self._kernels), self.wakeup)
        lane.keep_from_children()
        return lane

    def reserve(self, role: Role, count: int) -> None:
        """Make the lanes of the first children of a role; WorkspaceError where there is no room for them."""
        self._spare[role.name] = deque(self._make_first(role.name, LANE_BYTES) for _ in range(count))

    def fork(self, role: Role, boot: Boot, now: float) -> Child:
        """Fork a child of a role, with a lane if the role has one. OSError when there is no room for either."""
        if not role.has_lane:
            child = Child(role, boot, now, wakeup=self.wakeup)
            if role is self._writer_role:
                self._introduce(child)
            return child
        spare = self._spare.get(role.name)
        producer = spare.popleft() if spare else self._make(role.name, LANE_BYTES)
        self._tell(Lanes(live=(producer,)))
        try:
            child = Child(role, boot, now, lane=self._path(producer), wakeup=self.wakeup)
        except OSError:
            self._give_up(producer)
            raise
        self._producers[producer] = child
        child.on_close(lambda: self._give_up(producer))
        return child

    def condemn(self, producer: str, reason: str) -> bool:
        """Kill the producer of a lane that makes no sense; False where that is the kernel itself."""
        child = self._producers.get(producer)
        if child is not None:
            child.failure = f"its lane of the event queue made no sense: {reason}"
            child.signal(signal.SIGKILL)
        return producer != self._kernels

    def close(self, *, discard: bool) -> None:
        """Let go of the wakeup, and remove the lanes that nobody has got; with `discard`, all of them."""
        for producer in (
            *chain(*self._spare.values()),
            *(self._producers if discard else ()),
            *(self._gone if discard else ()),
        ):
            self._path(producer).unlink(missing_ok=True)
        self.wakeup.close()

    def _introduce(self, writer: Child) -> None:
        """Tell a new writer about every lane that there can be."""
        self._writer = writer
        self._gone = [producer for producer in self._gone if self._path(producer).exists()]
        self._tell(Lanes(live=tuple(self._producers), gone=tuple(self._gone)))

    def _give_up(self, producer: str) -> None:
        """Have the writer drain and remove a lane: its producer has ended, or was never forked."""
        self._producers.pop(producer, None)
        self._gone.append(producer)
        self._tell(Lanes(gone=(producer,)))

    def _tell(self, lanes: Lanes) -> None:
        if self._writer:
            self._writer.send(lanes)

    def _make_first(self, role: str, capacity: int) -> str:
        try:
            return self._make(role, capacity)
        except OSError as error:
            step = "free some space, or check the disk"
            raise WorkspaceError(
                f"can't make a lane of the event queue in {self._folder}: {error.strerror}; {step}"
            ) from None

    def _make(self, role: str, capacity: int) -> str:
        producer = f"{role}-{uuid7_hex()}"
        create_lane_file(self._path(producer), producer, self._boot.boot_id, capacity)
        return producer

    def _path(self, producer: str) -> Path:
        return self._folder / f"{producer}{SUFFIX}"
