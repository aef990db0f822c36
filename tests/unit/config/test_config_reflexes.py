"""Reflexes in nerve.yaml: their names, the flaws they may have, and the cycles they may form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nerve.config import config
from nerve.config.config import Config, ReflexConfig, SenseConfig, unthrottled_cycles

Load = Callable[[str], Config]
Problems = Callable[[str], tuple[str, ...]]


def test_default_names_are_made_of_the_sense_and_its_trigger(load: Load) -> None:
    """A name that is taken, by whatever reflex, gets a number."""
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
        ("{workflow: [x, y]}", (".workflow: nerve runs senses, not workflows: a workflow is several reflexes, "
         "chained with `on`")),
        ("{sense: a, on: []}", ".on: is empty: give it at least one item"),
        ("{sense: a, on: }", ".on: is empty: give it at least one item"),
        ("{sense: a, on: {b: }}", ".on: must be a list, not a mapping"),
        ("{sense: a, on: [[b]]}", ".on[0]: must be a single value, not a list"),
        ("{sense: zzz, interval: 1s}", ".sense: unknown sense 'zzz'; define it under `senses`"),
        ("{sense: , interval: 1s}", ".sense: has no value: give it one, or remove the key"),
        ('{sense: a, interval: 1s, name: "x\\ny"}', r".name: 'x\ny' is not a name: use 1 to 100 printable characters"),
        ("{sense: a, interval: 1s, workflows: }", (": unknown key 'workflows'; the keys here are name, kind, sense, "
         "interval, on")),
    ],
)  # fmt: skip
def test_a_reflex_that_can_not_run_is_told(problems: Problems, reflex: str, problem: str) -> None:
    """Each flaw of a reflex has one problem, at the value that has it."""
    assert problems(f"senses: {{a: , b: }}\nreflexes: [{reflex}]") == (f"nerve.yaml:2: reflexes[0]{problem}",)


def test_two_reflexes_can_not_be_given_one_name(problems: Problems) -> None:
    """The second bearer of a name is told who the first is."""
    text = "senses: {a: }\nreflexes:\n- {name: x, sense: a, interval: 1s}\n- {name: x, sense: a, interval: 2s}"
    expected = "nerve.yaml:4: reflexes[1]: the name 'x' is already that of reflexes[0]: choose another"
    assert problems(text) == (expected,)


CYCLE = """\
senses: {a: , b: , c: {throttle: 1s}}
reflexes:
- {sense: a, interval: 1s}
- {sense: a, on: b}
- {sense: b, on: [a, c]}
- {sense: c, on: b}
"""


def test_a_cycle_without_a_throttle_is_refused(problems: Problems) -> None:
    """The cycle is named step by step, at the reflex that makes its first step."""
    (problem,) = problems(CYCLE)
    expected = "nerve.yaml:5: reflexes[2]: the cycle a -> b -> a would never rest: give one of its senses a `throttle`"
    assert problem == expected


def test_a_cycle_with_a_throttle_is_fine(load: Load, problems: Problems) -> None:
    """One throttle anywhere on the way is enough, and a misspelt one is not told as two problems."""
    assert load(CYCLE.replace("b: ,", "b: {throttle: 10ms},")).senses["b"].throttle == 0.01
    (problem,) = problems(CYCLE.replace("b: ,", "b: {throttle: fast},"))
    assert "senses.b.throttle: 'fast' is not a duration" in problem


def sense_map(names: str, throttled: str = "") -> dict[str, SenseConfig]:
    """Senses of one letter each, some with a throttle."""
    return {name: SenseConfig(name, Path("/"), throttle=1.0 if name in throttled else None) for name in names}


def chain(*steps: str) -> list[ReflexConfig]:
    """Reflexes, each given as the senses that signal and then the sense that runs: `ab` for a -> b."""
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
def test_cycles_are_those_that_nothing_slows_down(
    steps: tuple[str, ...], throttled: str, cycles: list[tuple[str, ...]]
) -> None:
    """Each cycle is found once, from the first of its senses, and a throttle anywhere takes it away."""
    assert sorted(unthrottled_cycles(sense_map("abcd", throttled), chain(*steps))) == cycles


def test_a_web_of_cycles_is_told_by_its_first_few(problems: Problems) -> None:
    """A file in which everything triggers everything does not flood the terminal."""
    text = "senses: {" + "".join(f"s{i}: {{path: senses/a.py}}, " for i in range(20)) + "}\nreflexes:\n"
    names = ", ".join(f"s{i}" for i in range(20))
    text += "".join(f"- {{sense: s{i}, on: [{names}]}}\n" for i in range(20))
    assert len(problems(text)) == config._CYCLES_SHOWN
