"""One run of the archiver, in an engine or without one: what is recorded of it, and what a person should hear."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import Protocol

import msgspec

from nerve.clock import Clock, SystemClock
from nerve.config.logs_section import LogsConfig
from nerve.errors import NoRoomError, StoreError
from nerve.events import catalog
from nerve.events.model import ErrorDetail, ErrorKind, LogEvent
from nerve.ipc.progress import ArchiveProgress
from nerve.processes.messages import Archived
from nerve.reload.code_store import CodeStore
from nerve.store import (
    ARCHIVE_RUN,
    Archive,
    ArchiveRun,
    ExportedFile,
    Filter,
    LogReader,
    LogWriter,
    Match,
    PurgeOrder,
    check_room,
    oversize,
)
from nerve.store.utc_days import day_of
from nerve.units import format_size
from nerve.workspace import Workspace

PURGE_ROWS = 5_000
VACUUM_PAGES = 4_096
"""How much at once while nobody else wants to write; each chunk of rows is a transaction."""


CODE_SECONDS = 86_400.0
"""How long code is kept at least that is not used, however short the retention is."""


class ArchiverBackend(Protocol):
    """Who may write the log: each of these may raise StoreError, and what else it raises ends the run as well."""

    def record(self, event: LogEvent) -> None:
        """Append an event."""

    def record_file(self, event: LogEvent, number: int) -> None:
        """Append the event of the archive's file with this number, unless that has been done."""

    def purge(self, order: PurgeOrder) -> Iterator[int]:
        """Delete archived rows, and give the number of each chunk that has gone."""

    def conclude(self, run: ArchiveRun) -> None:
        """Remember a run, and give back the space that it has left unused."""

    def vacuum(self) -> None:
        """Rebuild the file."""

    def progressed(self, progress: ArchiveProgress) -> None:
        """Hear how far the run is."""

    def warn(self, problem: str) -> None:
        """Hear of something that a person should know, in one line, when it is new."""


class Archiver:
    """Does runs of the archiver; what goes wrong in several of them is recorded once."""

    def __init__(self, workspace: Workspace, owner: ArchiverBackend, clock: Clock) -> None:
        self._db = workspace.logs_db
        self._owner = owner
        self._clock = clock
        self._archive = Archive(workspace.archive_dir, self._db, self)
        self._code = CodeStore(workspace.code_dir)
        self._recorded: frozenset[str] = frozenset()
        self.problems: tuple[str, ...] = ()
        """What a person should hear of the last run, each a sentence."""

    def run(self, logs: LogsConfig, *, vacuum: bool) -> Archived:
        """Do one run; what fails is recorded, and the next run goes on from there."""
        files = rows = 0
        early: list[str] = []
        self.problems = ()
        try:
            for filed in chain(self._archive.unrecorded(), self._archive.run_once(self._clock.stamp().ts, logs)):
                self._record(filed)
                files, rows = files + 1, rows + filed.entry.rows
                early += [filed.entry.day] if filed.reason == "max_size" else []
            self._owner.conclude(ArchiveRun(self._clock.stamp().ts, files, rows))
            self._note_early(early)
            self._note_oversize(logs)
            self._prune_code(logs)
            if vacuum:
                self._vacuum()
        except StoreError as error:
            self._note("archive", str(error), again=True)
            return Archived(files, rows, str(error), self.problems[:-1])
        self._recorded = self._recorded.intersection(self.problems)
        return Archived(files, rows, notes=self.problems)

    def purge(self, order: PurgeOrder) -> Iterator[int]:
        """Have archived rows deleted."""
        return self._owner.purge(order)

    def progressed(self, progress: ArchiveProgress) -> None:
        """Pass on how far the run is."""
        self._owner.progressed(progress)

    def refused(self, reason: str) -> None:
        """Hear of a file that is none of the archive."""
        self._note("archive", reason)

    def _record(self, filed: ExportedFile) -> None:
        entry, number, reason = filed
        event = catalog.archive(
            self._clock.stamp(), entry.day, rows=entry.rows, file=entry.file, sha256=entry.sha256, reason=reason
        )
        self._owner.record_file(event, number)

    def _note_early(self, days: Sequence[str]) -> None:
        """Say it where days had to go for the size of the log; that is recorded with each of them."""
        if days:
            which = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
            early = f"archived before the retention was over, as the log was larger than logs.max_size: {which}"
            self.problems += (early,)
            self._owner.warn(early)

    def _note_oversize(self, logs: LogsConfig) -> None:
        with LogReader(self._db) as reader:
            if oversize(reader, logs):
                why = "what is left is of today, or of runs that are not complete; raise it, or log less"
                self._note("disk", f"the log is larger than logs.max_size ({format_size(logs.max_size or 0)}): {why}")

    def _prune_code(self, logs: LogsConfig) -> None:
        """Remove the code that no run in the log has, once nobody has used it for the retention, or a day."""
        old = self._code.unused_since(self._clock.stamp().ts / 1000 - max(logs.retention, CODE_SECONDS))
        if old:
            runs = Filter("reflex", "run_start", matches=(Match("payload.digest", "=", tuple(old)),))
            with LogReader(self._db, keep_damaged=True) as reader:
                used = {str(run.payload["digest"]) for run in reader.stream(runs) if isinstance(run.payload, dict)}
            self._code.prune(old, used)

    def _vacuum(self) -> None:
        try:
            with LogReader(self._db) as reader:
                check_room(reader.live_bytes(), self._db.parent)
        except NoRoomError as why:
            self._note("disk", str(why), again=True)
        else:
            self._owner.vacuum()

    def _note(self, kind: ErrorKind, message: str, *, again: bool = False) -> None:
        """Note what a person should hear; it is recorded unless the last run has had to say the same."""
        self.problems += (message,)
        if again or message not in self._recorded:
            self._recorded |= {message}
            self._owner.warn(message)
            self._owner.record(catalog.error(self._clock.stamp(), "archiver", ErrorDetail(kind, message)))


