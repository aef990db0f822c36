"""Declaring a key: one field of a dataclass is enough to read it, to list it and to show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest

from nerve.config.keys import INTERVAL, LABEL, SIZE, key, key_names, list_key, read_keys, show_value
from nerve.config.yaml_reader import Value, load_yaml

Read = Callable[[str], Value]


@dataclass(frozen=True, slots=True)
class Section:
    """A configuration class with keys, and a field that is not a key."""

    pause: float = key(INTERVAL, 1.0)
    limit: int | None = key(SIZE, None)
    names: tuple[str, ...] = list_key(LABEL)
    computed: str = field(default="x")


@pytest.fixture
def section(tmp_path: Path) -> Read:
    """Return a function that reads a text as a YAML file."""

    def read(text: str) -> Value:
        (tmp_path / "x.yaml").write_text(text)
        return load_yaml(tmp_path / "x.yaml")

    return read


def test_the_names_of_the_keys_are_those_of_the_declared_fields() -> None:
    """They are in the order of the class."""
    assert key_names(Section) == ("pause", "limit", "names")


def test_the_keys_of_a_section_are_read_by_their_types(section: Read) -> None:
    """A key that the file doesn't have keeps the default of its class."""
    value = section("limit: 2KB\nnames: [a, b]")
    assert Section(**read_keys(Section, value.entries())) == Section(1.0, 2048, ("a", "b"))
    assert read_keys(Section, section("{names: a}").entries()) == {"names": ("a",)}
    assert value.problems.lines() == ()


def test_an_invalid_key_is_a_problem_and_has_its_default(section: Read) -> None:
    """Of a list, the valid items are kept."""
    value = section("pause: never\nnames: [a, '']")
    assert Section(**read_keys(Section, value.entries())) == Section(names=("a",))
    assert len(value.problems.lines()) == 2


def test_a_value_is_shown_as_nerve_yaml_has_it() -> None:
    """A value that is absent or empty is `none`."""
    example = Section(0.25, 1536, ("a", "b"))
    assert [show_value(declared, getattr(example, declared.name)) for declared in fields(Section)] == [
        "250ms",
        "1.5KB",
        "a, b",
        "x",
    ]
    assert [show_value(declared, None) for declared in fields(Section)] == ["none"] * 4
