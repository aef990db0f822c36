"""docs/configuration.md and the template's nerve.yaml: both have every key, with its default and its bounds."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from nerve.config.config import CONFIG_KEYS, REFLEX_KEYS, SENSE_KEYS, Config, load_config
from nerve.config.logs_section import LOGS_KEYS
from nerve.errors import ConfigError
from nerve.units import parse_duration, parse_size

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "configuration.md"
TEMPLATE = Path(str(resources.files("nerve") / "workspace_template" / "nerve.yaml"))
KEYS = {"Top level": CONFIG_KEYS, "senses": SENSE_KEYS, "reflexes": REFLEX_KEYS, "logs": LOGS_KEYS}
SECTIONS = ("senses", "reflexes", "logs")
QUOTED = re.compile("`([^`]+)`")


@dataclass(frozen=True)
class Row:
    """One row of the tables in docs/configuration.md."""

    section: str
    key: str
    default: str
    bounds: str
    example: str

    def __str__(self) -> str:
        """Return the name of the test."""
        return f"{self.section}: {self.key}"


def rows() -> list[Row]:
    """Return the rows of all tables."""
    found = []
    section = ""
    for line in DOCS.read_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| `"):
            key, default, bounds, example, _meaning = (cell.strip() for cell in line.strip("|").split("|"))
            found.append(Row(section, key.strip("`"), default, bounds, example))
    return found


ROWS = [row for row in rows() if row.key not in SECTIONS]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a workspace with the files of every sense in the examples."""
    (tmp_path / "senses").mkdir()
    for name in ("a", "b", "cpu", "disk", "disk_alert", "load", "memory", "pressure"):
        (tmp_path / "senses" / f"{name}.py").touch()
    return tmp_path.resolve()


def load(home: Path, text: str) -> Config:
    """Load a text as the nerve.yaml of a workspace; raises ConfigError."""
    (home / "nerve.yaml").write_text(text)
    return load_config(home / "nerve.yaml")


def value_of(home: Path, row: Row, text: str) -> Any:
    """Return what the configuration has for a key of this value; raises ConfigError if it is out of bounds."""
    match row.section:
        case "Top level":
            return getattr(load(home, f"{row.key}: {text}\n"), row.key)
        case "senses":
            return getattr(load(home, f"senses: {{a: {{{row.key}: {text}}}}}\n").senses["a"], row.key)
        case "reflexes":
            reflex = {"sense": "a", **({} if row.key == "on" else {"interval": "1s"})}
            entry = ", ".join(f"{key}: {value}" for key, value in {**reflex, row.key: text}.items())
            reflexes = load(home, f"senses: {{a: {{throttle: 1s}}, b: }}\nreflexes: [{{{entry}}}]\n").reflexes
            return getattr(reflexes[0], row.key, None)
        case _:
            return getattr(load(home, f"logs: {{{row.key}: {text}}}\n").logs, row.key)


def default_of(home: Path, row: Row) -> Any:
    """Return what the configuration has for a key that the file doesn't give."""
    loaded = load(home, "senses: {a: }\nreflexes: [{sense: a, interval: 1s}]\n")
    sections = {"Top level": loaded, "senses": loaded.senses["a"], "reflexes": loaded.reflexes[0], "logs": loaded.logs}
    return getattr(sections[row.section], row.key, None)


def beyond(value: str, direction: int) -> str:
    """Return the next smaller or larger value: by one, one byte, or one millisecond."""
    if value.endswith("B"):
        return f"{parse_size(value) + direction}B"
    if value.isdigit():
        return str(int(value) + direction)
    return f"{round(parse_duration(value, allow_zero=True) * 1000) + direction}ms"


