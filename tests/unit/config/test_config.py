"""nerve.yaml: the meaning and defaults of its keys, and which files may be senses."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from nerve.config.config import (
    Config,
    ReflexConfig,
    SenseConfig,
    load_config,
    load_config_with_notes,
    parse_workers,
)
from nerve.config.logs_section import LogsConfig
from nerve.errors import ConfigError

Load = Callable[[str], Config]
Problems = Callable[[str], tuple[str, ...]]


FULL = """\
workers: 4
shutdown_timeout: 3s
max_runs: 1000
max_rss: 500MB
senses:
  disk-usage:
    path: senses/disk_usage.py
    group: io
    throttle: 5s
    timeout: 1m
    grace_period: 0
  a:
reflexes:
  - sense: disk-usage
    kind: sense
    interval: 10s
  - name: on-pressure
    sense: a
    on: [disk-usage]
logs:
  retention: 7d
  archive_interval: 1h30m
  max_payload: 128KB
  compress: zstd
  max_size: 2GB
"""


def test_every_key_is_read(load: Load, home: Path) -> None:
    """Values are in seconds and bytes, and senses in the order of the file."""
    loaded = load(FULL)
    assert loaded == Config(
        workers=4,
        shutdown_timeout=3.0,
        max_runs=1000,
        max_rss=500 * 1024**2,
        senses={
            "disk-usage": SenseConfig("disk-usage", f"{home}/senses/disk_usage.py", "io", 5.0, 60.0, 0.0),
            "a": SenseConfig("a", f"{home}/senses/a.py", None, None, 30.0, 5.0),
        },
        reflexes=(
            ReflexConfig("disk-usage-every-10s", "disk-usage", 10.0, ()),
            ReflexConfig("on-pressure", "a", None, ("disk-usage",)),
        ),
        logs=LogsConfig(7 * 86400.0, 5400.0, 131072, compress="zstd", max_size=2 * 1024**3),
    )
    assert list(loaded.senses) == ["disk-usage", "a"]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "{}", "senses:\nreflexes:\nlogs:\n", "\ufeff"])
def test_an_empty_file_means_the_defaults(load: Load, text: str) -> None:
    """An empty section has the defaults, too."""
    assert load(text) == Config()
    assert Config().workers == min(os.cpu_count() or 1, 64)
    assert Config().logs == LogsConfig(2_592_000.0, 3600.0, 65536)


def test_keys_that_are_off_by_default_accept_off(load: Load) -> None:
    """`off` means no compression, and no limit on the size of the log."""
    assert load("logs: {compress: off, max_size: off}") == Config()


def test_a_config_is_immutable(load: Load) -> None:
    """Assigning to a field fails; `replace` returns a changed copy."""
    loaded = load(FULL)
    with pytest.raises(FrozenInstanceError):
        loaded.workers = 9  # type: ignore[misc]
    assert replace(loaded, workers=9).senses == loaded.senses


def test_two_loads_of_one_file_are_equal(load: Load) -> None:
    """Comparing them shows whether the file has changed."""
    assert load(FULL) == load(FULL)
    assert load(FULL) != load(FULL.replace("timeout: 1m", "timeout: 2m"))


def test_a_sense_file_may_be_anywhere_inside_the_workspace(load: Load, home: Path) -> None:
    """Relative and absolute paths work, and so does a link, whose target is the path."""
    (home / "lib").mkdir()
    (home / "lib" / "real.py").touch()
    (home / "senses" / "b.py").unlink()
    (home / "senses" / "b.py").symlink_to("../lib/real.py")
    senses = load(f"senses: {{a: {{path: '{home}/lib/real.py'}}, b: , c: {{path: lib/../lib/real.py}}}}").senses
    assert {sense.path for sense in senses.values()} == {f"{home}/lib/real.py"}


def test_a_workspace_may_be_reached_through_a_link(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Paths are those of the folder that the link leads to."""
    link = tmp_path_factory.mktemp("links") / "ws"
    link.symlink_to(home)
    (home / "nerve.yaml").write_text("senses: {a: }")
    assert load_config(link / "nerve.yaml").senses["a"].path == f"{home}/senses/a.py"


def test_a_sense_file_outside_the_workspace_is_a_problem(problems: Problems, home: Path) -> None:
    """A path may not lead out of the workspace."""
    step = f"is outside the workspace: move it into {home}, or link it from there"
    assert problems("senses:\n a: {path: ../x.py}\n b: {path: senses/../../x.py}\n c: {path: /etc/passwd}") == (
        f"nerve.yaml:2: senses.a.path: the sense file '../x.py' {step}",
        f"nerve.yaml:3: senses.b.path: the sense file 'senses/../../x.py' {step}",
        f"nerve.yaml:4: senses.c.path: the sense file '/etc/passwd' {step}",
    )


