"""The store: the sole importer of peewee. One process writes (LogWriter), everyone reads (LogReader, query_logs)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peewee import SqliteDatabase

    from nerve.store.archive import Archive, ArchiveHost, Filed, PurgeOrder
    from nerve.store.archivedruns import ArchivedRuns
    from nerve.store.asking import open_log, query_logs
    from nerve.store.diskroom import check_room
    from nerve.store.due import DayPlan, oversize, plan
    from nerve.store.filters import Filter, Match, parse_match, parse_matches
    from nerve.store.loggedruns import LoggedRuns
    from nerve.store.manifest import ManifestEntry
    from nerve.store.onelog import WholeLog
    from nerve.store.querying import LogReader
    from nerve.store.sensedb import SenseDatabases
    from nerve.store.shelf import read_manifest
    from nerve.store.statistics import Counting, SenseStatistics, Statistics
    from nerve.store.tracedruns import TracedRun
    from nerve.store.tracing import Bounds, Runs, Trace, trace_run
    from nerve.store.writing import ARCHIVE_RUN, ArchiveRun, LogWriter

_HOMES = {
    "ARCHIVE_RUN": "nerve.store.writing",
    "Archive": "nerve.store.archive",
    "ArchiveHost": "nerve.store.archive",
    "ArchiveRun": "nerve.store.writing",
    "ArchivedRuns": "nerve.store.archivedruns",
    "Bounds": "nerve.store.tracing",
    "Counting": "nerve.store.statistics",
    "DayPlan": "nerve.store.due",
    "Filed": "nerve.store.archive",
    "Filter": "nerve.store.filters",
    "LogReader": "nerve.store.querying",
    "LogWriter": "nerve.store.writing",
    "LoggedRuns": "nerve.store.loggedruns",
    "ManifestEntry": "nerve.store.manifest",
    "Match": "nerve.store.filters",
    "PurgeOrder": "nerve.store.archive",
    "Runs": "nerve.store.tracing",
    "SenseDatabases": "nerve.store.sensedb",
    "SenseStatistics": "nerve.store.statistics",
    "SqliteDatabase": "peewee",
    "Statistics": "nerve.store.statistics",
    "Trace": "nerve.store.tracing",
    "TracedRun": "nerve.store.tracedruns",
    "WholeLog": "nerve.store.onelog",
    "check_room": "nerve.store.diskroom",
    "open_log": "nerve.store.asking",
    "oversize": "nerve.store.due",
    "parse_match": "nerve.store.filters",
    "parse_matches": "nerve.store.filters",
    "plan": "nerve.store.due",
    "query_logs": "nerve.store.asking",
    "read_manifest": "nerve.store.shelf",
    "trace_run": "nerve.store.tracing",
}

__all__ = [
    "ARCHIVE_RUN",
    "Archive",
    "ArchiveHost",
    "ArchiveRun",
    "ArchivedRuns",
    "Bounds",
    "Counting",
    "DayPlan",
    "Filed",
    "Filter",
    "LogReader",
    "LogWriter",
    "LoggedRuns",
    "ManifestEntry",
    "Match",
    "PurgeOrder",
    "Runs",
    "SenseDatabases",
    "SenseStatistics",
    "SqliteDatabase",
    "Statistics",
    "Trace",
    "TracedRun",
    "WholeLog",
    "check_room",
    "open_log",
    "oversize",
    "parse_match",
    "parse_matches",
    "plan",
    "query_logs",
    "read_manifest",
    "trace_run",
]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: `nerve logs` needs no archiver, and has to feel instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nerve.store' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
