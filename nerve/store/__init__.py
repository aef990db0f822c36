"""The store: the sole importer of peewee. One process writes (LogWriter), everyone reads (LogReader, query_logs)."""

from __future__ import annotations

from peewee import SqliteDatabase

from nerve.store.archive import Archive, ArchiveHost, Filed, PurgeOrder
from nerve.store.asking import open_log, query_logs
from nerve.store.diskroom import check_room
from nerve.store.due import DayPlan, oversize, plan
from nerve.store.filters import Filter, Match, parse_match, parse_matches
from nerve.store.manifest import ManifestEntry
from nerve.store.onelog import WholeLog
from nerve.store.querying import LogReader
from nerve.store.sensedb import SenseDatabases
from nerve.store.shelf import read_manifest
from nerve.store.writing import ARCHIVE_RUN, ArchiveRun, LogWriter

__all__ = [
    "ARCHIVE_RUN",
    "Archive",
    "ArchiveHost",
    "ArchiveRun",
    "DayPlan",
    "Filed",
    "Filter",
    "LogReader",
    "LogWriter",
    "ManifestEntry",
    "Match",
    "PurgeOrder",
    "SenseDatabases",
    "SqliteDatabase",
    "WholeLog",
    "check_room",
    "open_log",
    "oversize",
    "parse_match",
    "parse_matches",
    "plan",
    "query_logs",
    "read_manifest",
]
