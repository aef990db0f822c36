"""The watcher: detects that nerve.yaml or a sense has changed on disk, and sends the kernel an update."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from watchdog import events as watchdog
from watchdog.observers import Observer

from nerve.clock import Clock, SystemClock
from nerve.ipc.channel import Channel
from nerve.ipc.event_loop import Loop
from nerve.processes.child import ChildContext
from nerve.processes.messages import Finish, Ready, Rescan, ToChild, UnwatchedFolders
from nerve.reload.codebase import source_folders
from nerve.reload.revision import Revision
from nerve.reload.snapshot import Snapshot, read_snapshot
from nerve.reload.update import Update, plan_update
from nerve.workers import bootstrap
from nerve.workspace import Workspace

logger = logging.getLogger("nerve.watcher")

QUIET_SECONDS = 0.05
"""The files are read once nothing has changed for this long: one save is several events."""

LONGEST_SECONDS = 0.25
"""They are read at the latest this long after the first change, for a file may change without a pause."""

_CHANGE_EVENTS: list[type[watchdog.FileSystemEvent]] = [
    watchdog.DirCreatedEvent,
    watchdog.DirDeletedEvent,
    watchdog.DirMovedEvent,
    watchdog.FileClosedEvent,
    watchdog.FileCreatedEvent,
    watchdog.FileDeletedEvent,
    watchdog.FileModifiedEvent,
    watchdog.FileMovedEvent,
]
"""All events but those of reading, which the watcher itself would cause."""


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


@dataclass(frozen=True, slots=True, order=True)
class WatchedFolder:
    """A folder to watch; a different folder at the same path, such as after a checkout, has another inode."""

    path: str
    inode: int
    recursive: bool


class Wakeup(watchdog.FileSystemEventHandler):
    """Wakes the main thread's event loop when something has changed; it never blocks the observer's thread."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.settimeout(0)
        self._sender.settimeout(0)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._receiver.fileno()

    def on_any_event(self, _event: watchdog.FileSystemEvent) -> None:
        """Wake the loop (called in the observer's thread)."""
        with suppress(BlockingIOError):  # the buffer is full, so the loop will wake anyway
            self._sender.send(b"!")

    def clear(self) -> None:
        """Make the descriptor unreadable until the next change."""
        with suppress(BlockingIOError):
            self._receiver.recv(4096)

    def close(self) -> None:
        """Close both ends."""
        self._receiver.close()
        self._sender.close()


class Watcher:
    """Reads the files whenever they have changed, and sends the kernel an update."""

    def __init__(self, context: ChildContext, link: Channel[ToChild], clock: Clock) -> None:
        self._workspace = context.boot.workspace
        self._revision = context.boot.revision
        self._link = link
        self._clock = clock
        self._wakeup = Wakeup()
        self._observer = Observer()
        self._folders: frozenset[WatchedFolder] = frozenset()
        self._unwatched: tuple[str, ...] = ()
        self._burst: ChangeBurst | None = None
        self._requests: list[int] = []
        self._finishing = False

    def serve(self) -> None:
        """Watch until the kernel says to finish, or is gone."""
        self._observer.start()
        self._check_files(self._clock.now())
        self._link.send(Ready())
        loop = Loop()
        loop.watch(self._link, self._handle_messages)
        loop.watch(self._wakeup, self._on_wakeup)
        while not (self._finishing or self._link.ended):
            loop.wait(max(0.0, self._burst.deadline - self._clock.now()) if self._burst else None)
            now = self._clock.now()
            if self._burst and now >= self._burst.deadline:
                self._check_files(now)

    def _on_wakeup(self) -> None:
        self._wakeup.clear()
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
        self._watch(folders_to_watch(self._workspace, self._revision))
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

    def _watch(self, folders: frozenset[WatchedFolder]) -> None:
        if folders == self._folders:
            return
        self._observer.unschedule_all()
        self._folders = folders
        unwatched = tuple(line for folder in sorted(folders) if (line := self._watch_folder(folder)))
        if unwatched != self._unwatched:
            self._unwatched = unwatched
            self._link.send(UnwatchedFolders(unwatched))

    def _watch_folder(self, folder: WatchedFolder) -> str | None:
        """Watch a folder; return a line with the reason if the system refuses, such as at the inotify limit."""
        try:
            self._observer.schedule(self._wakeup, folder.path, recursive=folder.recursive, event_filter=_CHANGE_EVENTS)
        except OSError as error:
            logger.warning("can't watch %s: %s", folder.path, error.strerror)
            return f"{folder.path} ({error.strerror})"
        return None


def folders_to_watch(workspace: Workspace, revision: Revision) -> frozenset[WatchedFolder]:
    """Return the folders in which a change matters: of nerve.yaml, of the senses, and of each sense kept elsewhere."""
    senses = workspace.senses_dir.resolve()
    others = {workspace.home, workspace.config_path.resolve().parent}
    others |= {Path(sense.path).parent for sense in revision.config.senses.values()}
    others |= {folder.resolve() for folder in source_folders(workspace.senses_dir)}  # a link may lead out of `senses`
    others = {nearest for folder in others if not (nearest := _nearest_existing(folder)).is_relative_to(senses)}
    return frozenset((*_watched(others, recursive=False), *_watched({senses}, recursive=True)))


def _watched(folders: Iterable[Path], *, recursive: bool) -> Iterable[WatchedFolder]:
    for folder in folders:
        with suppress(OSError):
            yield WatchedFolder(str(folder), folder.stat().st_ino, recursive)


def _nearest_existing(folder: Path) -> Path:
    """Return the folder, or its nearest existing parent, in which creating it will be a change."""
    return next((place for place in (folder, *folder.parents) if place.is_dir()), folder)


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
