"""The shutdown ladder: its moments are in order, whatever the deadline, and being asked again only hurries it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.kernel.shutdown import HURRY_SECONDS, Ladder, Stage

NOW = st.floats(0, 1e7)
TIMEOUT = st.floats(0, 1e5)


def in_order(ladder: Ladder) -> bool:
    """Tell whether no moment comes before an earlier one's."""
    return ladder.interrupt_at <= ladder.kill_at <= ladder.record_by <= ladder.end_at


def test_the_default_deadline_leaves_time_for_each_stage() -> None:
    """Of four seconds, two are for computes to finish, and enough is left to clean up, record and drain."""
    assert Ladder.plan("SIGTERM", 100.0, 4.0) == Ladder("SIGTERM", 102.0, 102.6, 103.4, 104.0)


@given(now=NOW, timeout=TIMEOUT)
def test_a_plan_begins_now_and_ends_at_the_deadline(now: float, timeout: float) -> None:
    """All moments lie between, in order; none is left for after the end."""
    ladder = Ladder.plan("stop", now, timeout)
    assert in_order(ladder)
    assert now <= ladder.interrupt_at
    assert ladder.end_at == now + timeout


@given(now=NOW, timeout=TIMEOUT, later=st.floats(0, 1e5))
def test_hurrying_interrupts_now_and_never_delays(now: float, timeout: float, later: float) -> None:
    """Computes have little time left, the log keeps its own, and order is kept at whatever moment it happens."""
    ladder = Ladder.plan("stop", now, timeout)
    hurried = ladder.hurried(now + later)
    assert in_order(hurried)
    assert hurried.interrupt_at <= min(ladder.interrupt_at, now + later)
    assert hurried.kill_at <= min(ladder.kill_at, now + later + HURRY_SECONDS)
    assert (hurried.record_by, hurried.end_at, hurried.reason) == (ladder.record_by, ladder.end_at, "stop")


@given(now=NOW, timeout=TIMEOUT, asked=st.lists(st.floats(0, 10), max_size=5))
def test_asking_again_and_again_changes_nothing_more(now: float, timeout: float, asked: list[float]) -> None:
    """The first hurry counts; further ones can't push the end of the computes back."""
    ladder = Ladder.plan("stop", now, timeout).hurried(now)
    for later in asked:
        assert ladder.hurried(now + later) == ladder


@given(now=NOW, timeout=TIMEOUT, later=st.floats(0, 2e5))
def test_the_next_moment_is_always_ahead(now: float, timeout: float, later: float) -> None:
    """The loop never spins: what is due is either one of the ladder's moments, or a little later."""
    ladder = Ladder.plan("stop", now, timeout)
    moment = now + later
    due = ladder.next_moment(moment)
    assert due > moment
    assert due in (ladder.interrupt_at, ladder.kill_at, ladder.record_by, ladder.end_at) or moment >= ladder.end_at


def test_the_next_moments_come_one_after_the_other() -> None:
    """Walking from moment to moment passes all of them."""
    ladder, moment, walked = Ladder.plan("stop", 0.0, 4.0), 0.0, []
    for _ in range(4):
        moment = ladder.next_moment(moment)
        walked.append(moment)
    assert walked == [ladder.interrupt_at, ladder.kill_at, ladder.record_by, ladder.end_at]


def test_stages_only_go_down() -> None:
    """Their numbers are in the order in which they are passed."""
    assert list(Stage) == sorted(Stage)
    assert min(Stage) is Stage.RUNNING
    assert max(Stage) is Stage.OVER


@pytest.mark.parametrize("timeout", [0.0, 0.001])
def test_a_deadline_of_next_to_nothing_is_a_plan_as_well(timeout: float) -> None:
    """Everything is due at once."""
    ladder = Ladder.plan("stop", 5.0, timeout).hurried(5.0)
    assert in_order(ladder)
    assert ladder.end_at - 5.0 == pytest.approx(timeout)
