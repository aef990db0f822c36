"""nerve.yaml, read into a frozen Config; all problems of the file are in one ConfigError, each with its line."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from graphlib import CycleError, TopologicalSorter
from itertools import count, islice, pairwise
from pathlib import Path

from nerve.config.keys import (
    DURATION,
    DURATION_OR_ZERO,
    INTERVAL,
    LABEL,
    Single,
    doubt_bytes,
    key,
    key_names,
    list_key,
    read_keys,
)
from nerve.config.logs_section import LogsConfig, read_logs
from nerve.config.yaml_reader import Value, load_yaml, quoted, unknown
from nerve.errors import ConfigError
from nerve.units import format_duration, format_size, parse_size
from nerve.workspace import is_utf8

MAX_WORKERS = 64
MIN_RSS_LIMIT = 64 * 1024**2  # bytes; an idle worker has about half of that

_SENSE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_MAX_CYCLES_SHOWN = 10
_ANCHORS = "x-"  # a key at the top with this prefix is ignored: a place for what is used elsewhere with anchors
_NO_WORKFLOWS = "nerve runs senses, not workflows: write several reflexes, and chain them with `on`"


def parse_workers(text: str) -> int:
    """Return a number of workers; raises ValueError, with one sentence for the reader, unless it is 1 to 64."""
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(f"{quoted(text)} is not a number of workers: use a whole number from 1 to {MAX_WORKERS}")
    return int(text)


def _parse_max_runs(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text) or not int(text):
        raise ValueError(f"{quoted(text)} is not a number of runs: use a whole number, at least 1")
    return int(text)


def _parse_max_rss(text: str) -> int:
    size = parse_size(text)
    if size < MIN_RSS_LIMIT:
        raise ValueError(f"{quoted(text)} is too small: a worker needs at least {format_size(MIN_RSS_LIMIT)}")
    return size


@dataclass(frozen=True, slots=True)
class SenseConfig:
    """One sense: `path` is absolute, without symlinks; `throttle`, `timeout` and `grace_period` are seconds.

    The scheduler's `SenseRule` has only the part that decides when the sense may start.
    """

    name: str
    path: str
    group: str | None = key(LABEL, None)
    throttle: float | None = key(DURATION, None)
    timeout: float = key(DURATION, 30.0)
    grace_period: float = key(DURATION_OR_ZERO, 5.0)


@dataclass(frozen=True, slots=True)
class ReflexConfig:
    """When a sense runs: every `interval` seconds, or else whenever one of the senses in `on` has signalled.

    The scheduler's `Reflex` has an `offset` besides, which spreads the first ticks of many reflexes over time: it
    depends on the position in the file, so it is not part of what is compared to find changed reflexes.
    """

    name: str
    sense: str
    interval: float | None = key(INTERVAL, None)
    on: tuple[str, ...] = list_key(LABEL)


@dataclass(frozen=True, slots=True)
class Config:
    """All of nerve.yaml, checked; `shutdown_timeout` is seconds, senses and reflexes are in the order of the file.

    A worker that has done `max_runs` runs, or has more than `max_rss` bytes of memory after one, is replaced.
    """

    workers: int = key(Single(parse_workers), min(os.cpu_count() or 1, MAX_WORKERS))
    shutdown_timeout: float = key(DURATION, 4.0)
    max_runs: int | None = key(Single(_parse_max_runs), None)
    max_rss: int | None = key(Single(_parse_max_rss, format_size, doubt_bytes), None)
    senses: Mapping[str, SenseConfig] = field(default_factory=dict)
    reflexes: tuple[ReflexConfig, ...] = ()
    logs: LogsConfig = field(default_factory=LogsConfig)


CONFIG_KEYS = (*key_names(Config), "senses", "reflexes", "logs")
SENSE_KEYS = ("path", *key_names(SenseConfig))
REFLEX_KEYS = ("name", "kind", "sense", *key_names(ReflexConfig))


def load_config(path: Path) -> Config:
    """Read nerve.yaml; the senses' paths are relative to the folder that it is in.

    Raises ConfigError with all problems of the file, in the order of its lines.
    """
    return load_config_with_notes(path)[0]


def load_config_with_notes(path: Path) -> tuple[Config, tuple[str, ...]]:
    """Read nerve.yaml as load_config does; return notes on values, too, that may not mean what their author thinks."""
    root = load_yaml(path)
    config = _config(root, path.parent.resolve())
    problems = root.problems.lines()
    if problems:
        raise ConfigError(str(path), problems)
    return config, root.problems.notes()


def unthrottled_cycles(
    senses: Mapping[str, SenseConfig], reflexes: Iterable[ReflexConfig]
) -> Iterator[tuple[str, ...]]:
    """Return the cycles of senses that signal each other without a throttle on any: (a, b, a) for a -> b -> a.

    Of cycles that share a step, only the first is found.
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
    values = root.fields(CONFIG_KEYS, ignored_prefix=_ANCHORS)
    senses = _senses(values.get("senses"), home)
    return Config(
        **read_keys(Config, values),
        senses=senses,
        reflexes=tuple(_reflexes(values.get("reflexes"), senses)),
        logs=read_logs(values.get("logs")),
    )


