"""The life cycle of lanes: created before their producers are forked, released after they are reaped; kernel."""

from __future__ import annotations

import errno
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
"""The size of the ring of the kernel's own lane; the kernel starts no further run when half of it is used."""

MAX_UNDRAINED = 64
"""With this many lanes of dead producers that the writer has not drained, no further producer is forked."""


class LaneKeeper:
    """Creates lanes, forks their producers, and informs the writer.

    The writer is informed of a lane before its producer is forked, so that it never commits an effect without knowing
    the lane of its cause. A new writer is informed of all lanes. The writer removes a lane once it is drained.
    """

    def __init__(self, boot: Boot, writer: Role) -> None:
        """Create the kernel's own lane. Raises WorkspaceError if there is no space for it."""
        self._boot = boot
        self._folder = boot.workspace.lanes_dir
        self._writer_role = writer
        self._writer: Child | None = None
        self._producers: dict[str, Child | None] = {}
        self._gone: list[str] = []
        self._spare: dict[str, deque[str]] = {}
        for unfinished in self._folder.glob(f"*{UNFINISHED}"):  # a kernel was killed while it created a lane
            unfinished.unlink(missing_ok=True)
        self.wakeup = Wakeup()
        self._own = self._create_first("kernel", KERNEL_LANE_BYTES)
        self._producers[self._own] = None

    def open_own(self) -> Lane:
        """Open the kernel's own lane; children don't inherit its mapping."""
        lane = Lane(self._path(self._own), self.wakeup)
        lane.keep_from_children()
        return lane

    def reserve(self, role: Role, count: int) -> None:
        """Create the lanes of the first `count` children of a role. Raises WorkspaceError if there is no space."""
        self._spare[role.name] = deque(self._create_first(role.name, LANE_BYTES) for _ in range(count))

    def fork(self, role: Role, boot: Boot) -> Child:
        """Fork a child, with a lane if its role has one. Raises OSError if there is no space, or no process, left."""
        if not role.has_lane:
            child = Child(role, boot, wakeup=self.wakeup)
            if role is self._writer_role:
                self._inform_of_all(child)
            return child
        self._gone = [producer for producer in self._gone if self._path(producer).exists()]
        if len(self._gone) >= MAX_UNDRAINED:
            raise OSError(errno.EAGAIN, f"the writer has the lanes of {len(self._gone)} dead processes to write first")
        spare = self._spare.get(role.name)
        producer = spare.popleft() if spare else self._create(role.name, LANE_BYTES)
        self._inform(Lanes(live=(producer,)))
        try:
            child = Child(role, boot, lane=self._path(producer), wakeup=self.wakeup)
        except OSError:
            self._release(producer)
            raise
        self._producers[producer] = child
        child.on_close(lambda: self._release(producer))
        return child

    def condemn(self, producer: str, reason: str) -> bool:
        """Kill the producer of a corrupt lane. Return False if that is the kernel itself."""
        child = self._producers.get(producer)
        if child is not None:
            child.failure = f"its lane of the event queue is corrupt: {reason}"
            child.signal(signal.SIGKILL)
        return producer != self._own

    def close(self, *, discard: bool) -> None:
        """Close the wake-up and remove unused lanes; with `discard`, remove all lanes."""
        for producer in (
            *chain(*self._spare.values()),
            *(self._producers if discard else ()),
            *(self._gone if discard else ()),
        ):
            self._path(producer).unlink(missing_ok=True)
        self.wakeup.close()

    def _inform_of_all(self, writer: Child) -> None:
        """Inform a new writer of all lanes."""
        self._writer = writer
        self._gone = [producer for producer in self._gone if self._path(producer).exists()]
        self._inform(Lanes(live=tuple(self._producers), gone=tuple(self._gone)))

    def _release(self, producer: str) -> None:
        """Have the writer drain and remove the lane of a producer that has exited or was never forked."""
        self._producers.pop(producer, None)
        self._gone.append(producer)
        self._inform(Lanes(gone=(producer,)))

    def _inform(self, lanes: Lanes) -> None:
        if self._writer:
            self._writer.send(lanes)

    def _create_first(self, role: str, capacity: int) -> str:
        try:
            return self._create(role, capacity)
        except OSError as error:
            step = "free some space, or check the disk"
            raise WorkspaceError(
                f"can't create a lane of the event queue in {self._folder}: {error.strerror}; {step}"
            ) from None

    def _create(self, role: str, capacity: int) -> str:
        producer = f"{role}-{uuid7_hex()}"
        create_lane_file(self._path(producer), producer, self._boot.boot_id, capacity)
        return producer

    def _path(self, producer: str) -> Path:
        return self._folder / f"{producer}{SUFFIX}"
