"""What a scenario is: a named function with a seed, that breaks an engine and fills in a verdict."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from support.engine import Engine
from support.verdict import Verdict

Body = Callable[[Engine, random.Random, Verdict, bool], None]


class Skipped(Exception):  # noqa: N818 - it is no error
    """A scenario can't be run on this machine, for this reason."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way of breaking an engine; `what` says which, in a line."""

    name: str
    what: str
    body: Body

    def run(self, engine: Engine, random: random.Random, verdict: Verdict, *, short: bool) -> None:
        """Break the engine, and note in the verdict what came of it; `short` is the version for every day."""
        self.body(engine, random, verdict, short)


def scenario(body: Body) -> Scenario:
    """Make a scenario of a function: its name and its docstring are the scenario's."""
    return Scenario(body.__name__.replace("_", "-"), (body.__doc__ or "").strip(), body)