def test_a_sense_may_be_linked_from_elsewhere(load: Load, home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """GNU stow, Nix and a checkout of a shared repository link files or folders into the workspace."""
    store = tmp_path_factory.mktemp("store").resolve()
    (store / "b.py").touch()
    (home / "senses" / "b.py").unlink()
    (home / "senses" / "b.py").symlink_to(store / "b.py")
    (home / "senses" / "shared").symlink_to(store)
    config = load("senses:\n b:\n c: {path: senses/shared/b.py}")
    assert {sense.path for sense in config.senses.values()} == {str(store / "b.py")}


def test_a_link_to_a_name_that_is_not_utf_8_is_a_problem(problems: Problems, home: Path) -> None:
    """Such a path could be neither sent to a worker nor written to the log."""
    target = Path(os.fsdecode(os.fsencode(home) + b"/caf\xe9.py"))
    target.touch()
    (home / "senses" / "b.py").unlink()
    (home / "senses" / "b.py").symlink_to(target)
    assert problems("senses: {b: }") == (
        "nerve.yaml:1: senses.b: the sense file 'senses/b.py' is a link to a path that is not valid UTF-8: rename that",
    )


def test_keys_with_an_x_at_the_top_are_ignored(load: Load, problems: Problems) -> None:
    """They hold what is used elsewhere with YAML anchors; in a section they are unknown keys."""
    text = "x-slow: &slow {timeout: 5m, throttle: 1h}\nx-: [1, {a: b}]\nsenses: {a: {<<: *slow, throttle: 2h}}"
    config = load(text)
    assert (config.senses["a"].timeout, config.senses["a"].throttle) == (300.0, 7200.0)
    assert len(problems("senses: {a: {x-y: 1}}\nX-y: 1")) == 2


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("shutdown_timeout: 4", "shutdown_timeout: '4' has no unit and is taken as seconds: write 4s"),
        ('senses: {a: {timeout: "10"}}', "senses.a.timeout: '10' has no unit and is taken as seconds: write 10s"),
        ("{reflexes: [{sense: a, interval: 0.5}], senses: {a: }}", "reflexes[0].interval: '0.5' has no unit and is"),
        ("logs: {max_payload: 1}", "logs.max_payload: '1' has no unit and is taken as bytes: write 1B, or 1KB"),
        ("logs: {max_size: 5000}", "logs.max_size: '5000' has no unit and is taken as bytes: write 5000B, or 5000KB"),
        ("max_rss: 100000000", "max_rss: '100000000' has no unit and is taken as bytes: write 100000000B"),
        ("logs: {redact: foo}", "logs.redact: is a single value, taken as a list of one: write [foo]"),
        ("senses: {a: {group: 3}}", "senses.a.group: 3 is taken as a name: put it in quotes if it is one"),
        ("senses: {a: {group: no}}", "senses.a.group: no is taken as a name: put it in quotes if it is one"),
        (
            "{reflexes: [{sense: a, name: 1.5, interval: 1s}], senses: {a: }}",
            "reflexes[0].name: 1.5 is taken as",
        ),
    ],
)
def test_a_value_that_may_mean_something_else_is_noted(home: Path, text: str, note: str) -> None:
    """It is valid, so the engine starts; `nerve check` shows the note."""
    (home / "nerve.yaml").write_text(text)
    _, notes = load_config_with_notes(home / "nerve.yaml")
    [line] = notes
    assert line.startswith(f"nerve.yaml:1: {note}")


def test_a_value_that_can_mean_only_one_thing_is_not_noted(home: Path) -> None:
    """Zero is the same in every unit, and a quoted name is meant as one."""
    (home / "nerve.yaml").write_text(
        "max_rss: 1GB\nlogs: {redact: [foo], max_payload: 1KB}\n"
        "senses: {a: {grace_period: 0, group: '3', timeout: 1.5s, throttle: 1s}}\nreflexes: [{sense: a, on: a}]"
    )
    assert load_config_with_notes(home / "nerve.yaml")[1] == ()


@pytest.mark.parametrize("key", ["retention", "archive_interval"])
@pytest.mark.parametrize("value", ["30", '"30"', "0.5"])
def test_a_bare_number_is_refused_where_it_could_delete(problems: Problems, key: str, value: str) -> None:
    """Nobody means 30 seconds by `retention: 30`."""
    number = value.strip('"')
    assert problems(f"logs: {{{key}: {value}}}") == (
        f"nerve.yaml:1: logs.{key}: '{number}' has no unit: write {number}s, {number}m, {number}h or {number}d",
    )


def test_after_twenty_problems_only_their_number_is_shown(problems: Problems) -> None:
    """The error keeps them all; its text, which a terminal shows, does not."""
    assert len(problems("\n".join(f"key{n}: 1" for n in range(300)))) == 300
    text = str(ConfigError("nerve.yaml", tuple(f"nerve.yaml:{n}: x" for n in range(300))))
    assert text.splitlines()[0] == "nerve.yaml: 300 problems; nothing was started"
    assert (len(text.splitlines()), text.splitlines()[-1]) == (22, "  ... and 280 more")
    assert len(str(ConfigError("nerve.yaml", ("x",) * 20)).splitlines()) == 21


@pytest.mark.parametrize("path", ["''", ".", "senses", r'"\0"', "loop", "x" * 5000])
def test_a_path_without_a_file_is_a_problem(problems: Problems, home: Path, path: str) -> None:
    """Examples are folders, null bytes, links to themselves and names beyond the system's limits."""
    (home / "loop").symlink_to("loop")
    (problem,) = problems(f"senses: {{a: {{path: {path}}}}}")
    assert problem.startswith("nerve.yaml:1: senses.a.path: ")
    assert "sense file" in problem


@pytest.mark.parametrize("text", ["", "0", "65", "-1", "4.0", "four", "99999999999999999999", "\u0664", "1_0"])
def test_the_number_of_workers_must_be_1_to_64(text: str) -> None:
    """The error says so in one sentence."""
    assert (parse_workers("1"), parse_workers("64")) == (1, 64)
    with pytest.raises(ValueError, match="is not a number of workers: use a whole number from 1 to 64"):
        parse_workers(text)
