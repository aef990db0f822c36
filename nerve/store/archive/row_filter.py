"""RowFilter: a Filter in plain Python, for rows outside the table; equivalent to its SQL."""

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
    """Decides whether a row, or an entry's line in the archive, matches: a row must pass all `tests`.

    The line of a match contains at least one mark of each group of `marks`: most other lines need not be parsed.
    """

    tests: tuple[_Test, ...]
    marks: tuple[tuple[bytes, ...], ...]

    def may_match(self, line: bytes) -> bool:
        """Return False if a line that `to_line` wrote can't be that of a match."""
        for group in self.marks:
            for mark in group:
                if mark in line:
                    break
            else:
                return False
        return True

    def matches(self, row: Row) -> bool:
        """Return True if a row matches."""
        # A plain loop: a generator in all() would cost more than most of the tests do.
        for test in self.tests:  # noqa: SIM110 - see above
            if not test(row):
                return False
        return True


def row_filter_of(filter: Filter) -> RowFilter:
    """Return the RowFilter for all conditions of `filter`; its `limit` does not apply to single rows."""
    conditions = sorted(filter.conditions, key=_column)  # those on the payload, which must be decoded, come last
    tests = [*_ranges(filter), *map(_test, conditions)]
    marks = [_marks(match) for match in conditions if match.op == "=" and match.field in _KEYS]
    if filter.errors:
        tests.append(_is_error)
        marks.append(_ERROR_MARKS)
    return RowFilter(tuple(tests), tuple(marks))


def _marks(match: Match) -> tuple[bytes, ...]:
    key, values = _KEYS[match.field], [_encoded(value) for value in match.values]
    if match.field == "sense":
        return tuple(key + mark for value in values for mark in (value, value[:-1] + b"/"))
    return tuple(key + value for value in values)


def _encoded(value: str) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # a lone surrogate, from an argument that was not UTF-8: the test finds it in no entry
        return b""


def _column(match: Match) -> int:
    return _COLUMNS.get(match.field, _PAYLOAD)


def _test(match: Match) -> _Test:
    column, accepts = _column(match), match.accepts
    return lambda row: accepts(row[column])


def _ranges(filter: Filter) -> list[_Test]:
    tests: list[_Test] = []
    for column, least, most in (
        (0, None if filter.after_id is None else filter.after_id + 1, filter.until_id),
        (5, filter.since, filter.until),
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
    """Return True where `schema.IS_ERROR` is 1."""
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
