"""YAML with positions: each value knows its line and the keys that lead to it, and problems are collected.

Values are read from YAML's nodes, as written: a name such as `on` or `no`, which is a boolean in YAML 1.1, stays a
name, and `1:30` does not become 90. Nodes are expanded only where a caller reads them, so aliases that contain
themselves, or multiply, cost nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import yaml

from nerve.errors import ConfigError

T = TypeVar("T")
D = TypeVar("D")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, but PyYAML may lack libyaml
_TEXT = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"
_MAX_DEPTH = 100
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")


class Problems:
    """Collects the problems of one file, so that all are reported at once, and notes on what is valid but doubtful."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: list[tuple[int, str]] = []
        self._notes: list[tuple[int, str]] = []

    def add(self, line: int, where: str, text: str) -> None:
        """Record a problem in `line` (from 1), at the keys `where` ("" for the file as a whole)."""
        self._found.append((line, f"{where}: {text}" if where else text))

    def add_note(self, line: int, where: str, text: str) -> None:
        """Record a note in `line` (from 1), at the keys `where`."""
        self._notes.append((line, f"{where}: {text}"))

    def lines(self) -> tuple[str, ...]:
        """Return all problems, each `file:line: keys: what is wrong`, in the order of their lines."""
        return self._in_order(self._found)

    def notes(self) -> tuple[str, ...]:
        """Return all notes in the same form."""
        return self._in_order(self._notes)

    def _in_order(self, found: list[tuple[int, str]]) -> tuple[str, ...]:
        return tuple(f"{self._file}:{line}: {text}" for line, text in sorted(found, key=lambda entry: entry[0]))


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the file: its node, its line (from 1) and the keys that lead to it.

    Each method reads it as one kind of value. If it is of another kind, the method records a problem and returns
    something empty, so that the caller goes on and finds the other problems too.
    """

    node: yaml.Node
    line: int
    where: str
    problems: Problems

    @property
    def is_mapping(self) -> bool:
        """Whether entries() can read it: it is a mapping, or absent, which counts as an empty one."""
        return self._is_null() or isinstance(self.node, yaml.MappingNode)

    def problem(self, text: str) -> None:
        """Record a problem of this value."""
        self.problems.add(self.line, self.where, text)

    def note(self, text: str) -> None:
        """Record that this value is valid, but may not mean what its author thinks."""
        self.problems.add_note(self.line, self.where, text)

    @property
    def is_list(self) -> bool:
        """Whether it is written as a list."""
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def is_plain_text(self) -> bool:
        """Whether it is a single value that YAML takes as a text: neither a number nor a boolean, unless in quotes."""
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == _TEXT

    def text(self) -> str | None:
        """Return a single value as written; None, with a problem, if it is something else."""
        if self._is_null():
            self.problem("has no value: add one, or remove the key")
        elif isinstance(self.node, yaml.ScalarNode):
            return str(self.node.value)
        else:
            self.problem(f"must be a single value, not {self._described()}")
        return None

    def parsed(self, parse: Callable[[str], T], stand_in: D) -> T | D:
        """Return a single value as `parse` reads it; its ValueError becomes a problem, and `stand_in` is returned."""
        text = self.text()
        return stand_in if text is None else self.checked(text, parse, stand_in)

    def checked(self, text: str, parse: Callable[[str], T], stand_in: D) -> T | D:
        """Return what `parse` makes of `text`, as if it were written here."""
        try:
            return parse(text)
        except ValueError as error:
            self.problem(str(error))
            return stand_in

    def items(self, *, or_single: bool = False, needed: bool = False) -> list[Value]:
        """Return the items of a list, or with `or_single` a single value as the only item; an absent list is empty.

        With `needed`, an empty one is a problem.
        """
        if self._is_null() or (isinstance(self.node, yaml.SequenceNode) and not self.node.value):
            if needed:
                self.problem("is empty: add at least one item")
            return []
        if isinstance(self.node, yaml.SequenceNode):
            return [
                Value(node, node.start_mark.line + 1, f"{self.where}[{index}]", self.problems)
                for index, node in enumerate(self.node.value)
            ]
        if or_single and isinstance(self.node, yaml.ScalarNode):
            return [self]
        self.problem(f"must be a list, not {self._described()}")
        return []

    def entries(self) -> dict[str, Value]:
        """Return the entries of a mapping, including those that it merges (`<<: *other`); an absent one is empty."""
        if self._is_null():
            return {}
        if not isinstance(self.node, yaml.MappingNode):
            self.problem(f"must be a mapping of keys to values, not {self._described()}")
            return {}
        self._check_keys(self.node)
        entries: dict[str, Value] = {}
        for layer in _layers(self.node):
            for key, node in layer.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE and key.value not in entries:
                    entries[key.value] = self._entry(key, node)
        return entries

    def fields(
        self, known: Collection[str], *, unadvised: Collection[str] = (), ignored_prefix: str | None = None
    ) -> dict[str, Value]:
        """Return the entries of a mapping that has only `known` keys, or `unadvised` ones, which no message suggests.

        Any other key is a problem, and left out; one that begins with `ignored_prefix` is only left out.
        """
        hint = f"the keys here are {', '.join(known)}"
        fields = {}
        for key, value in self.entries().items():
            if ignored_prefix is not None and key.startswith(ignored_prefix):
                continue
            if key in known or key in unadvised:
                fields[key] = value
            else:
                self.problems.add(value.line, self.where, unknown("key", key, known, hint))
        return fields

    def _entry(self, key: yaml.ScalarNode, node: yaml.Node) -> Value:
        if not _PLAIN_KEY.fullmatch(key.value):
            where = f"{self.where}[{quoted(key.value)}]"
        else:
            where = f"{self.where}.{key.value}" if self.where else key.value
        return Value(node, key.start_mark.line + 1, where, self.problems)

    def _check_keys(self, mapping: yaml.MappingNode) -> None:
        lines: dict[str, int] = {}
        for key, node in mapping.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.problems.add(line, self.where, "a key must be a single value, not a list or a mapping")
            elif key.tag == _MERGE:
                if not all(isinstance(source, yaml.MappingNode) for source in _sources(node)):
                    self.problems.add(line, self.where, "`<<` must be a mapping, or a list of mappings")
            elif key.value in lines:
                text = f"{quoted(key.value)} is defined twice (first in line {lines[key.value]}): remove one"
                self.problems.add(line, self.where, text)
            else:
                lines[key.value] = line

    def _is_null(self) -> bool:
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == _NULL

    def _described(self) -> str:
        match self.node:
            case yaml.MappingNode():
                return "a mapping"
            case yaml.SequenceNode():
                return "a list"
            case _:
                return quoted(str(self.node.value))


def load_yaml(path: Path) -> Value:
    """Return the only document of a file; an empty file has an absent value.

    Raises ConfigError, with one problem, if the file can't be read, is not UTF-8 or is not YAML.
    """
    problems = Problems(path.name)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        node = _compose(text)
    except OSError as error:
        raise ConfigError(str(path), (f"{path.name}: can't be read: {error.strerror}",)) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problems.add(line, "", "is not UTF-8 text: save the file as UTF-8")
        raise ConfigError(str(path), problems.lines()) from None
    except _SyntaxError as error:
        problems.add(error.line, "", f"is not valid YAML: {error}")
        raise ConfigError(str(path), problems.lines()) from None
    return Value(node, 1, "", problems)


def unknown(noun: str, name: str, known: Collection[str], hint: str) -> str:
    """Return the problem of a `name` that is not `known`, with a known name that resembles it, or else `hint`."""
    near = difflib.get_close_matches(name[:100], known, n=1)
    return f"unknown {noun} {quoted(name)}; " + (f"did you mean {quoted(near[0])}?" if near else hint)


def quoted(text: str) -> str:
    """Return a text in quotes, shortened and without control characters, for a message of one line."""
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:56]}...{shown[-1]}"


class _SyntaxError(Exception):
    """A text is not YAML: the reason, and the line."""

    def __init__(self, line: int, text: str) -> None:
        self.line = line
        super().__init__(" ".join(text.split()))


def _compose(text: str) -> yaml.Node:
    try:
        _reject_deep_nesting(text)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.reader.ReaderError as error:
        character = chr(int(error.character))
        line = text.count("\n", 0, text.find(character)) + 1
        raise _SyntaxError(line, f"the character {character!r} is not allowed") from None
    except yaml.MarkedYAMLError as error:
        line = _line(error.problem_mark or error.context_mark)
        tabs = any(row.lstrip(" ").startswith("\t") for row in text.split("\n")[line - 1 : line])
        raise _SyntaxError(line, f"{error.problem}{'; indent with spaces, not with tabs' if tabs else ''}") from None
    except (ValueError, OverflowError) as error:  # an escape such as "\UFFFFFFFF", without libyaml
        raise _SyntaxError(1, str(error)) from None
    return yaml.ScalarNode(_NULL, "") if node is None else node


def _reject_deep_nesting(text: str) -> None:
    # Composing is recursive, in C without a limit: a file of 100,000 brackets would crash the process.
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise _SyntaxError(_line(event.start_mark), f"nested more than {_MAX_DEPTH} levels deep")


class _Mark(Protocol):
    """A position in the text, as both loaders have it: `line` counts from 0."""

    line: int


def _line(mark: _Mark | None) -> int:
    return mark.line + 1 if mark else 1


def _layers(mapping: yaml.MappingNode) -> Iterator[yaml.MappingNode]:
    """Return a mapping and those that it merges, directly or not: each once, the one with precedence first."""
    stack = [mapping]
    seen: set[int] = set()
    while stack:
        layer = stack.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        sources = [source for key, node in layer.value if key.tag == _MERGE for source in _sources(node)]
        stack.extend(source for source in reversed(sources) if isinstance(source, yaml.MappingNode))


def _sources(merged: yaml.Node) -> list[yaml.Node]:
    return list(merged.value) if isinstance(merged, yaml.SequenceNode) else [merged]
