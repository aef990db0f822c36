"""Changes of the rules while the engine runs, one example each."""

from __future__ import annotations

import pytest
from support.scheduling import EVERY_SECOND, A, B, C, by_hand, run, signal, take, turn

from nerve.scheduling.rules import Reflex, SenseRule, Start
from nerve.scheduling.schedule import Schedule


class TestOtherRules:
    """The state of all that is the same in the old and the new rules is kept."""

    def test_an_unchanged_reflex_keeps_its_ticks(self) -> None:
        """Also if another reflex is added, or the rule of its own sense changes."""
        schedule = Schedule([A, B], [EVERY_SECOND], now=0.0)
        assert turn(schedule, 0.0) == ["a"]
        schedule.finished("a", 0.1, died=False)
        rules = [SenseRule("a", "g"), B]
        assert schedule.replace(rules, [Reflex("b-every-1s", "b", interval=1.0), EVERY_SECOND], 0.4) == ()
        assert schedule.due("a") == 1.0
        assert turn(schedule, 0.4) == ["b"]
        assert (schedule.due("a"), schedule.due("b")) == (1.0, 1.4)
        assert turn(schedule, 1.0) == ["a"]

    @pytest.mark.parametrize(
        "changed",
        [Reflex("a-every-1s", "a", interval=2.0), Reflex("renamed", "a", interval=1.0)],
        ids=["another interval", "another name"],
    )
    def test_a_changed_reflex_ticks_at_the_change(self, changed: Reflex) -> None:
        """Its interval begins at that moment."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        assert turn(schedule, 0.0) == ["a"]
        schedule.finished("a", 0.1, died=False)
        schedule.replace([A], [changed], 0.3)
        assert schedule.next_deadline() == 0.3
        assert turn(schedule, 0.3) == ["a"]

    def test_a_reflex_that_moves_to_another_sense_is_a_new_one(self) -> None:
        """Its name alone does not make it the same reflex."""
        schedule = Schedule([A, B], [Reflex("r", "a", interval=1.0)], now=0.0)
        schedule.fire_timers(0.0)
        schedule.replace([A, B], [Reflex("r", "b", interval=1.0)], 0.5)
        assert turn(schedule, 0.5) == ["a", "b"]
        assert (schedule.due("a"), schedule.due("b")) == (None, 1.5)

    def test_a_pending_start_of_a_removed_reflex_is_kept(self) -> None:
        """The reflex does not tick any more."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        schedule.fire_timers(0.0)
        schedule.replace([A], [], 0.0)
        assert take(schedule, 0.0, 1) == [Start(sense="a", kind="interval", reflex="a-every-1s", due=0.0)]
        schedule.finished("a", 0.1, died=False)
        assert schedule.next_deadline() is None
        assert turn(schedule, 10.0) == []

    def test_a_reflex_that_is_removed_and_added_again_is_a_new_one(self) -> None:
        """Its interval begins when it is added."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        schedule.fire_timers(0.0)
        schedule.replace([A], [], 0.2)
        schedule.replace([A], [EVERY_SECOND], 0.5)
        assert schedule.due("a") == 0.0
        assert turn(schedule, 0.5) == ["a"]
        schedule.finished("a", 0.5, died=False)
        assert schedule.due("a") == 1.5

    def test_missed_ticks_are_counted_across_a_change(self) -> None:
        """An unchanged reflex has the same ticks, so the same ones were missed."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        schedule.replace([A, B], [EVERY_SECOND], 1.5)
        schedule.fire_timers(3.5)
        assert [(start.due, start.skipped) for start in take(schedule, 3.5, 1)] == [(3.0, 3)]

    def test_a_signal_fires_the_reflexes_of_the_new_rules(self) -> None:
        """From the next signal on."""
        schedule = Schedule([A, B, C], [Reflex("r", "b", on=("a",))], now=0.0)
        schedule.replace([A, B, C], [Reflex("r", "c", on=("a",))], 1.0)
        schedule.signalled(signal("a"), 1.0)
        assert turn(schedule, 1.0) == ["c"]

    def test_a_current_run_goes_on_and_does_not_overlap_the_next(self) -> None:
        """It ends under the rules that are active then, and the pending start follows."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        assert turn(schedule, 0.0) == ["a"]
        schedule.replace([SenseRule("a", "g", 0.5)], [EVERY_SECOND], 0.1)
        assert schedule.state("a", 0.1) == "running"
        assert turn(schedule, 2.0) == []
        schedule.finished("a", 2.1, died=False)
        assert turn(schedule, 2.1) == ["a"]

    def test_a_throttle_counts_from_the_last_start(self) -> None:
        """A new, longer, shorter or removed throttle applies at once, also to a pending start."""
        schedule = Schedule([SenseRule("a", throttle=100.0)], [], now=0.0)
        run(schedule, "a", 10.0)
        schedule.triggered("a", 11.0, ticket=7)
        for throttle, wake in ((5.0, 15.0), (20.0, 30.0), (100.0, 110.0)):
            schedule.replace([SenseRule("a", throttle=throttle)], [], 12.0)
            assert (turn(schedule, 12.0), schedule.next_deadline(), schedule.state("a", 12.0)) == (
                [],
                wake,
                "throttled",
            )
        schedule.replace([A], [], 13.0)
        assert take(schedule, 13.0, 1) == [by_hand("a", 11.0, (7,))]

    def test_a_back_off_survives_the_change(self) -> None:
        """A change of something else does not end it."""
        schedule = Schedule([A], [], now=0.0)
        run(schedule, "a", 0.0, died=True)
        assert run(schedule, "a", 0.0, died=True) == 1.0
        schedule.triggered("a", 0.1)
        schedule.replace([A, B], [], 0.2)
        assert (schedule.state("a", 0.2), schedule.next_deadline()) == ("backoff", 1.0)
        assert turn(schedule, 1.0) == ["a"]
        assert schedule.finished("a", 1.0, died=True) == 2.0

    def test_the_groups_are_those_of_the_new_rules(self) -> None:
        """A running sense counts for its new group; one that has left a busy group starts at once."""
        schedule = Schedule([SenseRule("a", "g"), SenseRule("b", "g"), C], [], now=0.0)
        for sense in ("a", "b", "c"):
            schedule.triggered(sense, 0.0)
        assert turn(schedule, 0.0) == ["a", "c"]
        schedule.replace([SenseRule("a", "g"), SenseRule("b"), SenseRule("c", "g")], [], 1.0)
        assert turn(schedule, 1.0) == ["b"]
        schedule.finished("a", 2.0, died=False)
        schedule.triggered("a", 2.0)
        assert turn(schedule, 2.0) == []
        schedule.finished("c", 3.0, died=False)
        assert turn(schedule, 3.0) == ["a"]

    def test_a_removed_sense_finishes_its_run_and_holds_its_group_until_then(self) -> None:
        """Its pending start is dropped, and the tickets of that are returned."""
        schedule = Schedule([SenseRule("a", "g"), SenseRule("b", "g")], [], now=0.0)
        schedule.triggered("a", 0.0)
        assert turn(schedule, 0.0) == ["a"]
        for ticket in (1, 2):
            schedule.triggered("a", 0.5, ticket=ticket)
        schedule.triggered("b", 0.5, ticket=3)
        assert schedule.replace([SenseRule("b", "g")], [], 1.0) == (1, 2)
        with pytest.raises(KeyError):
            schedule.triggered("a", 1.0)
        assert turn(schedule, 1.0) == []
        assert schedule.finished("a", 2.0, died=True) == 0.0
        assert turn(schedule, 2.0) == ["b"]
        with pytest.raises(KeyError):
            schedule.finished("a", 3.0, died=False)

    def test_a_sense_that_is_added_again_while_it_still_runs_is_the_same_one(self) -> None:
        """It does not overlap itself, and its throttle counts from the start of that run."""
        schedule = Schedule([A], [], now=0.0)
        schedule.triggered("a", 0.0)
        assert turn(schedule, 0.0) == ["a"]
        schedule.replace([], [], 1.0)
        schedule.replace([B], [], 1.0)
        schedule.replace([SenseRule("a", throttle=5.0)], [EVERY_SECOND], 2.0)
        assert turn(schedule, 2.0) == []
        schedule.finished("a", 3.0, died=False)
        assert (turn(schedule, 3.0), schedule.next_deadline()) == ([], 4.0)
        assert turn(schedule, 5.0) == ["a"]

    def test_the_order_of_service_is_kept(self) -> None:
        """It does not depend on the order of the senses in the new rules."""
        schedule = Schedule([A, B, C], [], now=0.0)
        for sense in ("c", "a", "b"):
            schedule.triggered(sense, 0.0)
        schedule.replace([B, A, C], [], 1.0)
        assert turn(schedule, 1.0) == ["c", "a", "b"]

    def test_a_halted_schedule_stays_halted(self) -> None:
        """A change that arrives while the engine stops has no effect."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        schedule.halt()
        assert schedule.replace([A, B], [EVERY_SECOND], 1.0) == ()
        assert (turn(schedule, 5.0), schedule.next_deadline()) == ([], None)
        assert not schedule.triggered("a", 5.0)

    def test_a_reflex_of_an_unknown_sense_is_an_error(self) -> None:
        """It raises KeyError, as in the constructor."""
        with pytest.raises(KeyError):
            Schedule([A], [], now=0.0).replace([B], [EVERY_SECOND], 1.0)