class DirectBackend:
    """The owner of the log while no engine runs: the caller holds the workspace's lock."""

    def __init__(self, writer: LogWriter, progressed: Callable[[ArchiveProgress], None]) -> None:
        self._writer = writer
        self.progressed = progressed

    def record(self, event: LogEvent) -> None:
        """Append an event."""
        self._writer.append([event], {})

    def record_file(self, event: LogEvent, number: int) -> None:
        """Append the event of a file, unless that has been done."""
        self._writer.record_file(event, number)

    def purge(self, order: PurgeOrder) -> Iterator[int]:
        """Delete archived rows, a chunk at a time."""
        deleted = PURGE_ROWS
        while deleted == PURGE_ROWS:
            deleted = self._writer.purge_chunk(order.day, order.last_id, PURGE_ROWS, order.open_runs)
            yield deleted

    def conclude(self, run: ArchiveRun) -> None:
        """Remember a run, and give back the space that it has left unused."""
        self._writer.note_archive_run(run)
        while self._writer.incremental_vacuum(VACUUM_PAGES):
            pass

    def vacuum(self) -> None:
        """Rebuild the file."""
        self._writer.vacuum()

    def warn(self, problem: str) -> None:
        """Keep it to oneself: who asked for the run is given all of its problems in the end."""


def archive_alone(
    workspace: Workspace, logs: LogsConfig, progressed: Callable[[ArchiveProgress], None], *, vacuum: bool
) -> Archived:
    """Do one run while no engine is running; the caller holds the workspace's lock, and is the writer for once."""
    clock = SystemClock()
    with closing(LogWriter.open(workspace.logs_db, clock)) as writer:
        return Archiver(workspace, DirectBackend(writer, progressed), clock).run(logs, vacuum=vacuum)


def last_run(reader: LogReader) -> ArchiveRun | None:
    """Give the last run of the archiver that the log remembers; None before the first."""
    text = reader.meta(ARCHIVE_RUN)
    try:
        return None if text is None else msgspec.json.decode(text, type=ArchiveRun)
    except msgspec.DecodeError as why:
        raise StoreError(f"the log has a damaged {ARCHIVE_RUN} in its table meta ({why}): {text!r}") from None


def archived_up_to(reader: LogReader) -> str | None:
    """Give the last UTC day that rows have been deleted of, being archived; None before the first."""
    watermark = reader.meta("watermark_ts")
    return day_of(int(watermark) - 1) if watermark else None
