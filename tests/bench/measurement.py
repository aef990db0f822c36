"""What a measurement is: a named function of a lab, that gives what it has found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.lab import Lab
from bench.results import Found


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing that is measured; `what` says which, in a line."""

    name: str
    what: str
    run: Callable[[Lab], Found]


def measurement(run: Callable[[Lab], Found]) -> Measurement:
    """Make a measurement of a function: its name and the first line of its docstring are the measurement's."""
    what = (run.__doc__ or "").strip().split("\n")[0]
    return Measurement(run.__name__.replace("_", "-"), what, run)
