"""The differences between two configurations, each as one short sentence."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.config.config import Config, LogsConfig, ReflexConfig, SenseConfig
from nerve.config.diff import changes

CPU = SenseConfig("cpu", "/w/senses/cpu.py", "io", None, 30.0, 5.0)
EVERY = ReflexConfig("cpu-every-10s", "cpu", 10.0)
BASE = Config(2, 4.0, None, None, {"cpu": CPU}, (EVERY,), LogsConfig())


def with_sense(**changed: object) -> Config:
    """Return the configuration with a changed sense."""
    return replace(BASE, senses={"cpu": replace(CPU, **changed)})  # type: ignore[arg-type]


def with_reflex(**changed: object) -> Config:
    """Return the configuration with a changed reflex."""
    return replace(BASE, reflexes=(replace(EVERY, **changed),))  # type: ignore[arg-type]


def with_logs(**changed: object) -> Config:
    """Return the configuration with a changed section `logs`."""
    return replace(BASE, logs=replace(BASE.logs, **changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("new", "described"),
    [
        (BASE, ()),
        (replace(BASE, workers=8), ("workers 2 -> 8",)),
        (replace(BASE, shutdown_timeout=1.5), ("shutdown_timeout 4s -> 1.5s",)),
        (replace(BASE, max_runs=1000), ("max_runs none -> 1000",)),
        (replace(BASE, max_rss=512 * 1024**2), ("max_rss none -> 512MB",)),
        (with_sense(path="/w/lib/x.py"), ("sense cpu: path /w/senses/cpu.py -> /w/lib/x.py",)),
        (with_sense(group=None), ("sense cpu: group io -> none",)),
        (with_sense(throttle=90.0), ("sense cpu: throttle none -> 1m30s",)),
        (
            with_sense(timeout=60.0, grace_period=0.0),
            ("sense cpu: timeout 30s -> 1m", "sense cpu: grace_period 5s -> 0s"),
        ),
        (with_reflex(interval=5.0), ("reflex cpu-every-10s: interval 10s -> 5s",)),
        (
            with_reflex(interval=None, on=("cpu", "disk")),
            ("reflex cpu-every-10s: interval 10s -> none", "reflex cpu-every-10s: on none -> cpu, disk"),
        ),
        (with_reflex(name="quick"), ("reflex cpu-every-10s: removed", "reflex quick: added")),
        (replace(BASE, senses={}), ("sense cpu: removed",)),
        (replace(BASE, reflexes=()), ("reflex cpu-every-10s: removed",)),
        (replace(BASE, senses={"a": SenseConfig("a", "/a"), "cpu": CPU}), ("sense a: added",)),
        (with_logs(retention=86400.0), ("logs.retention 30d -> 1d",)),
        (with_logs(max_payload=128 * 1024), ("logs.max_payload 64KB -> 128KB",)),
        (with_logs(redact=("pin", "cvc")), ("logs.redact none -> pin, cvc",)),
        (with_logs(compress="zstd"), ("logs.compress none -> zstd",)),
        (with_logs(max_size=1536 * 1024**2), ("logs.max_size none -> 1.5GB",)),
    ],
)
def test_each_difference_is_a_sentence(new: Config, described: tuple[str, ...]) -> None:
    """Values are shown as they are written in nerve.yaml."""
    assert changes(BASE, new) == described


def test_differences_come_in_the_order_of_the_file() -> None:
    """Global keys come first, then senses, reflexes and the log; removed entries come before added ones."""
    new = Config(3, 4.0, None, None, {"b": SenseConfig("b", "/b")}, (), LogsConfig(archive_interval=60.0))
    assert changes(BASE, new) == (
        "workers 2 -> 3",
        "sense cpu: removed",
        "sense b: added",
        "reflex cpu-every-10s: removed",
        "logs.archive_interval 1h -> 1m",
    )


def test_another_order_in_the_file_is_not_a_difference() -> None:
    """The engine does the same after an entry was moved."""
    other = SenseConfig("b", "/b")
    one, two = replace(BASE, senses={"cpu": CPU, "b": other}), replace(BASE, senses={"b": other, "cpu": CPU})
    assert changes(one, two) == ()


def test_a_change_of_workers_without_effect_says_why() -> None:
    """The other sentences stay as they are."""
    new = replace(BASE, workers=8, max_runs=5)
    assert changes(BASE, new, 4) == (
        "workers 2 -> 8 (stays 4: --workers or $NERVE_WORKERS wins)",
        "max_runs none -> 5",
    )


durations = st.sampled_from((0.01, 0.5, 1.0, 90.0, 86400.0))
configs = st.builds(
    Config,
    workers=st.integers(1, 64),
    shutdown_timeout=durations,
    max_runs=st.none() | st.integers(1, 9),
    max_rss=st.none() | st.sampled_from((1024**2, 1024**3)),
    senses=st.dictionaries(
        st.sampled_from("ab"), st.builds(SenseConfig, st.just("a"), st.just("/a"), timeout=durations)
    ),
    reflexes=st.lists(
        st.builds(ReflexConfig, st.sampled_from("rs"), st.just("a"), durations), unique_by=lambda r: r.name
    ).map(tuple),
    logs=st.builds(LogsConfig, retention=durations, redact=st.lists(st.sampled_from("xy"), unique=True).map(tuple)),
)


@given(old=configs, new=configs)
def test_there_is_a_sentence_if_and_only_if_something_differs(old: Config, new: Config) -> None:
    """Every change has a sentence, and each sentence is one line."""
    described = changes(old, new)
    entries_differ = {r.name: r for r in old.reflexes} != {r.name: r for r in new.reflexes}
    others = [field.name for field in fields(Config) if field.name != "reflexes"]
    assert bool(described) == (entries_differ or any(getattr(old, name) != getattr(new, name) for name in others))
    assert all(line.isprintable() for line in described)
