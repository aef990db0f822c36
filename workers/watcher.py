"""The watcher: notices that nerve.yaml or a sense has changed on disk, and tells the kernel what that comes to."""

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

from watchdog import events as changed
from watchdog.observers import Observer

from nerve.clock import Clock, SystemClock
from nerve.ipc.channel import Channel
from nerve.ipc.event_loop import Loop
from nerve.processes.child import ChildContext
from nerve.processes.messages import Finish, Ready, Rescan, ToChild, UnwatchedFolders
from nerve.reload.codebase import source_folders
from nerve.reload.revision import Revision
from nerve.reload.snapshot import Snapshot, read_snapshot
from nerve.reload.update import applied, plan_update
from nerve.workers import bootstrap
from nerve.workspace import Workspace

logger = logging.getLogger("nerve.watcher")

QUIET_SECONDS = 0.05
LONGEST_SECONDS = 0.25

_CHANGES: list[type[changed.FileSystemEvent]] = [
    changed.DirCreatedEvent,
    changed.DirDeletedEvent,
    changed.DirMovedEvent,
    changed.FileClosedEvent,
    changed.FileCreatedEvent,
    changed.FileDeletedEvent,
    changed.FileModifiedEvent,
    changed.FileMovedEvent,
]
"""All but reading: the watcher reads these files itself."""


@dataclass(frozen=True, slots=True)
class ChangeBurst:
    """Changes that belong together: when the first and the last of them came, in monotonic seconds."""

    first: float
    last: float
    not_before: float = -math.inf

    @property
    def over_at(self) -> float:
        """The moment to look at the files: after some quiet, or at last when there is none."""
        return max(self.not_before, min(self.last + QUIET_SECONDS, self.first + LONGEST_SECONDS))


@dataclass(frozen=True, slots=True, order=True)
class WatchedFolder:
    """A folder to watch: another folder at the same path (moved there, or checked out anew) is another place."""

    path: str
    inode: int
    recursive: bool


class Wakeup(changed.FileSystemEventHandler):
    """Rings, in the main thread's selector, whenever something has changed; it never blocks."""

    def __init__(self) -> None:
        self._heard, self._rings = socket.socketpair()
        self._heard.settimeout(0)
        self._rings.settimeout(0)

    def fileno(self) -> int:
        """The descriptor that becomes readable."""
        return self._heard.fileno()

    def on_any_event(self, _event: changed.FileSystemEvent) -> None:
        """Ring (called in the observer's thread)."""
        with suppress(BlockingIOError):  # it is ringing already
            self._rings.send(b"!")

    def silence(self) -> None:
        """Stop ringing until the next change."""
        with suppress(BlockingIOError):
            self._heard.recv(4096)


