"""Checks a Python file without running it."""

from __future__ import annotations

import symtable
import warnings
from types import CodeType
from typing import NamedTuple

from nerve.reload.source_cache import cached_by_digest


class Problem(NamedTuple):
    """A problem of a file, and its line (from 1)."""

    line: int
    text: str


@cached_by_digest
def problem_of(source: bytes, path: str, *, is_sense: bool) -> Problem | None:
    """Return the first problem of a source, or None; a sense without a `compute` is a problem."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning is not a problem
            code = compile(source, path, "exec", dont_inherit=True)
            has_compute = _may_bind("compute", source, code)
    except SyntaxError as error:
        return Problem(error.lineno or 1, error.msg)
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, or nesting too deep for the compiler
        return Problem(1, f"can't be compiled: {error or type(error).__name__}")
    return None if has_compute or not is_sense else Problem(1, "has no `compute`: add `def compute(ctx):`")


def _may_bind(name: str, source: bytes, code: CodeType) -> bool:
    """Return True if a module may define, assign or import `name` at its top level."""
    if ("*",) in code.co_consts:  # `from helpers import *` may bring anything
        return True
    table = symtable.symtable(source, code.co_filename, "exec")  # type: ignore[arg-type]  # it decodes bytes as Python does
    if name not in table.get_identifiers():
        return False
    symbol = table.lookup(name)
    return symbol.is_assigned() or symbol.is_imported()
