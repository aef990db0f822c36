"""The docstrings of the public API: each has an example, and every example is true."""

from __future__ import annotations

import doctest
import importlib

import pytest

import nerve
import nerve.testing

PUBLIC = [
    *(getattr(nerve, name) for name in nerve.__all__ if name != "__version__"),
    *(getattr(nerve.SenseContext, name) for name in ("log", "log_many", "query_logs", "db", "peer_db")),
    *(nerve.testing.run, nerve.testing.load, nerve.testing.Result.raise_on_error),
]
MODULES = [
    "nerve.errors",
    "nerve.events.model",
    "nerve.events.trigger",
    "nerve.runtime.context",
    "nerve.store.query",
    "nerve.testing",
]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_are_true(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each example is run, and prints what it says."""
    failed, attempted = doctest.testmod(importlib.import_module(module))
    assert failed == 0, capsys.readouterr().out
    assert attempted > 0


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: getattr(thing, "__qualname__", "db"))
def test_every_public_name_has_an_example(thing: object) -> None:
    """Its module is among those whose examples are run."""
    docstring = thing.__doc__ or ""
    assert "Example:\n" in docstring
    assert ">>> " in docstring
    module = getattr(thing, "__module__", None) or nerve.SenseContext.__module__
    assert module in MODULES
