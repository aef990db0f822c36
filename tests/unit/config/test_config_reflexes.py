"""Reflexes in nerve.yaml: their names, their problems, and the cycles that they may form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nerve.config import config
from nerve.config.config import Config, ReflexConfig, SenseConfig, unthrottled_cycles

Load = Callable[[str], Config]
Problems = Callable[[str], tuple[str, ...]]


def test_a_default_name_consists_of_the_sense_and_its_trigger(load: Load) -> None:
    """A number is added if another reflex has that name."""
    loaded = load("""\
senses: {a: , b: , c: }
reflexes:
  - {sense: a, interval: 90}
  - {sense: a, interval: 1m30s}
  - {sense: c, on: [a, b, a]}
  - {sense: c, on: a}
  - {sense: b, interval: 1h, name: c-on-a}
""")
    names = [reflex.name for reflex in loaded.reflexes]
    assert names == ["a-every-1m30s", "a-every-1m30s-2", "c-on-a-b", "c-on-a-2", "c-on-a"]
    assert loaded.reflexes[2].on == ("a", "b")


@pytest.mark.parametrize(
    ("reflex", "problem"),
    [
        ("{workflow: [x, y]}", (".workflow: nerve runs senses, not workflows: write several reflexes, and "
         "chain them with `on`")),
        ("{sense: a, on: []}", ".on: is empty: add at least one item"),
        ("{sense: a, on: }", ".on: is empty: add at least one item"),
        ("{sense: a, on: {b: }}", ".on: must be a list, not a mapping"),
        ("{sense: a, on: [[b]]}", ".on[0]: must be a single value, not a list"),
        ("{sense: zzz, interval: 1s}", ".sense: unknown sense 'zzz'; define it under `senses`"),
        ("{sense: , interval: 1s}", ".sense: has no value: add one, or remove the key"),
        ('{sense: a, interval: 1s, name: "x\\ny"}', (r".name: 'x\ny' is not a valid name: use 1 to 100 printable "
         "characters")),
        ("{sense: a, interval: 1s, workflows: }", (": unknown key 'workflows'; the keys here are name, kind, sense, "
         "interval, on")),
    ],
)  # fmt: skip
def test_a_reflex_that_can_not_run_is_a_problem(problems: Problems, reflex: str, problem: str) -> None:
    """The problem is at the value that causes it."""
    assert problems(f"senses: {{a: , b: }}\nreflexes: [{reflex}]") == (f"nerve.yaml:2: reflexes[0]{problem}",)


def test_two_reflexes_can_not_have_one_name(problems: Problems) -> None:
    """The problem is at the second, and names the first."""
    text = "senses: {a: }\nreflexes:\n- {name: x, sense: a, interval: 1s}\n- {name: x, sense: a, interval: 2s}"
    expected = "nerve.yaml:4: reflexes[1]: the name 'x' is already used by reflexes[0]: choose another"
    assert problems(text) == (expected,)


CYCLE = """\
senses: {a: , b: , c: {throttle: 1s}}
reflexes:
- {sense: a, interval: 1s}
- {sense: a, on: b}
- {sense: b, on: [a, c]}
- {sense: c, on: b}
"""


def test_a_cycle_without_a_throttle_is_a_problem(problems: Problems) -> None:
    """It names each step, at the reflex of the first one."""
    (problem,) = problems(CYCLE)
    assert problem == (
        "nerve.yaml:5: reflexes[2]: the cycle a -> b -> a has no throttle and would run forever: "
        "give one of its senses a `throttle`"
    )


def test_a_cycle_with_a_throttle_is_allowed(load: Load, problems: Problems) -> None:
    """One throttle anywhere is enough, and an invalid one is only one problem."""
    assert load(CYCLE.replace("b: ,", "b: {throttle: 10ms},")).senses["b"].throttle == 0.01
    (problem,) = problems(CYCLE.replace("b: ,", "b: {throttle: fast},"))
    assert "senses.b.throttle: 'fast' is not a duration" in problem


def sense_map(names: str, throttled: str = "") -> dict[str, SenseConfig]:
    """Return senses of one letter each, some with a throttle."""
    return {name: SenseConfig(name, Path("/"), throttle=1.0 if name in throttled else None) for name in names}


def chain(*steps: str) -> list[ReflexConfig]:
    """Return reflexes, each given as the senses that signal and then the sense that runs: `ab` for a -> b."""
    return [ReflexConfig(step, step[-1], None, tuple(step[:-1])) for step in steps]


@pytest.mark.parametrize(
    ("steps", "throttled", "cycles"),
    [
        (("ab", "bc", "abd"), "", []),
        (("aa",), "", [("a", "a")]),
        (("aa",), "a", []),
        (("bc", "ca", "ab"), "", [("a", "b", "c", "a")]),
        (("bc", "ca", "ab"), "b", []),
        (("ab", "ba", "ac", "ca"), "", [("a", "b", "a"), ("a", "c", "a")]),
        (("ab", "ba", "cd", "dc"), "", [("a", "b", "a"), ("c", "d", "c")]),
        (("ab", "ba", "cd", "dc"), "c", [("a", "b", "a")]),
        (("xa", "ax"), "", []),
    ],
)
def test_each_cycle_without_a_throttle_is_found_once(
    steps: tuple[str, ...], throttled: str, cycles: list[tuple[str, ...]]
) -> None:
    """It begins with the first of its senses in the file."""
    assert sorted(unthrottled_cycles(sense_map("abcd", throttled), chain(*steps))) == cycles


def test_only_the_first_of_many_cycles_are_reported(problems: Problems) -> None:
    """A file in which every sense triggers every sense does not flood the terminal."""
    text = "senses: {" + "".join(f"s{i}: {{path: senses/a.py}}, " for i in range(20)) + "}\nreflexes:\n"
    names = ", ".join(f"s{i}" for i in range(20))
    text += "".join(f"- {{sense: s{i}, on: [{names}]}}\n" for i in range(20))
    assert len(problems(text)) == config._MAX_CYCLES_SHOWN
