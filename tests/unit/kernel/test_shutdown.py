"""The shutdown ladder: its moments are in order, whatever the deadline, and a second request only hurries it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.kernel.shutdown import HURRY_SECONDS, Ladder, Stage

NOW = st.floats(0, 1e7)
TIMEOUT = st.floats(0, 1e5)


def in_order(ladder: Ladder) -> bool:
    """Return True if the moments of a ladder are in the order of its stages."""
    return ladder.interrupt_at <= ladder.kill_at <= ladder.record_by <= ladder.end_at


def test_the_default_deadline_leaves_time_for_each_stage() -> None:
    """Of four seconds, computes have two to finish, and enough is left to clean up, record and drain."""
    assert Ladder.plan("SIGTERM", 100.0, 4.0) == Ladder("SIGTERM", 102.0, 102.6, 103.4, 104.0)


@given(now=NOW, timeout=TIMEOUT)
def test_a_plan_begins_now_and_ends_at_the_deadline(now: float, timeout: float) -> None:
    """All moments lie in between, in order."""
    ladder = Ladder.plan("stop", now, timeout)
    assert in_order(ladder)
    assert now <= ladder.interrupt_at
    assert ladder.end_at == now + timeout


@given(now=NOW, timeout=TIMEOUT, later=st.floats(0, 1e5))
def test_hurrying_interrupts_now_and_never_delays(now: float, timeout: float, later: float) -> None:
    """Computes have little time left, the log keeps its time, and the moments stay in order."""
    ladder = Ladder.plan("stop", now, timeout)
    hurried = ladder.hurried(now + later)
    assert in_order(hurried)
    assert hurried.interrupt_at <= min(ladder.interrupt_at, now + later)
    assert hurried.kill_at <= min(ladder.kill_at, now + later + HURRY_SECONDS)
    assert (hurried.record_by, hurried.end_at, hurried.reason) == (ladder.record_by, ladder.end_at, "stop")


@given(now=NOW, timeout=TIMEOUT, asked=st.lists(st.floats(0, 10), max_size=5))
def test_further_requests_after_the_second_change_nothing(now: float, timeout: float, asked: list[float]) -> None:
    """Only the first hurry counts; further ones can't delay the end of the computes."""
    ladder = Ladder.plan("stop", now, timeout).hurried(now)
    for later in asked:
        assert ladder.hurried(now + later) == ladder


@given(now=NOW, timeout=TIMEOUT, later=st.floats(0, 2e5))
def test_the_next_deadline_is_always_in_the_future(now: float, timeout: float, later: float) -> None:
    """The loop never spins: the deadline is one of the moments, or, past the last one, a little later."""
    ladder = Ladder.plan("stop", now, timeout)
    moment = now + later
    due = ladder.next_deadline(moment)
    assert due > moment
    assert due in (ladder.interrupt_at, ladder.kill_at, ladder.record_by, ladder.end_at) or moment >= ladder.end_at


def test_each_moment_is_followed_by_the_next_one() -> None:
    """Going from deadline to deadline passes all moments of the ladder."""
    ladder, moment, walked = Ladder.plan("stop", 0.0, 4.0), 0.0, []
    for _ in range(4):
        moment = ladder.next_deadline(moment)
        walked.append(moment)
    assert walked == [ladder.interrupt_at, ladder.kill_at, ladder.record_by, ladder.end_at]


def test_stages_are_numbered_in_their_order() -> None:
    """A stop begins with RUNNING and ends with OVER."""
    assert list(Stage) == sorted(Stage)
    assert min(Stage) is Stage.RUNNING
    assert max(Stage) is Stage.OVER


@pytest.mark.parametrize("timeout", [0.0, 0.001])
def test_a_stop_without_time_is_planned_as_well(timeout: float) -> None:
    """All moments come at once."""
    ladder = Ladder.plan("stop", 5.0, timeout).hurried(5.0)
    assert in_order(ladder)
    assert ladder.end_at - 5.0 == pytest.approx(timeout)
