"""Notices changes on disk: which folders are watched, and which of the system's events matter (watcher)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog import events as watchdog
from watchdog.observers import Observer

from nerve.events.payload import printable
from nerve.reload.codebase import MAX_FOLDERS, source_folders
from nerve.reload.revision import Revision
from nerve.workspace import CONFIG_NAME, Workspace

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, ObservedWatch

_NAME_EVENTS: list[type[watchdog.FileSystemEvent]] = [
    watchdog.DirCreatedEvent,
    watchdog.DirDeletedEvent,
    watchdog.DirMovedEvent,
    watchdog.FileClosedEvent,
    watchdog.FileCreatedEvent,
    watchdog.FileDeletedEvent,
    watchdog.FileMovedEvent,
]
"""Events of names, and of files that have been written and closed."""

_WRITE_EVENTS: list[type[watchdog.FileSystemEvent]] = [*_NAME_EVENTS, watchdog.FileModifiedEvent]
"""The same, and each single write; all but those of reading, which the watcher itself would cause."""


@dataclass(frozen=True, slots=True, order=True)
class WatchedFolder:
    """A folder to watch; a different folder at the same path, such as after a checkout, has another inode.

    Without `writes`, a file that is written counts as changed only when it is closed: one that grows there, such as the
    output of `nerve start > nerve.log`, must not wake the watcher at every line.
    """

    path: str
    inode: int
    recursive: bool = False
    writes: bool = True


def folders_to_watch(workspace: Workspace, revision: Revision) -> frozenset[WatchedFolder]:
    """Return the folders in which a change matters: of nerve.yaml, of the senses, and of each file kept elsewhere."""
    senses = workspace.senses_dir.resolve()
    shared = {workspace.home, workspace.config_path.resolve().parent} - {senses}
    inner = _folders_of(workspace)
    linked = {link.resolve().parent for folder in inner for link in _links_in(folder) if link.suffix == ".py"}
    others = {Path(sense.path).parent for sense in revision.config.senses.values()} | linked
    others |= {folder.resolve() for folder in inner}  # a link may lead out of `senses`
    others = {nearest for folder in others if not (nearest := _nearest_existing(folder)).is_relative_to(senses)}
    return frozenset(
        (
            *_watched(shared, writes=False),
            *_watched(others - shared),
            *_watched({senses}, recursive=True),
        )
    )


def _watched(paths: Iterable[Path], *, recursive: bool = False, writes: bool = True) -> Iterator[WatchedFolder]:
    for path in paths:
        with suppress(OSError):
            yield WatchedFolder(str(path), path.stat().st_ino, recursive, writes)


def _nearest_existing(folder: Path) -> Path:
    """Return the folder, or its nearest existing parent, in which creating it will be a change."""
    return next((place for place in (folder, *folder.parents) if place.is_dir()), folder)


def _folders_of(workspace: Workspace) -> list[Path]:
    """Return the senses' folder and its subfolders; only itself if they are too many, which is reported elsewhere."""
    folders = list(islice(source_folders(workspace.senses_dir), MAX_FOLDERS + 1))
    return folders if len(folders) <= MAX_FOLDERS else [workspace.senses_dir]


