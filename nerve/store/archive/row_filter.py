"""What a Filter asks of a row, in plain Python: the same as its SQL says, for rows that are in no table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec

from nerve.store.filters import Filter, Match
from nerve.store.schema import Row

_KEYS = {"source": b'"source":', "type": b'"type":', "ref": b'"ref_id":', "sense": b'"ref_id":'}
_COLUMNS = {"source": 1, "type": 2, "ref": 3, "sense": 3}
_PAYLOAD = 4

_ERROR_MARKS = (b'"type":"error"', b'"type":"warning"', b'"type":"critical"', b'"type":"run_complete"')

_Test = Callable[[Row], bool]


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Tells whether a row, or an entry's line in the archive, is wanted: all `tests` of a row hold.

    Of each group of `marks`, the line of a wanted entry has at least one: most lines needn't be read any further.
    """

    tests: tuple[_Test, ...]
    marks: tuple[tuple[bytes, ...], ...]

    def may_want(self, line: bytes) -> bool:
        """Tell whether a line that `to_line` wrote can be one of a wanted entry."""
        for group in self.marks:
            for mark in group:
                if mark in line:
                    break
            else:
                return False
        return True

    def wants(self, row: Row) -> bool:
        """Tell whether a row is wanted."""
        # A plain loop: a generator in all() would cost more than most of the tests do.
        for test in self.tests:  # noqa: SIM110 - see above
            if not test(row):
                return False
        return True


def row_filter_of(wanted: Filter) -> RowFilter:
    """Make the judge for all that `wanted` asks of a row; its `limit` is no matter of a single row."""
    demands = sorted(wanted.demands, key=_column)  # those on the payload, which must be decoded, come last
    tests = [*_ranges(wanted), *map(_test, demands)]
    marks = [_marks(demand) for demand in demands if demand.op == "=" and demand.field in _KEYS]
    if wanted.errors:
        tests.append(_is_error)
        marks.append(_ERROR_MARKS)
    return RowFilter(tuple(tests), tuple(marks))


def _marks(demand: Match) -> tuple[bytes, ...]:
    key, values = _KEYS[demand.field], [_encoded(value) for value in demand.values]
    if demand.field == "sense":
        return tuple(key + mark for value in values for mark in (value, value[:-1] + b"/"))
    return tuple(key + value for value in values)


def _encoded(value: str) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # a lone surrogate, as of an argument that was no UTF-8: no entry has it, says its test
        return b""


def _column(demand: Match) -> int:
    return _COLUMNS.get(demand.field, _PAYLOAD)


def _test(demand: Match) -> _Test:
    column, accepts = _column(demand), demand.accepts
    return lambda row: accepts(row[column])


def _ranges(wanted: Filter) -> list[_Test]:
    tests: list[_Test] = []
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