class Watcher:
    """Looks at the files whenever they have changed, and sends what is to change in the engine."""

    def __init__(self, context: ChildContext, link: Channel[ToChild], clock: Clock) -> None:
        self._workspace = context.boot.workspace
        self._revision = context.boot.revision
        self._link = link
        self._clock = clock
        self._bell = Wakeup()
        self._observer = Observer()
        self._places: frozenset[WatchedFolder] = frozenset()
        self._blind: tuple[str, ...] = ()
        self._flurry: ChangeBurst | None = None
        self._requests: list[int] = []
        self._finishing = False

    def serve(self) -> None:
        """Watch until told to finish, or until the kernel is gone."""
        self._observer.start()
        self._look(self._clock.now())
        self._link.send(Ready())
        loop = Loop()
        loop.watch(self._link, self._obey)
        loop.watch(self._bell, self._hear)
        while not (self._finishing or self._link.ended):
            loop.wait(max(0.0, self._flurry.over_at - self._clock.now()) if self._flurry else None)
            now = self._clock.now()
            if self._flurry and now >= self._flurry.over_at:
                self._look(now)

    def _hear(self) -> None:
        self._bell.silence()
        now = self._clock.now()
        self._flurry = ChangeBurst(self._flurry.first if self._flurry else now, now)

    def _obey(self) -> None:
        for message in self._link.receive():
            match message:
                case Finish():
                    self._finishing = True
                case Rescan(request):
                    self._requests.append(request)
                    self._look_soon(self._clock.now())
                case _:
                    logger.error("the kernel sent the watcher a %s", type(message).__name__)
        self._link.flush()

    def _look_soon(self, now: float) -> None:
        self._flurry = ChangeBurst(self._flurry.first if self._flurry else now, now - QUIET_SECONDS)

    def _look(self, now: float) -> None:
        """Compare the files with what is in force; the folders are watched before that, so that no change is missed."""
        self._watch(places(self._workspace, self._revision))
        disk = read_snapshot(self._workspace, self._revision)
        flurry = self._flurry or ChangeBurst(now, now)
        wait = disk.unsettled_seconds(self._clock.stamp().ts / 1000, now - flurry.first, self._revision)
        self._flurry = replace(flurry, not_before=now + wait) if wait else None
        if self._flurry is None:
            for request in self._requests or (None,):
                self._update(disk, now, request)
            self._requests.clear()

    def _update(self, disk: Snapshot, now: float, request: int | None) -> None:
        update = plan_update(self._revision, disk, home=self._workspace.home, request=request)
        if update.is_empty and request is None:
            return
        self._revision = applied(self._revision, update)
        self._link.send(update)
        if update.config:
            self._look_soon(now)  # its senses may lie in folders that are not watched yet

    def _watch(self, wanted: frozenset[WatchedFolder]) -> None:
        if wanted == self._places:
            return
        self._observer.unschedule_all()
        self._places = wanted
        blind = tuple(line for place in sorted(wanted) if (line := self._fail_to_watch(place)))
        if blind != self._blind:
            self._blind = blind
            self._link.send(UnwatchedFolders(blind))

    def _fail_to_watch(self, place: WatchedFolder) -> str | None:
        """Watch a folder; gives a line when the system has no room for that."""
        try:
            self._observer.schedule(self._bell, place.path, recursive=place.recursive, event_filter=_CHANGES)
        except OSError as error:
            logger.warning("can't watch %s: %s", place.path, error.strerror)
            return f"{place.path} ({error.strerror})"
        return None


def places(workspace: Workspace, revision: Revision) -> frozenset[WatchedFolder]:
    """Give the folders in which a change matters: of nerve.yaml, of the senses, and of each sense kept elsewhere."""
    flat = {workspace.home, workspace.config_path.resolve().parent}
    flat |= {Path(sense.path).parent for sense in revision.config.senses.values()}
    deep = workspace.senses_dir.resolve()
    flat |= {folder.resolve() for folder in source_folders(workspace.senses_dir)}  # links may lead elsewhere
    flat = {place for folder in flat if not (place := _nearest(folder)).is_relative_to(deep)}
    return frozenset((*_existing(flat, recursive=False), *_existing({deep}, recursive=True)))


def _existing(folders: Iterable[Path], *, recursive: bool) -> Iterable[WatchedFolder]:
    for folder in folders:
        with suppress(OSError):
            yield WatchedFolder(str(folder), folder.stat().st_ino, recursive)


def _nearest(folder: Path) -> Path:
    """Give the folder itself, or the nearest one above it that is there: in that, its coming will be a change."""
    return next((place for place in (folder, *folder.parents) if place.is_dir()), folder)


def _end_at_once(failure: threading.ExceptHookArgs) -> None:
    """End when a thread of the observer fails: it would be deaf from then on, and the next watcher is not."""
    logger.error("watching failed, and begins anew: %s: %s", failure.exc_type.__name__, failure.exc_value)
    os._exit(1)


def main(context: ChildContext) -> None:
    """Watch until told to finish, or until the kernel is gone (child)."""
    link = bootstrap.enter(context)
    threading.excepthook = _end_at_once
    # A folder that comes and goes quickly is found twice; that is no news, and must not end a thread under -W error.
    warnings.filterwarnings("ignore", message="Callback with id")
    Watcher(context, link, SystemClock()).serve()
