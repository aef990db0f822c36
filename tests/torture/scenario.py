"""Scenarios: named functions that break an engine, with a seed, and fill in a verdict."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from support.engine import Engine
from support.verdict import Verdict

Body = Callable[[Engine, random.Random, Verdict, bool], None]


class Skipped(Exception):  # noqa: N818 - it is not an error
    """A scenario can't be run on this machine, for this reason."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to break an engine, which `what` describes in one line."""

    name: str
    what: str
    body: Body

    def run(self, engine: Engine, random: random.Random, verdict: Verdict, *, short: bool) -> None:
        """Break the engine and record the result in the verdict; `short` is the version for everyday tests."""
        self.body(engine, random, verdict, short)


def scenario(body: Body) -> Scenario:
    """Return a scenario with the name and the docstring of a function."""
    return Scenario(body.__name__.replace("_", "-"), (body.__doc__ or "").strip(), body)
