"""The watcher: detects that nerve.yaml or a sense has changed on disk, and sends the kernel an update."""

from __future__ import annotations

import logging
import math
import os
import threading
import warnings
from dataclasses import dataclass, replace

from nerve.clock import Clock, SystemClock
from nerve.ipc.channel import Channel
from nerve.ipc.event_loop import Loop
from nerve.processes.child import ChildContext
from nerve.processes.messages import Finish, Ready, Rescan, ToChild, UnwatchedFolders
from nerve.reload.file_watch import FileWatch
from nerve.reload.snapshot import Snapshot, read_snapshot
from nerve.reload.update import Update, plan_update
from nerve.workers import bootstrap

logger = logging.getLogger("nerve.watcher")

QUIET_SECONDS = 0.05
"""The files are read once nothing has changed for this long: one save is several events."""

LONGEST_SECONDS = 0.25
"""They are read at the latest this long after the first change, for a file may change without a pause."""


@dataclass(frozen=True, slots=True)
class ChangeBurst:
    """Changes that are handled together: the times of the first and the last of them, in monotonic seconds.

    `not_before` is later than both while a file is being saved.
    """

    first: float
    last: float
    not_before: float = -math.inf

    @property
    def deadline(self) -> float:
        """The time at which to read the files."""
        return max(self.not_before, min(self.last + QUIET_SECONDS, self.first + LONGEST_SECONDS))


class Watcher:
    """Reads the files whenever they have changed, and sends the kernel an update."""

    def __init__(self, context: ChildContext, link: Channel[ToChild], clock: Clock) -> None:
        self._workspace = context.boot.workspace
        self._revision = context.boot.revision
        self._link = link
        self._clock = clock
        self._files = FileWatch(self._workspace)
        self._burst: ChangeBurst | None = None
        self._requests: list[int] = []
        self._finishing = False

    def serve(self) -> None:
        """Watch until the kernel says to finish, or is gone."""
        self._check_files(self._clock.now())
        self._link.send(Ready())
        loop = Loop()
        loop.watch(self._link, self._handle_messages)
        loop.watch(self._files.wakeup, self._on_wakeup)
        while not (self._finishing or self._link.ended):
            loop.wait(max(0.0, self._burst.deadline - self._clock.now()) if self._burst else None)
            now = self._clock.now()
            if self._burst and now >= self._burst.deadline:
                self._check_files(now)

    def _on_wakeup(self) -> None:
        self._files.wakeup.clear()
        now = self._clock.now()
        self._burst = ChangeBurst(self._burst.first if self._burst else now, now)

    def _handle_messages(self) -> None:
        for message in self._link.receive():
            match message:
                case Finish():
                    self._finishing = True
                case Rescan(request):
                    self._requests.append(request)
                    self._check_soon(self._clock.now())
                case _:
                    logger.error("the kernel sent the watcher an unexpected %s", type(message).__name__)
        self._link.flush()

    def _check_soon(self, now: float) -> None:
        self._burst = ChangeBurst(self._burst.first if self._burst else now, now - QUIET_SECONDS)

    def _check_files(self, now: float) -> None:
        """Send what differs from the active revision; folders are watched first, so that no later change is missed."""
        self._watch()
        snapshot = read_snapshot(self._workspace, self._revision)
        burst = self._burst or ChangeBurst(now, now)
        wait = snapshot.unsettled_seconds(self._clock.stamp().ts / 1000, now - burst.first, self._revision)
        self._burst = replace(burst, not_before=now + wait) if wait else None
        if self._burst is None:
            for request in self._requests or (None,):
                self._send_update(snapshot, now, request)
            self._requests.clear()

    def _send_update(self, snapshot: Snapshot, now: float, request: int | None) -> None:
        delta = plan_update(self._revision, snapshot, home=self._workspace.home, force=request is not None)
        if delta.is_empty and request is None:
            return
        # The kernel applies the same delta to the same revision; the next update is planned before it could answer.
        self._revision = self._revision.apply(delta)
        self._link.send(Update.pack(delta, request))
        if delta.config:
            self._check_soon(now)  # its senses may be in folders that are not watched yet

    def _watch(self) -> None:
        before = self._files.unwatched
        self._files.follow(self._revision)
        if self._files.unwatched != before:
            for line in self._files.unwatched:
                logger.warning("can't watch %s", line)
            self._link.send(UnwatchedFolders(self._files.unwatched))


def _exit_at_once(failure: threading.ExceptHookArgs) -> None:
    """Exit if a thread of the observer fails: it would notice no change from then on, but a new watcher will."""
    logger.error("the file watcher failed; restarting it: %s: %s", failure.exc_type.__name__, failure.exc_value)
    os._exit(1)


def main(context: ChildContext) -> None:
    """Watch until the kernel says to finish, or is gone (child)."""
    link = bootstrap.enter(context)
    threading.excepthook = _exit_at_once
    # watchdog warns of a folder that it finds twice because it came and went; under -W error that would end a thread.
    warnings.filterwarnings("ignore", message="Callback with id")
    Watcher(context, link, SystemClock()).serve()