def _senses(section: Value | None, home: Path) -> dict[str, SenseConfig]:
    entries = section.entries() if section else {}
    return {name: _sense(name, value, home) for name, value in entries.items()}


def _sense(name: str, value: Value, home: Path) -> SenseConfig:
    values = value.fields(SENSE_KEYS)
    path = home
    if not _SENSE_NAME.fullmatch(name):
        value.problem("is not a valid sense name: use 1 to 100 of a-z, 0-9, - and _, and begin with a letter or digit")
    elif "path" in values:
        path = values["path"].parsed(partial(_sense_path, home), home)
    else:
        path = value.checked(f"senses/{name.replace('-', '_')}.py", partial(_sense_path, home), home)
    settings = read_keys(SenseConfig, values)
    if "throttle" in values and settings["throttle"] is None:
        settings["throttle"] = 1.0  # an invalid throttle must not also be reported as a cycle without one
    return SenseConfig(name, str(path), **settings)


def _sense_path(home: Path, text: str) -> Path:
    try:
        path = (home / text).resolve()
        exists = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # an unreadable folder, a loop of symlinks, a null byte
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ValueError(f"the sense file {quoted(text)} can't be used: {reason}") from None
    if not Path(os.path.normpath(home / text)).is_relative_to(home):
        step = f"move it into {home}, or link it from there"
        raise ValueError(f"the sense file {quoted(text)} is outside the workspace: {step}")
    if not is_utf8(path):
        raise ValueError(f"the sense file {quoted(text)} is a link to a path that is not valid UTF-8: rename that")
    if not exists:
        raise ValueError(f"missing sense file {quoted(text)}: create it, or fix `path`")
    return path


def _reflexes(section: Value | None, senses: Mapping[str, SenseConfig]) -> list[ReflexConfig]:
    items = section.items() if section else []
    reflexes = _with_names(items, [_reflex(item, senses) for item in items])
    valid_senses = {name: sense for name, sense in senses.items() if _SENSE_NAME.fullmatch(name)}
    for cycle in islice(unthrottled_cycles(valid_senses, reflexes), _MAX_CYCLES_SHOWN):
        first = next(i for i, r in enumerate(reflexes) if r.sense == cycle[1] and cycle[0] in r.on)
        steps = " -> ".join(cycle)
        items[first].problem(
            f"the cycle {steps} has no throttle and would run forever: give one of its senses a `throttle`"
        )
    return reflexes


def _reflex(item: Value, senses: Collection[str]) -> ReflexConfig:
    values = item.fields(REFLEX_KEYS, unadvised=("workflow",))
    if "workflow" in values:
        values["workflow"].problem(_NO_WORKFLOWS)
    elif item.is_mapping:
        _check_complete(item, values)
    if "kind" in values:
        values["kind"].parsed(_parse_kind, "sense")
    parse_sense = partial(_known_sense, senses)
    sources = values["on"].items(or_single=True, needed=True) if "on" in values else []
    return ReflexConfig(
        name=LABEL.read(values["name"], "") if "name" in values else "",
        sense=values["sense"].parsed(parse_sense, "") if "sense" in values else "",
        interval=INTERVAL.read(values["interval"], None) if "interval" in values else None,
        on=tuple(dict.fromkeys(source.parsed(parse_sense, "") for source in sources)),
    )


def _check_complete(item: Value, fields: Collection[str]) -> None:
    if "sense" not in fields:
        item.problem("has no sense: add `sense: NAME`")
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


def _with_names(items: list[Value], reflexes: list[ReflexConfig]) -> list[ReflexConfig]:
    taken: dict[str, str] = {}
    for item, reflex in zip(items, reflexes, strict=True):
        if reflex.name in taken:
            item.problem(f"the name {quoted(reflex.name)} is already used by {taken[reflex.name]}: choose another")
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
