"""Hot reload in the kernel: makes the watcher's updates the active revision, records them, and answers `nerve reload`.

The kernel and the watcher each compute the next revision from the same delta: the watcher plans its next update against
it, and a copy sent back by the kernel would arrive too late for that. This object has the kernel's only reference that
counts: a child forked later inherits it, and the dispatcher is handed each new one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import count
from typing import NamedTuple

from nerve.clock import Clock
from nerve.config.diff import changes
from nerve.control.protocol import Answer, Refused, Reloaded
from nerve.errors import first_lines
from nerve.events import catalog
from nerve.events.model import LogEvent
from nerve.kernel.recorder import Recorder
from nerve.processes.child import Boot
from nerve.processes.messages import Rescan
from nerve.processes.services import Service
from nerve.reload.revision import Delta, Revision
from nerve.reload.update import Update

_RECORDED_PROBLEMS = 100
"""Problems of nerve.yaml that are recorded; with thousands the entry would be too large."""


class RevisionChange(NamedTuple):
    """The active revision before and after an update."""

    before: Revision
    after: Revision


class Reloader:
    """Holds the active revision; `pinned_workers` is the number of workers if nerve.yaml doesn't decide it."""

    def __init__(
        self, boot: Boot, watcher: Service, recorder: Recorder, clock: Clock, pinned_workers: int | None
    ) -> None:
        self.revision = boot.revision
        self._boot_id = boot.boot_id
        self._home = boot.workspace.home
        self._watcher = watcher
        self._recorder = recorder
        self._clock = clock
        self._pinned_workers = pinned_workers
        self._request_ids = count(1)
        self._waiting: dict[int, Answer] = {}
        self._unwatched: tuple[str, ...] = ()

    def ask(self, answer: Answer) -> None:
        """Have the watcher read all files now; `answer` is called with the result, or at once with a refusal."""
        request = next(self._request_ids)
        if self._watcher.request(Rescan(request)):
            self._waiting[request] = answer
        else:
            answer(Refused("the watcher is not running; see `nerve status`"))

    def apply(self, update: Update) -> RevisionChange | None:
        """Activate an update, record it and answer its request; return the change, or None if nothing changes.

        The kernel applies the change after that: so the log has it before any run that it leads to.
        """
        delta = update.unpack()
        before, after = self.revision, self.revision.apply(delta)
        lines = changes(before.config, after.config, self._pinned_workers)
        if not delta.is_empty:
            self.revision = after
            self._recorder.submit(self._events(delta, lines))
        answer = self._waiting.pop(update.request, None) if update.request else None
        if answer:
            answer(Reloaded(lines, tuple(delta.versions), after.problems))
        return None if delta.is_empty else RevisionChange(before, after)

    def watcher_died(self, reason: str) -> None:
        """Refuse the requests that wait for the watcher; its successor reports unwatched folders again."""
        for answer in self._waiting.values():
            answer(Refused(f"the watcher died ({reason}): try again"))
        self._waiting.clear()
        self._unwatched = ()

    def set_unwatched(self, folders: tuple[str, ...]) -> None:
        """Remember the folders in which the watcher can't detect changes."""
        self._unwatched = folders

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems of the files, and the folders where changes go undetected; one line each."""
        hint = "are not detected: run `nerve reload` after one"
        return (*self.revision.problems, *(f"changes in {folder} {hint}" for folder in self._unwatched))

    def _events(self, delta: Delta, config_changes: tuple[str, ...]) -> list[LogEvent]:
        now = self._clock.stamp()
        events = []
        if delta.config_problems:
            problems = first_lines(delta.config_problems, _RECORDED_PROBLEMS)
            events.append(catalog.config_refused(now, self._boot_id, problems))
        if delta.config:
            events.append(catalog.config_reload(now, self._boot_id, config_changes))
        for sense, line in delta.broken.items():
            # A new sense has no earlier version: its runs use the broken one, and fail, so its digest is recorded.
            digest = delta.versions[sense].digest if sense in delta.versions else None
            events.append(catalog.sense_refused(now, sense, line, digest))
        for sense, version in delta.versions.items():
            if sense not in delta.broken:
                files = self._relative(version.digests)
                events.append(catalog.sense_reload(now, sense, digest=version.digest, files=files))
        return events

    def _relative(self, digests: Mapping[str, str]) -> dict[str, str]:
        return {os.path.relpath(path, self._home): digest for path, digest in digests.items()}
