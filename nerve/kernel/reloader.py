"""Putting updates from the watcher in force, and recording them; in the kernel."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count

from nerve.clock import Clock
from nerve.config.diff import changes
from nerve.control.protocol import Answer, Refused, Reloaded
from nerve.events import catalog
from nerve.events.model import LogEvent
from nerve.kernel.recorder import Recorder
from nerve.processes.child import Boot
from nerve.processes.messages import Rescan
from nerve.processes.services import Service
from nerve.reload.revision import Revision
from nerve.reload.update import Update, applied, unpacked


class Reloader:
    """Keeps what is in force. `follow` is told what was and what is, before anything else runs."""

    def __init__(
        self,
        boot: Boot,
        watcher: Service,
        recorder: Recorder,
        clock: Clock,
        follow: Callable[[Revision, Revision], None],
        pinned_workers: int | None,
    ) -> None:
        self.revision = boot.revision
        self._boot_id = boot.boot_id
        self._home = boot.workspace.home
        self._watcher = watcher
        self._recorder = recorder
        self._clock = clock
        self._follow = follow
        self._pinned_workers = pinned_workers
        self._numbers = count(1)
        self._waiting: dict[int, Answer] = {}
        self._blind: tuple[str, ...] = ()

    def ask(self, answer: Answer) -> None:
        """Have the watcher look at all files now; `answer` is told what came of it."""
        if self._watcher.child is None or not self._watcher.ready or self._watcher.finishing:
            answer(Refused("the watcher is not there: see `nerve status`"))
            return
        number = next(self._numbers)
        self._waiting[number] = answer
        self._watcher.child.send(Rescan(number))

    def take(self, update: Update) -> None:
        """Put an update in force. The log has it before any run that goes by it."""
        before, self.revision = self.revision, applied(self.revision, update)
        if not update.is_empty:
            self._recorder.submit(self._recorded(before, update))
            self._follow(before, self.revision)
        answer = self._waiting.pop(update.request, None) if update.request else None
        if answer:
            answer(Reloaded(self._changes(before), tuple(unpacked(update)), self.revision.problems))

    def watcher_died(self, reason: str) -> None:
        """Tell those who waited for the watcher that it is gone."""
        for answer in self._waiting.values():
            answer(Refused(f"the watcher died ({reason}): ask again"))
        self._waiting.clear()
        self._blind = ()

    def cannot_see(self, folders: tuple[str, ...]) -> None:
        """Note in which folders the watcher notices no change."""
        self._blind = folders

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the files, and where a change to them would not be noticed; one line each."""
        unseen = (f"changes in {folder} are not noticed: use `nerve reload` after one" for folder in self._blind)
        return (*self.revision.problems, *unseen)

    def _changes(self, before: Revision) -> tuple[str, ...]:
        return changes(before.config, self.revision.config, self._pinned_workers)

    def _relative(self, digests: dict[str, str]) -> dict[str, str]:
        return {os.path.relpath(path, self._home): digest for path, digest in digests.items()}

    def _recorded(self, before: Revision, update: Update) -> list[LogEvent]:
        now = self._clock.stamp()
        recorded = []
        if update.problems:
            recorded.append(catalog.config_refused(now, self._boot_id, update.problems))
        if update.config:
            recorded.append(catalog.config_reload(now, self._boot_id, self._changes(before)))
        versions = unpacked(update)
        for sense, line in update.broken.items():
            # One that is new has no version before: its runs go by the broken one, and fail.
            digest = versions[sense].digest if sense in versions else None
            recorded.append(catalog.sense_refused(now, sense, line, digest))
        return recorded + [
            catalog.sense_reload(now, sense, digest=version.digest, files=self._relative(version.digests))
            for sense, version in versions.items()
            if sense not in update.broken
        ]
