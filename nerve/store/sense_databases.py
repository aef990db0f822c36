"""The databases that senses keep for themselves, and what a compute may read; opened in a worker, after the fork."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from peewee import SqliteDatabase

from nerve.clock import Moment
from nerve.errors import StoreError
from nerve.events.model import Log
from nerve.store.query import query_logs
from nerve.workspace import Workspace

BUSY_SECONDS = 5


class SenseDatabases:
    """Opens what a run asks for, and closes all of it when the run has ended."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._open: dict[tuple[str, bool], SqliteDatabase] = {}

    def query_logs(
        self,
        *,
        source: str | None,
        type: str | None,
        ref_id: str | None,
        sense: str | None,
        since: Moment | None,
        until: Moment | None,
        errors: bool,
        limit: int | None,
        archived: bool,
    ) -> list[Log]:
        """Query the log, read-only."""
        return query_logs(
            self._workspace.logs_db,
            source=source,
            type=type,
            ref_id=ref_id,
            sense=sense,
            since=since,
            until=until,
            errors=errors,
            limit=limit,
            archived=archived,
        )

    def own(self, sense: str) -> SqliteDatabase:
        """Open the sense's own database; it is made at first use."""
        path = self._workspace.sense_db(sense)
        return self._opened(sense, own=True, source=str(path), pragmas={"journal_mode": "wal"})

    def peer(self, sense: str) -> SqliteDatabase:
        """Open another sense's database, read-only; StoreError when it has none."""
        path = self._workspace.sense_db(sense)
        if path.parent != self._workspace.sense_db("x").parent or not path.is_file():
            raise StoreError(f"the sense {sense!r} has no database: it makes one by using `ctx.db`")
        return self._opened(sense, own=False, source=_read_only(path), pragmas={})

    @property
    def in_use(self) -> bool:
        """The run has opened a database."""
        return bool(self._open)

    def close(self) -> None:
        """Close what the run has opened: an unfinished transaction is rolled back, and holds up nobody."""
        for database in self._open.values():
            if not database.is_closed():
                database.close()
        self._open.clear()

    def _opened(self, sense: str, *, own: bool, source: str, pragmas: dict[str, str]) -> SqliteDatabase:
        database = self._open.get((sense, own))
        if database is None:
            database = SqliteDatabase(source, pragmas=pragmas, timeout=BUSY_SECONDS, uri=not own)
            self._open[sense, own] = database
        return database


def _read_only(path: Path) -> str:
    return f"file:{quote(str(path))}?mode=ro"
