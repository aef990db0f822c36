"""What a Filter asks of a row, in plain Python: the same as its SQL says, for rows that are in no table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from nerve.store.filters import Filter, Match
from nerve.store.models import Row

Judge = Callable[[Row], bool]
"""Tells whether a row (id, source, type, ref_id, payload as JSON text, ts) is wanted."""

_COLUMNS = {"source": 1, "type": 2, "ref": 3, "sense": 3}
_PAYLOAD = 4


def judge_of(wanted: Filter) -> Judge:
    """Make the judge for all that `wanted` asks of a row; its `limit` is no matter of a single row."""
    tests = [*_ranges(wanted), *map(_test, sorted(wanted.demands(), key=_cost))]
    if wanted.errors:
        tests.append(_is_error)
    return partial(_passes, tests)


def _passes(tests: list[Judge], row: Row) -> bool:
    # A plain loop: a generator in all() would cost more than most of the tests do.
    for test in tests:  # noqa: SIM110 - see above
        if not test(row):
            return False
    return True


def _cost(demand: Match) -> int:
    return _COLUMNS.get(demand.field, _PAYLOAD)


def _test(demand: Match) -> Judge:
    column, accepts = _COLUMNS.get(demand.field, _PAYLOAD), demand.accepts
    return lambda row: accepts(row[column])


def _ranges(wanted: Filter) -> list[Judge]:
    tests: list[Judge] = []
    for column, least, most in (
        (0, None if wanted.after_id is None else wanted.after_id + 1, wanted.until_id),
        (5, wanted.since, wanted.until),
    ):
        if least is not None:
            tests.append(partial(_at_least, column, least))
        if most is not None:
            tests.append(partial(_at_most, column, most))
    return tests


def _at_least(column: int, least: int, row: Row) -> bool:
    return bool(row[column] >= least)


def _at_most(column: int, most: int, row: Row) -> bool:
    return bool(row[column] <= most)


def _is_error(row: Row) -> bool:
    """Tell what `models.IS_ERROR` tells."""
    match row[1], row[2]:
        case ("system", "error") | ("logging", "warning" | "error" | "critical"):
            return True
        case ("reflex", "run_complete"):
            return _has_failed(row[_PAYLOAD])
        case _:
            return False


def _has_failed(payload: str) -> bool:
    try:
        decoded = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return False
    return isinstance(decoded, dict) and decoded.get("status") not in (None, "ok", "cancelled")
