"""nerve.yaml to a frozen Config, or to a ConfigError that tells every problem in it, each with its line."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from graphlib import CycleError, TopologicalSorter
from itertools import count, islice, pairwise
from pathlib import Path
from typing import TypeVar

from nerve.config.logs_section import LogsConfig, parse_interval, read_logs
from nerve.config.yaml_reader import Value, load_yaml, quoted, read, unknown
from nerve.errors import ConfigError
from nerve.units import format_duration, format_size, parse_duration, parse_size

MAX_WORKERS = 64

_SENSE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_CYCLES_SHOWN = 10
_NO_WORKFLOWS = "nerve runs senses, not workflows: a workflow is several reflexes, chained with `on`"

MIN_RSS_LIMIT = 64 * 1024**2  # bytes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SenseConfig:
    """One sense: `path` is absolute, without symlinks; `throttle`, `timeout` and `grace_period` are seconds."""

    name: str
    path: str
    group: str | None = None
    throttle: float | None = None
    timeout: float = 30.0
    grace_period: float = 5.0


@dataclass(frozen=True, slots=True)
class ReflexConfig:
    """When a sense runs: every `interval` seconds, or else whenever one of the senses in `on` has signalled."""

    name: str
    sense: str
    interval: float | None = None
    on: tuple[str, ...] = ()


def _default_workers() -> int:
    return min(os.cpu_count() or 1, MAX_WORKERS)


@dataclass(frozen=True, slots=True)
class Config:
    """All of nerve.yaml, checked; `shutdown_timeout` is seconds, senses and reflexes are in the order of the file.

    A worker that has done `max_runs` runs, or has more than `max_rss` bytes of memory after one, is replaced.
    """

    workers: int = field(default_factory=_default_workers)
    shutdown_timeout: float = 4.0
    max_runs: int | None = None
    max_rss: int | None = None
    senses: Mapping[str, SenseConfig] = field(default_factory=dict)
    reflexes: tuple[ReflexConfig, ...] = ()
    logs: LogsConfig = field(default_factory=LogsConfig)


def load_config(path: Path) -> Config:
    """Read nerve.yaml; the senses' paths are relative to the folder that it is in.

    Raises ConfigError with all problems of the file, in the order of its lines.
    """
    root = load_yaml(path)
    config = _config(root, path.parent.resolve())
    problems = root.problems.lines()
    if problems:
        raise ConfigError(str(path), problems)
    return config


def parse_workers(text: str) -> int:
    """Read a number of workers; raises ValueError, with one sentence for the reader, unless it is 1 to 64."""
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(f"{quoted(text)} is not a number of workers: use a whole number from 1 to {MAX_WORKERS}")
    return int(text)


def unthrottled_cycles(
    senses: Mapping[str, SenseConfig], reflexes: Iterable[ReflexConfig]
) -> Iterator[tuple[str, ...]]:
    """Find the cycles of senses that signal each other without a throttle on any: (a, b, a) for a -> b -> a.

    Those that share a step with one already found are found only once that one is gone.
    """
    free = {name: position for position, (name, sense) in enumerate(senses.items()) if sense.throttle is None}
    sources: dict[str, dict[str, None]] = {name: {} for name in free}
    for reflex in reflexes:
        if reflex.sense in free:
            sources[reflex.sense].update((name, None) for name in reflex.on if name in free)
    while cycle := _cycle(sources):
        for source, sense in pairwise(cycle):
            del sources[sense][source]
        first = cycle.index(min(cycle, key=free.__getitem__))
        yield (*cycle[first:-1], *cycle[:first], cycle[first])


def _cycle(sources: Mapping[str, Iterable[str]]) -> list[str]:
    try:
        TopologicalSorter(sources).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _config(root: Value, home: Path) -> Config:
    fields = root.fields(("workers", "shutdown_timeout", "max_runs", "max_rss", "senses", "reflexes", "logs"))
    default = Config()
    senses = _senses(fields.get("senses"), home)
    return Config(
        workers=read(fields, "workers", parse_workers, default.workers),
        shutdown_timeout=read(fields, "shutdown_timeout", parse_duration, default.shutdown_timeout),
        max_runs=read(fields, "max_runs", _parse_max_runs, None),
        max_rss=read(fields, "max_rss", _parse_max_rss, None),
        senses=senses,
        reflexes=tuple(_reflexes(fields.get("reflexes"), senses)),
        logs=read_logs(fields.get("logs")),
    )


def _senses(section: Value | None, home: Path) -> dict[str, SenseConfig]:
    entries = section.entries() if section else {}
    return {name: _sense(name, value, home) for name, value in entries.items()}


def _sense(name: str, value: Value, home: Path) -> SenseConfig:
    fields = value.fields(("path", "group", "throttle", "timeout", "grace_period"))
    default = SenseConfig(name, "")
    path = home
    if not _SENSE_NAME.fullmatch(name):
        value.problem("a sense's name is 1 to 100 of a-z, 0-9, - and _, the first of them a letter or digit")
    elif "path" in fields:
        path = fields["path"].parsed(partial(_sense_path, home), home)
    else:
        path = value.checked(f"senses/{name.replace('-', '_')}.py", partial(_sense_path, home), home)
    throttle = fields.get("throttle")
    return SenseConfig(
        name=name,
        path=str(path),
        group=read(fields, "group", _parse_label, None),
        throttle=throttle.parsed(parse_duration, 1.0) if throttle else None,  # a bad one is no lack of one
        timeout=read(fields, "timeout", parse_duration, default.timeout),
        grace_period=read(fields, "grace_period", partial(parse_duration, allow_zero=True), default.grace_period),
    )


def _sense_path(home: Path, text: str) -> Path:
    try:
        path = (home / text).resolve()
        exists = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # an unreadable folder, a loop of symlinks, a null byte
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ValueError(f"the sense file {quoted(text)} can't be used: {reason}") from None
    if not path.is_relative_to(home):
        raise ValueError(f"the sense file {quoted(text)} is outside the workspace: move it into {home}")
    if not exists:
        raise ValueError(f"missing sense file {quoted(text)}: create it, or fix `path`")
    return path


def _parse_label(text: str) -> str:
    if not text.isprintable() or not 1 <= len(text) <= 100:
        raise ValueError(f"{quoted(text)} is not a name: use 1 to 100 printable characters")
    return text


def _parse_max_runs(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text) or not int(text):
        raise ValueError(f"{quoted(text)} is not a number of runs: use a whole number from 1 on")
    return int(text)


def _parse_max_rss(text: str) -> int:
    size = parse_size(text)
    if size < MIN_RSS_LIMIT:
        raise ValueError(f"{quoted(text)} is too small: a worker needs {format_size(MIN_RSS_LIMIT)} to begin with")
    return size


def _reflexes(section: Value | None, senses: Mapping[str, SenseConfig]) -> list[ReflexConfig]:
    items = section.items() if section else []
    reflexes = _named(items, [_reflex(item, senses) for item in items])
    well_named = {name: sense for name, sense in senses.items() if _SENSE_NAME.fullmatch(name)}
    for cycle in islice(unthrottled_cycles(well_named, reflexes), _CYCLES_SHOWN):
        first = next(i for i, r in enumerate(reflexes) if r.sense == cycle[1] and cycle[0] in r.on)
        way = " -> ".join(cycle)
        items[first].problem(f"the cycle {way} would never rest: give one of its senses a `throttle`")
    return reflexes


def _reflex(item: Value, senses: Collection[str]) -> ReflexConfig:
    fields = item.fields(("name", "kind", "sense", "interval", "on"), unadvised=("workflow",))
    if "workflow" in fields:
        fields["workflow"].problem(_NO_WORKFLOWS)
    elif item.is_mapping:
        _check_complete(item, fields)
    read(fields, "kind", _parse_kind, "sense")
    parse_sense = partial(_known_sense, senses)
    sources = fields["on"].items(or_single=True, needed=True) if "on" in fields else []
    return ReflexConfig(
        name=read(fields, "name", _parse_label, ""),
        sense=read(fields, "sense", parse_sense, ""),
        interval=read(fields, "interval", parse_interval, None),
        on=tuple(dict.fromkeys(source.parsed(parse_sense, "") for source in sources)),
    )


def _check_complete(item: Value, fields: Collection[str]) -> None:
    if "sense" not in fields:
        item.problem("names no sense: add `sense: NAME`")
    if "interval" in fields and "on" in fields:
        item.problem("has both `interval` and `on`: keep one of them, or make two reflexes")
    if "interval" not in fields and "on" not in fields:
        item.problem("does not say when to run: add `interval: 10s`, or `on: [SENSE]`")


def _parse_kind(text: str) -> str:
    if text != "sense":
        raise ValueError(f"unknown kind {quoted(text)}: the only kind is `sense`")
    return text


def _known_sense(senses: Collection[str], text: str) -> str:
    if text not in senses:
        raise ValueError(unknown("sense", text, senses, "define it under `senses`"))
    return text


def _named(items: list[Value], reflexes: list[ReflexConfig]) -> list[ReflexConfig]:
    taken: dict[str, str] = {}
    for item, reflex in zip(items, reflexes, strict=True):
        if reflex.name in taken:
            item.problem(f"the name {quoted(reflex.name)} is already that of {taken[reflex.name]}: choose another")
        elif reflex.name:
            taken[reflex.name] = item.where
    named = []
    for item, reflex in zip(items, reflexes, strict=True):
        name = reflex.name or next(name for name in _default_names(reflex) if name not in taken)
        taken[name] = item.where
        named.append(replace(reflex, name=name))
    return named


def _default_names(reflex: ReflexConfig) -> Iterator[str]:
    trigger = ["on", *reflex.on] if reflex.interval is None else ["every", format_duration(reflex.interval)]
    name = "-".join([reflex.sense, *trigger])
    yield name
    for number in count(2):
        yield f"{name}-{number}"