def test_the_docs_have_every_key_once_and_in_order() -> None:
    """A key that is added to the configuration has to be described."""
    described: dict[str, tuple[str, ...]] = {}
    for row in rows():
        described[row.section] = (*described.get(row.section, ()), row.key)
    assert described == KEYS


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_default_in_the_docs_is_that_of_the_configuration(home: Path, row: Row) -> None:
    """A default in words is checked where it stands for no value; `required` and the like are for the reader."""
    if row.key == "workers":
        assert default_of(home, row) == min(os.cpu_count() or 1, 64)
    elif row.key == "path":
        assert default_of(home, row) == f"{home}/senses/a.py"
    elif row.default == "none" and row.key not in ("interval", "on"):  # a reflex has one of the two
        assert default_of(home, row) is None
    elif quoted := QUOTED.fullmatch(row.default):
        assert value_of(home, row, quoted[1]) == default_of(home, row)
    else:
        assert row.section == "reflexes"


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_example_in_the_docs_is_valid(home: Path, row: Row) -> None:
    """It can be copied as it is."""
    quoted = QUOTED.fullmatch(row.example)
    assert quoted
    value_of(home, row, quoted[1])


LOWER = re.compile("(?:(?:at least|more than) |^)`([^`]+)`")
UPPER = re.compile("to `([^`]+)`")
CHOICE = re.compile("`[^`]+`(?: or `[^`]+`)*")
RANGES = [row for row in ROWS if LOWER.match(row.bounds) and not CHOICE.fullmatch(row.bounds)]


@pytest.mark.parametrize("row", RANGES, ids=str)
def test_the_bounds_in_the_docs_are_those_of_the_configuration(home: Path, row: Row) -> None:
    """A value at a bound is valid, and the next one beyond it is a problem."""
    lower, upper = LOWER.match(row.bounds), UPPER.search(row.bounds)
    assert lower
    least = beyond(lower[1], 1) if row.bounds.startswith("more than") else lower[1]
    for bound, direction in ((least, -1), *([(upper[1], 1)] if upper else [])):
        value_of(home, row, bound)
        with pytest.raises(ConfigError):
            value_of(home, row, beyond(bound, direction))


@pytest.mark.parametrize("row", [row for row in ROWS if CHOICE.fullmatch(row.bounds)], ids=str)
def test_the_choices_in_the_docs_are_those_of_the_configuration(home: Path, row: Row) -> None:
    """Any other value is a problem."""
    for value in QUOTED.findall(row.bounds):
        value_of(home, row, value)
    with pytest.raises(ConfigError):
        value_of(home, row, "other")


@pytest.mark.parametrize("row", [row for row in ROWS if "characters" in row.bounds], ids=str)
def test_a_name_has_the_length_that_the_docs_say(home: Path, row: Row) -> None:
    """A shorter or longer one is a problem."""
    lengths = re.match("([0-9]+) to ([0-9]+) ", row.bounds)
    assert lengths
    shortest, longest = int(lengths[1]), int(lengths[2])
    for length in (shortest, longest):
        value_of(home, row, "x" * length)
    for length in (shortest - 1, longest + 1):
        with pytest.raises(ConfigError):
            value_of(home, row, f"'{'x' * length}'")


def test_every_configuration_in_the_docs_is_valid(home: Path) -> None:
    """Examples in prose are copied like those of the tables."""
    blocks = re.findall("```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        load(home, block)


# The template.


def uncommented(text: str) -> str:
    """Return the template with its commented keys as if they were given."""
    return re.sub(r"^( *)# ([a-z_]+: )", r"\1\2", text, flags=re.MULTILINE)


def given_keys(document: dict[str, Any]) -> dict[str, set[str]]:
    """Return the keys that a nerve.yaml gives, by section."""
    return {
        "Top level": set(document),
        "senses": {key for sense in document["senses"].values() for key in sense or {}},
        "reflexes": {str(key) for reflex in document["reflexes"] for key in reflex},
        "logs": set(document["logs"]),
    }


def test_the_template_shows_every_key() -> None:
    """Users find each setting in the file that `nerve init` wrote."""
    document = yaml.load(uncommented(TEMPLATE.read_text()), yaml.BaseLoader)
    assert given_keys(document) == {section: set(keys) for section, keys in KEYS.items()}


def test_the_keys_that_the_template_comments_out_show_their_defaults(home: Path) -> None:
    """A key without a default shows an example; all others can be uncommented without an effect."""
    text = TEMPLATE.read_text()
    as_written, as_shown = load(home, text), load(home, uncommented(text))
    examples = {field.name: None for field in fields(Config) if field.default is None}
    assert all(getattr(as_shown, name) is not None for name in examples)
    assert replace(as_shown, workers=Config().workers, **examples) == as_written
