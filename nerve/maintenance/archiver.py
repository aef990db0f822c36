"""One run of the archiver, with or without an engine: what it records and which problems it reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import chain

import msgspec

from nerve.clock import Clock, SystemClock
from nerve.config.logs_section import LogsConfig
from nerve.errors import NoRoomError, StoreError
from nerve.events import catalog
from nerve.events.model import ErrorDetail, ErrorKind, LogEvent
from nerve.ipc.progress import Archived, ArchiveProgress
from nerve.reload.code_store import CodeStore
from nerve.store.archive.export import Archive, ArchiverBackend, ExportedFile
from nerve.store.archive.order_messages import Conclude, Order, Purge, Record, Vacuum
from nerve.store.archive.retention import oversize
from nerve.store.disk_space import check_room
from nerve.store.filters import Filter, Match
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import ARCHIVE_RUN, ArchiveRun, LogWriter
from nerve.store.utc_days import day_of
from nerve.units import format_size
from nerve.workspace import Workspace

VACUUM_PAGES = 4_096
"""Pages returned to the file system per transaction while no engine runs."""

CODE_SECONDS = 86_400.0
"""How long unused code is kept at least, in seconds, however short the retention is."""


class Archiver:
    """Does runs of the archiver; a problem that several runs in a row have is recorded once."""

    def __init__(self, workspace: Workspace, backend: ArchiverBackend, clock: Clock) -> None:
        self._db = workspace.logs_db
        self._backend = backend
        self._clock = clock
        self._archive = Archive(workspace.archive_dir, self._db, backend, lambda reason: self._note("archive", reason))
        self._code = CodeStore(workspace.code_dir)
        self._recorded: frozenset[str] = frozenset()
        self.problems: tuple[str, ...] = ()
        """The problems of the last run, one sentence each."""

    def run(self, logs: LogsConfig, *, vacuum: bool) -> Archived:
        """Do one run; a failure is recorded, and the next run continues from there."""
        files = rows = 0
        early: list[str] = []
        self.problems = ()
        try:
            for exported in chain(self._archive.unrecorded(), self._archive.run_once(self._clock.stamp().ts, logs)):
                self._record(exported)
                files, rows = files + 1, rows + exported.entry.rows
                early += [exported.entry.day] if exported.reason == "max_size" else []
            self._backend.execute(Conclude(0, self._clock.stamp().ts, files, rows))
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

    def _record(self, exported: ExportedFile) -> None:
        entry, number, reason = exported
        event = catalog.archive(
            self._clock.stamp(), entry.day, rows=entry.rows, file=entry.file, sha256=entry.sha256, reason=reason
        )
        self._backend.execute(Record(0, event, number))

    def _note_early(self, days: Sequence[str]) -> None:
        """Report the days that were archived early because of the log's size; the entry of each file records it."""
        if days:
            which = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
            early = f"archived before the retention was over, because the log was larger than logs.max_size: {which}"
            self.problems += (early,)
            self._backend.warn(early)

    def _note_oversize(self, logs: LogsConfig) -> None:
        with LogReader(self._db) as reader:
            if oversize(reader, logs):
                why = "the rest is of today, or of runs that are not complete; raise it, or log less"
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
            self._backend.execute(Vacuum(0))

    def _note(self, kind: ErrorKind, message: str, *, again: bool = False) -> None:
        """Report a problem, and record it unless the last run had the same one (and not `again`)."""
        self.problems += (message,)
        if again or message not in self._recorded:
            self._recorded |= {message}
            self._backend.warn(message)
            self._backend.record(catalog.error(self._clock.stamp(), "archiver", ErrorDetail(kind, message)))


class DirectBackend:
    """Writes the log itself, while no engine runs: the caller holds the workspace's lock."""

    def __init__(self, writer: LogWriter, progressed: Callable[[ArchiveProgress], None]) -> None:
        self._writer = writer
        self.progressed = progressed

    def record(self, event: LogEvent) -> None:
        """Append an event."""
        self._writer.append([event], {})

    def execute(self, order: Order) -> int:
        """Carry out an order at once, in one transaction (Conclude: and several for the unused space)."""
        match order:
            case Record(event=event, number=number):
                self._writer.record_file(event, number)
            case Purge():
                return self._writer.purge_chunk(order.day, order.last_id, order.most, order.open_runs)
            case Vacuum():
                self._writer.vacuum()
            case Conclude():
                self._writer.note_archive_run(order)
                while self._writer.incremental_vacuum(VACUUM_PAGES):
                    pass
        return 0

    def warn(self, problem: str) -> None:
        """Do nothing: the caller gets all problems of the run with its outcome."""


def archive_alone(
    workspace: Workspace, logs: LogsConfig, progressed: Callable[[ArchiveProgress], None], *, vacuum: bool
) -> Archived:
    """Do one run while no engine is running; the caller holds the workspace's lock, so this process may write."""
    clock = SystemClock()
    with closing(LogWriter.open(workspace.logs_db, clock)) as writer:
        return Archiver(workspace, DirectBackend(writer, progressed), clock).run(logs, vacuum=vacuum)


def last_run(reader: LogReader) -> ArchiveRun | None:
    """Return the archiver's last run as the log remembers it, or None before the first. Raises StoreError."""
    text = reader.meta(ARCHIVE_RUN)
    try:
        return None if text is None else msgspec.json.decode(text, type=ArchiveRun)
    except msgspec.DecodeError as why:
        raise StoreError(f"the log has a damaged {ARCHIVE_RUN} in its table meta ({why}): {text!r}") from None


def archived_up_to(reader: LogReader) -> str | None:
    """Return the last UTC day with rows that were archived and deleted, or None before the first."""
    watermark = reader.meta("watermark_ts")
    return day_of(int(watermark) - 1) if watermark else None
