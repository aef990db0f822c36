"""What the kernel remembers of a sense: its last run, and how long the next one is expected to take."""

from __future__ import annotations

import pytest
from support.pool import run_of

from nerve.config.config import Config, SenseConfig
from nerve.events.model import Status
from nerve.kernel.sense_history import SenseHistories, expected_ms
from nerve.processes.messages import RunResult


def histories(throttle: float | None = None) -> SenseHistories:
    """Make the histories of a configuration with one sense."""
    return SenseHistories(config(throttle))


def config(throttle: float | None = None) -> Config:
    """Make a configuration with one sense."""
    return Config(senses={"hand": SenseConfig("hand", "/w/hand.py", throttle=throttle)})


def end(senses: SenseHistories, status: Status = "ok", ms: float = 0.1, db_close_ms: float = 0.0) -> None:
    """Record the end of a run."""
    history = senses.of("hand")
    assert history
    result = RunResult(run_id="hand/1", status=status, duration_ms=ms, db_close_ms=db_close_ms)
    history.record(run_of("hand"), result, 7)


@pytest.mark.parametrize(
    ("before", "ms", "expected"),
    [(None, 5.0, 5.0), (4.0, 5.0, 5.0), (20.0, 5.0, 10.0), (8.0, 5.0, 5.0), (0.0, 0.0, 0.0)],
)
def test_a_long_run_is_remembered_for_a_while(before: float | None, ms: float, expected: float) -> None:
    """Each shorter run after it halves what is expected."""
    assert expected_ms(before, ms) == expected


@pytest.mark.parametrize(
    ("ends", "quick"),
    [
        ([], False),
        ([("ok", 0.1)], True),
        ([("ok", 0.1), ("ok", 900.0)], False),
        ([("ok", 0.4), ("ok", 0.1)], True),
        ([("ok", 900.0), ("ok", 0.1)], False),
        ([("error", 0.1)], True),
        ([("died", 0.1)], False),
        ([("ok", 0.1), ("cancelled", 0.0)], True),
    ],
)
def test_a_sense_is_quick_after_short_runs_only(ends: list[tuple[Status, float]], *, quick: bool) -> None:
    """A slow run, or one that cost its worker, is remembered for a while; a cancelled one says nothing."""
    senses = histories()
    for status, ms in ends:
        end(senses, status, ms)
    assert senses.is_quick("hand") is quick


def test_closing_its_databases_is_part_of_the_time_a_sense_takes() -> None:
    """A run that is queued behind it has to wait for that, too."""
    senses = histories()
    end(senses, ms=0.1, db_close_ms=5.0)
    assert not senses.is_quick("hand")


def test_a_sense_with_a_throttle_is_never_quick() -> None:
    """The throttle counts from the start of a run, which must be when it begins; also after a change."""
    senses = histories(throttle=0.001)
    end(senses)
    assert not senses.is_quick("hand")
    senses.apply(config())
    end(senses)
    assert senses.is_quick("hand")
    senses.apply(config(throttle=1.0))
    assert not senses.is_quick("hand")


def test_the_failures_since_the_last_good_run_are_counted() -> None:
    """A cancelled run neither counts nor ends the count."""
    senses = histories()
    for status, failures in (("ok", 0), ("error", 1), ("cancelled", 1), ("died", 2), ("timeout", 3), ("ok", 0)):
        end(senses, status)  # type: ignore[arg-type]
        history = senses.of("hand")
        assert history
        assert (history.last_status, history.failures, history.last_ts) == (status, failures, 7)


def test_a_removed_sense_is_forgotten() -> None:
    """It is neither quick nor known; one that comes back begins with nothing."""
    senses = histories()
    end(senses)
    senses.apply(Config())
    assert (senses.of("hand"), senses.is_quick("hand"), senses.all()) == (None, False, {})
    senses.apply(config())
    assert not senses.is_quick("hand")
