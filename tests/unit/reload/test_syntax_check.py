"""What is wrong with a file of Python, found without running it."""

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
        r"'\d'; compute = print  # what the compiler warns of is no problem",
        "\ufeffdef compute(ctx): ...",
        "# coding: latin-1\ndef compute(ctx): return 'é'",
    ],
)
def test_any_way_to_bind_compute_will_do(source: str) -> None:
    """Defined, assigned or imported: what has a compute at its top level is a sense."""
    encoding = "latin-1" if "latin-1" in source else "utf-8"
    assert problem_of(source.encode(encoding), "a.py", is_sense=True) is None


@pytest.mark.parametrize(
    "source",
    ["", "compute", "x.compute = 1", "def f():\n    compute = 1", "class A:\n    def compute(s): ...", "'compute = 1'"],
)
def test_a_compute_elsewhere_than_at_the_top_level_is_none(source: str) -> None:
    """What isn't bound in the module itself can't be called; a helper needs none."""
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
def test_the_compiler_s_words_are_told_with_their_line(source: bytes, problem: Problem) -> None:
    """Also what only shows when the code is generated, whether or not the file is a sense."""
    for is_sense in (True, False):
        assert problem_of(source, "a.py", is_sense=is_sense) == problem


@pytest.mark.parametrize("source", [b"\xff", b"x = 1\0", b"(" * 1000, b"-" * 100_000 + b"1", b"# coding: klingon\n"])
def test_whatever_is_in_a_file_becomes_one_line(source: bytes) -> None:
    """Wrong encodings, null bytes and nesting beyond the compiler's limits are problems like others."""
    problem = problem_of(source, "a.py", is_sense=True)
    assert problem
    assert problem.line == 1
    assert problem.text
    assert problem.text.isprintable()


def test_nothing_is_run() -> None:
    """Neither the file nor what it imports; and nobody is warned of what a run would warn of."""
    source = b"raise SystemExit('was run')\nimport nowhere\nassert (1, 'always true')\ncompute = 1 is 1"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert problem_of(source, "nothing_is_run.py", is_sense=True) is None
    assert warned == []
