"""The store: the sole importer of peewee. One process writes (LogWriter), everyone reads (LogReader, query_logs)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peewee import SqliteDatabase

    from nerve.store.archive.directory import read_manifest
    from nerve.store.archive.export import Archive, ArchiveHost, ExportedFile, PurgeOrder
    from nerve.store.archive.manifest import ManifestEntry
    from nerve.store.archive.retention import DayPlan, oversize, plan
    from nerve.store.disk_space import check_room
    from nerve.store.filters import Filter, Match, parse_match, parse_matches
    from nerve.store.full_log import FullLog
    from nerve.store.provenance.archived_runs import ArchivedRuns
    from nerve.store.provenance.logged_runs import LoggedRuns
    from nerve.store.provenance.trace import RunSource, Trace, TraceLimits, trace_run
    from nerve.store.provenance.traced_run import TracedRun
    from nerve.store.query import iter_logs, open_log, query_logs
    from nerve.store.sense_databases import SenseDatabases
    from nerve.store.statistics import Counting, SenseStatistics, Statistics
    from nerve.store.table.reader import LogReader
    from nerve.store.table.writer import ARCHIVE_RUN, ArchiveRun, LogWriter

_HOMES = {
    "ARCHIVE_RUN": "nerve.store.table.writer",
    "Archive": "nerve.store.archive.export",
    "ArchiveHost": "nerve.store.archive.export",
    "ArchiveRun": "nerve.store.table.writer",
    "ArchivedRuns": "nerve.store.provenance.archived_runs",
    "TraceLimits": "nerve.store.provenance.trace",
    "Counting": "nerve.store.statistics",
    "DayPlan": "nerve.store.archive.retention",
    "ExportedFile": "nerve.store.archive.export",
    "Filter": "nerve.store.filters",
    "LogReader": "nerve.store.table.reader",
    "LogWriter": "nerve.store.table.writer",
    "LoggedRuns": "nerve.store.provenance.logged_runs",
    "ManifestEntry": "nerve.store.archive.manifest",
    "Match": "nerve.store.filters",
    "PurgeOrder": "nerve.store.archive.export",
    "RunSource": "nerve.store.provenance.trace",
    "SenseDatabases": "nerve.store.sense_databases",
    "SenseStatistics": "nerve.store.statistics",
    "SqliteDatabase": "peewee",
    "Statistics": "nerve.store.statistics",
    "Trace": "nerve.store.provenance.trace",
    "TracedRun": "nerve.store.provenance.traced_run",
    "FullLog": "nerve.store.full_log",
    "check_room": "nerve.store.disk_space",
    "iter_logs": "nerve.store.query",
    "open_log": "nerve.store.query",
    "oversize": "nerve.store.archive.retention",
    "parse_match": "nerve.store.filters",
    "parse_matches": "nerve.store.filters",
    "plan": "nerve.store.archive.retention",
    "query_logs": "nerve.store.query",
    "read_manifest": "nerve.store.archive.directory",
    "trace_run": "nerve.store.provenance.trace",
}

__all__ = [
    "ARCHIVE_RUN",
    "Archive",
    "ArchiveHost",
    "ArchiveRun",
    "ArchivedRuns",
    "Counting",
    "DayPlan",
    "ExportedFile",
    "Filter",
    "FullLog",
    "LogReader",
    "LogWriter",
    "LoggedRuns",
    "ManifestEntry",
    "Match",
    "PurgeOrder",
    "RunSource",
    "SenseDatabases",
    "SenseStatistics",
    "SqliteDatabase",
    "Statistics",
    "Trace",
    "TraceLimits",
    "TracedRun",
    "check_room",
    "iter_logs",
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
