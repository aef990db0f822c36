"""Checking a Python file without running it."""

from __future__ import annotations

import warnings

import pytest

from nerve.reload.syntax_check import Problem, problem_of

NO_COMPUTE = Problem(1, "has no `compute`: add `def compute(ctx):`")


@pytest.mark.parametrize(
    "source",
    [
        "def compute(ctx): ...",
        "async def compute(ctx): ...",
        "compute = print",
        "compute: object = print",
        "from os import getpid as compute",
        "import os as compute",
        "from os.path import *",
        "class compute: ...",
        "if True:\n    def compute(ctx): ...",
        "try:\n    from fast import compute\nexcept ImportError:\n    compute = None",
        "a, (compute, b) = 1, (2, 3)",
        "for compute in []: pass",
        "(compute := print)",
        r"'\d'; compute = print  # a compiler warning is not a problem",
        "\ufeffdef compute(ctx): ...",
        "# coding: latin-1\ndef compute(ctx): return 'é'",
    ],
)
def test_a_sense_may_bind_compute_in_any_way(source: str) -> None:
    """It may be defined, assigned or imported, anywhere at the top level."""
    encoding = "latin-1" if "latin-1" in source else "utf-8"
    assert problem_of(source.encode(encoding), "a.py", is_sense=True) is None


@pytest.mark.parametrize(
    "source",
    ["", "compute", "x.compute = 1", "def f():\n    compute = 1", "class A:\n    def compute(s): ...", "'compute = 1'"],
)
def test_a_sense_without_a_compute_at_its_top_level_has_a_problem(source: str) -> None:
    """A name in a function or class can't be called from outside; a helper needs no compute."""
    assert problem_of(source.encode(), "a.py", is_sense=True) == NO_COMPUTE
    assert problem_of(source.encode(), "a.py", is_sense=False) is None


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (b"def compute(ctx):\n    return {\n", Problem(2, "'{' was never closed")),
        (b"x = = 1", Problem(1, "invalid syntax")),
        (b"\n\nreturn 1", Problem(3, "'return' outside function")),
        (b"def f():\n  await g()", Problem(2, "'await' outside async function")),
        (b"if 1:\nx = 1", Problem(2, "expected an indented block after 'if' statement on line 1")),
        (b"def f(a, a): ...", Problem(1, "duplicate argument 'a' in function definition")),
        (b"def f():\n    nonlocal compute\n", Problem(2, "no binding for nonlocal 'compute' found")),
        (b"from __future__ import braces", Problem(1, "not a chance")),
    ],
)
def test_a_syntax_error_is_reported_with_its_line(source: bytes, problem: Problem) -> None:
    """This includes errors that the compiler finds only when it generates code, in senses and in helpers."""
    for is_sense in (True, False):
        assert problem_of(source, "a.py", is_sense=is_sense) == problem


@pytest.mark.parametrize("source", [b"\xff", b"x = 1\0", b"(" * 1000, b"-" * 100_000 + b"1", b"# coding: klingon\n"])
def test_any_unusable_content_is_a_problem_of_one_line(source: bytes) -> None:
    """Examples are wrong encodings, null bytes and nesting beyond the compiler's limits."""
    problem = problem_of(source, "a.py", is_sense=True)
    assert problem
    assert problem.line == 1
    assert problem.text
    assert problem.text.isprintable()


def test_the_check_runs_nothing_and_warns_of_nothing() -> None:
    """Neither the file nor its imports run, and the compiler's warnings are left to the real import."""
    source = b"raise SystemExit('was run')\nimport nowhere\nassert (1, 'always true')\ncompute = 1 is 1"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert problem_of(source, "nothing_is_run.py", is_sense=True) is None
    assert warned == []