def _links_in(folder: Path) -> Iterator[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        yield from (Path(entry.path) for entry in entries if entry.is_symlink())


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """Decides which events can change what a snapshot reads; all other files in the watched folders cost nothing.

    `names` are the file names that matter besides `*.py`, and `links` the paths of the symbolic links: a link of any
    name may lead to a folder of senses.
    """

    names: frozenset[str] = frozenset({CONFIG_NAME})
    links: frozenset[str] = frozenset()

    @classmethod
    def of(cls, workspace: Workspace, revision: Revision, watched: Iterable[WatchedFolder]) -> ChangeFilter:
        """Return the filter for the files as they are now."""
        names = {CONFIG_NAME, workspace.config_path.resolve().name, workspace.senses_dir.name}
        names |= {Path(sense.path).name for sense in revision.config.senses.values()}
        folders = {*(Path(folder.path) for folder in watched), *map(Path.resolve, _folders_of(workspace))}
        return cls(frozenset(names), frozenset(str(link) for folder in folders for link in _links_in(folder)))

    def matters(self, event: watchdog.FileSystemEvent) -> bool:
        """Return True if the files have to be read because of this event."""
        if event.is_directory:
            return True
        is_write = isinstance(event, (watchdog.FileModifiedEvent, watchdog.FileClosedEvent))
        paths = (os.fsdecode(path) for path in (event.src_path, event.dest_path) if path)
        return any(self._names(path) or (not is_write and self._is_link(path)) for path in paths)

    def _names(self, path: str) -> bool:
        name = path.rpartition(os.sep)[2]
        return name.endswith(".py") or name in self.names

    def _is_link(self, path: str) -> bool:
        return path in self.links or Path(path).is_symlink()


class Wakeup(watchdog.FileSystemEventHandler):
    """Wakes the main thread's event loop when something has changed; it never blocks the observer's thread."""

    def __init__(self) -> None:
        self.filter = ChangeFilter()
        self._receiver, self._sender = socket.socketpair()
        self._receiver.settimeout(0)
        self._sender.settimeout(0)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._receiver.fileno()

    def on_any_event(self, event: watchdog.FileSystemEvent) -> None:
        """Wake the loop if the event matters (called in the observer's thread)."""
        if self.filter.matters(event):
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


class FileWatch:
    """Watches folders as far as the system allows it; `unwatched` has one line, with the reason, for each other one."""

    def __init__(self, workspace: Workspace) -> None:
        self.wakeup = Wakeup()
        self.unwatched: tuple[str, ...] = ()
        self._workspace = workspace
        self._observer: BaseObserver | None = None
        self._watches: dict[WatchedFolder, ObservedWatch] = {}

    @property
    def folders(self) -> frozenset[WatchedFolder]:
        """The folders that are watched."""
        return frozenset(self._watches)

    def follow(self, revision: Revision) -> None:
        """Watch what the revision asks for, and nothing else; what has been refused before is tried again."""
        wanted = folders_to_watch(self._workspace, revision)
        self.wakeup.filter = ChangeFilter.of(self._workspace, revision, wanted)
        blind = self._start()
        if self._observer is None:
            self.unwatched = (f"{printable(str(self._workspace.home))} and its senses ({blind})",)
            return
        # A thread ends with the folder that it watches; a new folder at that path may have the same inode.
        ended = {emitter.watch for emitter in self._observer.emitters if not emitter.is_alive()}
        for folder, watch in list(self._watches.items()):
            if folder not in wanted or watch in ended:
                self._observer.unschedule(self._watches.pop(folder))
        missing = sorted(wanted - self._watches.keys())
        self.unwatched = tuple(line for folder in missing if (line := self._watch(self._observer, folder)))

    def close(self) -> None:
        """Stop watching; may be called twice."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None
        self.wakeup.close()

    def _start(self) -> str | None:
        """Start the observer unless it runs; return the reason if the system has no room for one."""
        if self._observer is None:
            try:
                observer = Observer()
                observer.start()
            except (OSError, RuntimeError) as error:  # no inotify instance, descriptor or thread is left
                return _reason(error)
            self._observer = observer
        return None

    def _watch(self, observer: BaseObserver, folder: WatchedFolder) -> str | None:
        """Watch a folder; return a line with the reason if the system refuses, such as at the inotify limit."""
        events = _WRITE_EVENTS if folder.writes else _NAME_EVENTS
        try:
            self._watches[folder] = observer.schedule(
                self.wakeup, folder.path, recursive=folder.recursive, event_filter=events
            )
        except (OSError, RuntimeError) as error:
            return f"{printable(folder.path)} ({_reason(error)})"
        return None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
