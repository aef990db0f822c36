"""The store: the sole importer of peewee. One process writes (LogWriter), everyone reads (LogReader, query_logs)."""

from __future__ import annotations

from peewee import SqliteDatabase

from nerve.store.archive import Archive, DayPlan, PurgeOrder, plan
from nerve.store.asking import open_log, query_logs
from nerve.store.filters import Filter, Match, parse_match, parse_matches
from nerve.store.manifest import ManifestEntry
from nerve.store.onelog import WholeLog
from nerve.store.querying import LogReader
from nerve.store.sensedb import SenseDatabases
from nerve.store.shelf import read_manifest
from nerve.store.writing import LogWriter

__all__ = [
    "Archive",
    "DayPlan",
    "Filter",
    "LogReader",
    "LogWriter",
    "ManifestEntry",
    "Match",
    "PurgeOrder",
    "SenseDatabases",
    "SqliteDatabase",
    "WholeLog",
    "open_log",
    "parse_match",
    "parse_matches",
    "plan",
    "query_logs",
    "read_manifest",
]
