"""Other rules while the engine runs, one example each."""

from __future__ import annotations

import pytest
from support.scheduling import EVERY_SECOND, A, B, C, by_hand, run, signal, turn

from nerve.scheduling.rules import Reflex, SenseRule, Start
from nerve.scheduling.schedule import Schedule
from nerve.scheduling.slots import Places


class TestOtherRules:
    """The rules change while the engine runs: what is the same in both stays as it is."""

    def test_an_unchanged_reflex_keeps_its_beat(self) -> None:
        """Neither the edit of another one, nor of its own sense's rule, moves it."""
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
    def test_a_changed_reflex_begins_anew(self, changed: Reflex) -> None:
        """Its first beat is at the change."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        assert turn(schedule, 0.0) == ["a"]
        schedule.finished("a", 0.1, died=False)
        schedule.replace([A], [changed], 0.3)
        assert schedule.next_wake() == 0.3
        assert turn(schedule, 0.3) == ["a"]

    def test_a_reflex_that_moves_to_another_sense_is_another_one(self) -> None:
        """Its name alone does not make it the same."""
        schedule = Schedule([A, B], [Reflex("r", "a", interval=1.0)], now=0.0)
        schedule.beat(0.0)
        schedule.replace([A, B], [Reflex("r", "b", interval=1.0)], 0.5)
        assert turn(schedule, 0.5) == ["a", "b"]
        assert (schedule.due("a"), schedule.due("b")) == (None, 1.5)

    def test_a_removed_reflex_ends_but_what_it_has_fired_runs(self) -> None:
        """No run that is pending is lost by an edit."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        schedule.beat(0.0)
        schedule.replace([A], [], 0.0)
        assert schedule.take(0.0, Places(1)) == [Start("a", "interval", "a-every-1s", None, 0, 0, 0.0, ())]
        schedule.finished("a", 0.1, died=False)
        assert schedule.next_wake() is None
        assert turn(schedule, 10.0) == []

    def test_a_reflex_that_comes_back_begins_anew(self) -> None:
        """What was gone for a while has not been counted."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        schedule.beat(0.0)
        schedule.replace([A], [], 0.2)
        schedule.replace([A], [EVERY_SECOND], 0.5)
        assert schedule.due("a") == 0.0
        assert turn(schedule, 0.5) == ["a"]
        schedule.finished("a", 0.5, died=False)
        assert schedule.due("a") == 1.5

    def test_missed_beats_are_counted_across_the_change(self) -> None:
        """The grid is the same, and so is what was missed of it."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        schedule.replace([A, B], [EVERY_SECOND], 1.5)
        schedule.beat(3.5)
        assert [(start.due, start.skipped) for start in schedule.take(3.5, Places(1))] == [(3.0, 3)]

    def test_signals_go_where_the_new_rules_say(self) -> None:
        """From the next signal on."""
        schedule = Schedule([A, B, C], [Reflex("r", "b", on=("a",))], now=0.0)
        schedule.replace([A, B, C], [Reflex("r", "c", on=("a",))], 1.0)
        schedule.signalled(signal("a"), 1.0)
        assert turn(schedule, 1.0) == ["c"]

    def test_a_run_goes_on_and_never_overlaps_itself(self) -> None:
        """It ends under whatever rules are then in force, and what waits for it comes after."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        assert turn(schedule, 0.0) == ["a"]
        schedule.replace([SenseRule("a", "g", 0.5)], [EVERY_SECOND], 0.1)
        assert schedule.state("a", 0.1) == "running"
        assert turn(schedule, 2.0) == []
        schedule.finished("a", 2.1, died=False)
        assert turn(schedule, 2.1) == ["a"]

    def test_a_throttle_counts_from_the_last_start(self) -> None:
        """One that is new, longer, shorter or gone holds from that moment, for what is pending too."""
        schedule = Schedule([SenseRule("a", throttle=100.0)], [], now=0.0)
        run(schedule, "a", 10.0)
        schedule.triggered("a", 11.0, ticket=7)
        for throttle, wake in ((5.0, 15.0), (20.0, 30.0), (100.0, 110.0)):
            schedule.replace([SenseRule("a", throttle=throttle)], [], 12.0)
            assert (turn(schedule, 12.0), schedule.next_wake(), schedule.state("a", 12.0)) == ([], wake, "throttled")
        schedule.replace([A], [], 13.0)
        assert schedule.take(13.0, Places(1)) == [by_hand("a", 11.0, (7,))]

    def test_a_back_off_survives_the_change(self) -> None:
        """Editing something else does not set a poison sense free."""
        schedule = Schedule([A], [], now=0.0)
        run(schedule, "a", 0.0, died=True)
        assert run(schedule, "a", 0.0, died=True) == 1.0
        schedule.triggered("a", 0.1)
        schedule.replace([A, B], [], 0.2)
        assert (schedule.state("a", 0.2), schedule.next_wake(), schedule.deaths("a")) == ("backoff", 1.0, 2)
        assert turn(schedule, 1.0) == ["a"]

    def test_groups_exclude_by_the_new_rules(self) -> None:
        """Who runs counts for the group that it is in now; who no longer shares it starts at once."""
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
        """What was pending for it is dropped: its tickets come back."""
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

    def test_a_sense_that_comes_back_while_it_still_runs_is_the_same_one(self) -> None:
        """It does not overlap itself, and its throttle counts from that start."""
        schedule = Schedule([A], [], now=0.0)
        schedule.triggered("a", 0.0)
        assert turn(schedule, 0.0) == ["a"]
        schedule.replace([], [], 1.0)
        schedule.replace([B], [], 1.0)
        schedule.replace([SenseRule("a", throttle=5.0)], [EVERY_SECOND], 2.0)
        assert turn(schedule, 2.0) == []
        schedule.finished("a", 3.0, died=False)
        assert (turn(schedule, 3.0), schedule.next_wake()) == ([], 4.0)
        assert turn(schedule, 5.0) == ["a"]

    def test_the_order_of_service_stays(self) -> None:
        """First due, first served, whatever order the new file has."""
        schedule = Schedule([A, B, C], [], now=0.0)
        for sense in ("c", "a", "b"):
            schedule.triggered(sense, 0.0)
        schedule.replace([B, A, C], [], 1.0)
        assert turn(schedule, 1.0) == ["c", "a", "b"]

    def test_a_halted_schedule_stays_halted(self) -> None:
        """A change that arrives while the engine stops brings nothing back."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        schedule.halt()
        assert schedule.replace([A, B], [EVERY_SECOND], 1.0) == ()
        assert (turn(schedule, 5.0), schedule.next_wake()) == ([], None)
        assert not schedule.triggered("a", 5.0)

    def test_a_reflex_of_an_unknown_sense_is_refused(self) -> None:
        """As at the start."""
        with pytest.raises(KeyError):
            Schedule([A], [], now=0.0).replace([B], [EVERY_SECOND], 1.0)
