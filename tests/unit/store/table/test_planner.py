"""The SQL for a question is made once, and has no value in it."""

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

KNOWN = TableStats((Pair("a", "b"), Pair("c", "d")), Period(3, 900, 4))

ONE = Filter(
    "a", "b", "c", "d", 1, 2, 3, 4, 5, errors=True, matches=parse_matches(["ref!=e", "payload.f~=g", "type=h"])
)
OTHER = Filter(
    "k", "l", "m", "n", 5, 6, 7, 8, 9, errors=True, matches=parse_matches(["ref!=o", "payload.p~=q", "type=r"])
)


def selected(wanted: Filter, known: TableStats) -> list[Statement]:
    """Make all statements for a filter."""
    made = [
        select_entries(wanted, known),
        select_ids(wanted, known, newest=True),
        select_ids(wanted, known, newest=False),
    ]
    return [statement for statement in made if statement]


NARROWER = [
    {},
    {"ref_id": None},
    {"ref_id": None, "errors": False},
    {"ref_id": None, "errors": False, "sense": None},
    {"source": None, "type": None, "limit": None},
    {"since": None, "until_id": None},
]


@pytest.mark.parametrize("known", [KNOWN, replace(KNOWN, period=None), TableStats()])
@pytest.mark.parametrize("without", NARROWER, ids=repr)
def test_filters_of_one_form_share_their_sql(
    db: Path, writer: LogWriter, without: dict[str, None], known: TableStats
) -> None:
    """Whatever their values are, which all are parameters that it names: SQLite takes each statement."""
    one, other = selected(replace(ONE, **without), known), selected(replace(OTHER, **without), known)
    assert len(one) == 3
    assert [statement.sql for statement in one] == [statement.sql for statement in other]
    assert all(mine.values != others.values for mine, others in zip(one, other, strict=True))
    connection = sqlite3.connect(db)
    connection.create_function("nerve_match", 2, lambda _demand, _column: True)
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
def test_filters_of_another_form_do_not(one: Filter, other: Filter) -> None:
    """What is asked differs, not only what for."""
    known = TableStats()
    assert not {statement.sql for statement in selected(one, known)} & {s.sql for s in selected(other, known)}


def test_no_value_can_be_left_in_shared_sql() -> None:
    """It would be asked for again, whatever is asked next."""
    with pytest.raises(ValueError, match="unnamed parameters"):
        named_sql(peewee.Table("logs").select(peewee.SQL("?", [3])))
