"""Measurements: named functions of a lab that return their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.lab import Lab
from bench.results import Found


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measurement, which `what` describes in one line."""

    name: str
    what: str
    run: Callable[[Lab], Found]


def measurement(run: Callable[[Lab], Found]) -> Measurement:
    """Return a measurement with the name of a function and the first line of its docstring."""
    what = (run.__doc__ or "").strip().split("\n")[0]
    return Measurement(run.__name__.replace("_", "-"), what, run)
