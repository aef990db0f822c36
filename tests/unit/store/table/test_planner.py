"""The planner: SQL is rendered once per shape of a filter, without values."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import peewee
import pytest

from nerve.store.filters import Filter, parse_matches
from nerve.store.schema import named_sql
from nerve.store.table.planner import Statement, select_entries, select_ids
from nerve.store.table.table_stats import Pair, Period, TableStats
from nerve.store.table.writer import LogWriter

STATS = TableStats((Pair("a", "b"), Pair("c", "d")), Period(3, 900, 4))

ONE = Filter(
    "a", "b", "c", "d", 1, 2, 3, 4, 5, errors=True, matches=parse_matches(["ref!=e", "payload.f~=g", "type=h"])
)
OTHER = Filter(
    "k", "l", "m", "n", 5, 6, 7, 8, 9, errors=True, matches=parse_matches(["ref!=o", "payload.p~=q", "type=r"])
)


def selected(filter: Filter, stats: TableStats) -> list[Statement]:
    """Return all statements for a filter."""
    statements = [
        select_entries(filter, stats),
        select_ids(filter, stats, newest=True),
        select_ids(filter, stats, newest=False),
    ]
    return [statement for statement in statements if statement]


NARROWER = [
    {},
    {"ref_id": None},
    {"ref_id": None, "errors": False},
    {"ref_id": None, "errors": False, "sense": None},
    {"source": None, "type": None, "limit": None},
    {"since": None, "until_id": None},
]


@pytest.mark.parametrize("stats", [STATS, replace(STATS, period=None), TableStats()])
@pytest.mark.parametrize("without", NARROWER, ids=repr)
def test_filters_of_one_shape_share_their_sql(
    db: Path, writer: LogWriter, without: dict[str, None], stats: TableStats
) -> None:
    """All values are named parameters, and SQLite accepts each statement."""
    one, other = selected(replace(ONE, **without), stats), selected(replace(OTHER, **without), stats)
    assert len(one) == 3
    assert [statement.sql for statement in one] == [statement.sql for statement in other]
    assert all(mine.values != others.values for mine, others in zip(one, other, strict=True))
    connection = sqlite3.connect(db)
    connection.create_function("nerve_match", 2, lambda _match, _column: True)
    assert [connection.execute(*statement).fetchall() for statement in one] == [[], [], []]
    connection.close()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Filter(ref_id="a"), Filter(matches=parse_matches(["ref=a", "ref=b"]))),
        (Filter(since=1), Filter(until=1)),
        (Filter(limit=1), Filter()),
        (Filter(errors=True), Filter()),
        (Filter(sense="a"), Filter(matches=parse_matches(["sense=a", "sense=b"]))),
        (Filter(matches=parse_matches(["type!=a"])), Filter(matches=parse_matches(["source!=a"]))),
    ],
    ids=repr,
)
def test_filters_of_different_shapes_have_different_sql(one: Filter, other: Filter) -> None:
    """The conditions differ, not only their values."""
    stats = TableStats()
    assert not {statement.sql for statement in selected(one, stats)} & {s.sql for s in selected(other, stats)}


def test_value_in_shared_sql_raises_value_error() -> None:
    """It would be used for every later filter of that shape."""
    with pytest.raises(ValueError, match="unnamed parameters"):
        named_sql(peewee.Table("logs").select(peewee.SQL("?", [3])))
