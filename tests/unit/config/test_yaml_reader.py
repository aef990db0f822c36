"""YAML with positions, as both loaders of PyYAML read it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nerve.config.config import Config, ReflexConfig, load_config
from nerve.errors import ConfigError

Load = Callable[[str], Config]
Problems = Callable[[str], tuple[str, ...]]


pytestmark = pytest.mark.usefixtures("each_loader")


def test_words_that_are_booleans_or_numbers_in_yaml_are_names(load: Load, home: Path) -> None:
    """Examples are `on`, `no` and `1e3`."""
    for name in ("no", "1e3"):
        (home / "senses" / f"{name}.py").touch()
    loaded = load("senses: {no: {group: yes}, 1e3: }\nreflexes: [{sense: no, on: 1e3}]")
    assert loaded.senses["no"].group == "yes"
    assert loaded.reflexes == (ReflexConfig("no-on-1e3", "no", None, ("1e3",)),)


def test_anchors_and_merges_are_read(load: Load) -> None:
    """A sense's own keys override merged ones, and of several merged mappings the first has precedence."""
    loaded = load("""\
senses:
  a: &slow {timeout: 5m, throttle: 1s}
  b: {<<: *slow, throttle: 2s}
  c: &odd {timeout: 1m, grace_period: 1s}
  disk-usage: {<<: [*odd, *slow]}
""")
    assert (loaded.senses["b"].timeout, loaded.senses["b"].throttle) == (300.0, 2.0)
    merged = loaded.senses["disk-usage"]
    assert (merged.timeout, merged.throttle, merged.grace_period) == (60.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("workers: 1\nsenses: [", r"is not valid YAML: .+"),
        ("workers: 1\n\tsenses: 2\n", r"2: is not valid YAML: .+; indent with spaces, not with tabs"),
        ("workers: 1\nx: *nowhere", r"2: is not valid YAML: .*undefined alias.*"),
        ("workers: 1\n---\nworkers: 2", r"2: is not valid YAML: but found another document"),
        ("workers: 1\nx: \x07", r"2: is not valid YAML: the character '\\x07' is not allowed"),
        ('"\\UFFFFFFFF": 1', r"1: is not valid YAML: .+"),
        ("\n" + "[" * 101, r"2: is not valid YAML: nested more than 100 levels deep"),
        ("\n" + "[" * 100_000, r"2: is not valid YAML: (nested more than 100 levels deep|.*maximum nesting depth)"),
    ],
)
def test_invalid_yaml_is_reported_with_its_line(problems: Problems, text: str, problem: str) -> None:
    """The parser's message becomes one problem of one line."""
    (line,) = problems(text)
    assert re.search(problem + "$", line), line


def test_another_encoding_than_utf_8_is_reported_with_its_line(home: Path) -> None:
    """The line is the first that is not UTF-8."""
    (home / "nerve.yaml").write_bytes("workers: 1\n# caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ConfigError) as error:
        load_config(home / "nerve.yaml")
    assert error.value.problems == ("nerve.yaml:2: is not UTF-8 text: save the file as UTF-8",)


def test_an_unreadable_file_is_a_config_error(home: Path) -> None:
    """A missing file is one, and so is a folder; the problem has the reason."""
    for name, reason in (("none.yaml", "No such file or directory"), ("senses", "Is a directory")):
        with pytest.raises(ConfigError) as error:
            load_config(home / name)
        assert error.value.problems == (f"{name}: can't be read: {reason}",)


@pytest.mark.parametrize(
    "text",
    [
        "&a {senses: *a}",
        "&a {<<: *a, workers: 0}",
        "senses: &s {a: *s}",
        "reflexes: &r [*r]",
        "x0: &x0 {timeout: 1s}\n"
        + "".join(f"x{i}: &x{i} {{<<: [{f'*x{i - 1}, ' * 9}]}}\n" for i in range(1, 100))
        + "senses: {a: *x99}",
        "x0: &x0 {timeout: 1s}\n"
        + "".join(f"x{i}: &x{i} {{<<: *x{i - 1}}}\n" for i in range(1, 1500))
        + "senses: {a: *x1499}",
    ],
)
@pytest.mark.timeout(10)
def test_aliases_that_contain_themselves_or_multiply_are_read_quickly(problems: Problems, text: str) -> None:
    """Cycles and bombs made of aliases don't hang the reader; their other problems are reported."""
    assert problems(text)
