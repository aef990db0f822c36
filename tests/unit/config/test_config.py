"""nerve.yaml: the meaning and defaults of its keys, and which files may be senses."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from nerve.config.config import Config, ReflexConfig, SenseConfig, load_config, parse_workers
from nerve.config.logs_section import LogsConfig

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
    """Neither a path nor a link may lead out of the workspace."""
    (home / "senses" / "b.py").unlink()
    (home / "senses" / "b.py").symlink_to(Path(__file__))
    assert problems("senses:\n a: {path: ../x.py}\n b:\n c: {path: /etc/passwd}") == (
        f"nerve.yaml:2: senses.a.path: the sense file '../x.py' is outside the workspace: move it into {home}",
        f"nerve.yaml:3: senses.b: the sense file 'senses/b.py' is outside the workspace: move it into {home}",
        f"nerve.yaml:4: senses.c.path: the sense file '/etc/passwd' is outside the workspace: move it into {home}",
    )


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
