"""The scheduling rules, one example each."""

from __future__ import annotations

import pytest
from support.scheduling import EVERY_SECOND, MANY, A, B, C, by_hand, run, signal, turn

from nerve.events.trigger import MANUAL
from nerve.scheduling.rules import Reflex, SenseRule, Start, coalesce
from nerve.scheduling.schedule import Schedule
from nerve.scheduling.slots import Places


class TestIntervals:
    """A reflex with an interval fires on its grid."""

    def test_the_first_beat_is_at_once(self) -> None:
        """A reflex fires as soon as the schedule is there."""
        schedule = Schedule([A], [EVERY_SECOND], now=100.25)
        schedule.beat(100.25)
        assert schedule.take(100.25, Places(1)) == [Start("a", "interval", "a-every-1s", None, 0, 0, 100.25, ())]

    def test_an_offset_puts_all_beats_off(self) -> None:
        """The grid of a reflex begins its offset after the schedule."""
        schedule = Schedule([A], [Reflex("late", "a", interval=1.0, offset=0.25)], now=100.0)
        assert turn(schedule, 100.0) == []
        assert schedule.next_wake() == 100.25
        assert turn(schedule, 100.25) == ["a"]
        assert schedule.next_wake() == 101.25

    def test_a_late_beat_does_not_shift_the_next(self) -> None:
        """The next due time is counted from the previous due time, not from when the loop got to it."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        for now, due in [(0.4, 0.0), (1.9, 1.0), (2.0, 2.0)]:
            schedule.beat(now)
            assert [start.due for start in schedule.take(now, Places(1))] == [due]
            schedule.finished("a", now, died=False)
        assert schedule.next_wake() == 3.0

    def test_missed_beats_are_skipped_and_counted(self) -> None:
        """After a gap a sense runs once, for the last beat, and the start tells how many it didn't run for."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        schedule.beat(3.5)
        (start,) = schedule.take(3.5, Places(1))
        assert (start.due, start.skipped, start.coalesced) == (3.0, 3, 0)
        assert schedule.next_wake() == 4.0

    def test_skipped_beats_add_up_while_a_start_is_pending(self) -> None:
        """What was skipped before each of the coalesced triggers is counted in the one start that answers them."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        schedule.beat(1.5)
        schedule.beat(4.5)
        (start,) = schedule.take(4.5, Places(1))
        assert (start.due, start.skipped, start.coalesced) == (1.0, 3, 1)


class TestSignals:
    """A reflex with `on` fires when any of its senses has signalled."""

    def test_any_of_its_senses_fires_it(self) -> None:
        """Each of the senses in `on` fires the reflex, and the start carries the signal."""
        schedule = Schedule([A, B, C], [Reflex("alert", "c", on=("a", "b"))], now=0.0)
        for now, source in [(1.0, "a"), (2.0, "b")]:
            schedule.signalled(signal(source), now)
            assert schedule.take(now, Places(1)) == [Start("c", "signal", "alert", signal(source), 0, 0, now, ())]
            schedule.finished("c", now, died=False)

    def test_a_signal_that_nobody_listens_to_fires_nothing(self) -> None:
        """Neither a sense that no reflex is on, nor a signal sent by hand, makes anything run."""
        schedule = Schedule([A, B], [Reflex("alert", "b", on=("a",))], now=0.0)
        schedule.signalled(signal("b"), 1.0)
        schedule.signalled(signal(MANUAL), 1.0)
        assert turn(schedule, 1.0) == []

    def test_two_reflexes_of_one_sense_coalesce(self) -> None:
        """One signal that fires two reflexes of a sense is two triggers and one run."""
        schedule = Schedule([A, B], [Reflex("one", "b", on=("a",)), Reflex("two", "b", on=("a",))], now=0.0)
        schedule.signalled(signal("a"), 1.0)
        assert schedule.take(1.0, Places(MANY)) == [Start("b", "signal", "two", signal("a"), 1, 0, 1.0, ())]

    def test_a_sense_named_twice_fires_once(self) -> None:
        """A repetition in `on` means nothing."""
        schedule = Schedule([A, B], [Reflex("alert", "b", on=("a", "a"))], now=0.0)
        schedule.signalled(signal("a"), 1.0)
        (start,) = schedule.take(1.0, Places(MANY))
        assert start.coalesced == 0


class TestByHand:
    """A sense can be triggered by hand."""

    def test_it_runs_at_once_with_its_signal_and_ticket(self) -> None:
        """The start bears what the hand gave."""
        schedule = Schedule([A], [], now=0.0)
        assert schedule.triggered("a", 1.0, signal=signal(MANUAL), ticket=7)
        assert schedule.take(1.0, Places(1)) == [Start("a", "manual", None, signal(MANUAL), 0, 0, 1.0, (7,))]

    def test_an_unknown_sense_is_an_error(self) -> None:
        """What isn't configured can't be triggered, finished, or be the sense of a reflex."""
        schedule = Schedule([A], [], now=0.0)
        with pytest.raises(KeyError):
            schedule.triggered("b", 1.0)
        with pytest.raises(KeyError):
            schedule.finished("b", 1.0, died=False)
        with pytest.raises(KeyError):
            Schedule([A], [Reflex("alert", "b", on=("a",))], now=0.0)


class TestCoalescing:
    """A sense never overlaps itself: what comes meanwhile becomes one further run."""

    def test_a_sense_does_not_start_while_it_runs(self) -> None:
        """A trigger during a run waits for its end, however many workers are free."""
        schedule = Schedule([A], [], now=0.0)
        schedule.triggered("a", 0.0)
        assert turn(schedule, 0.0) == ["a"]
        schedule.triggered("a", 1.0)
        assert turn(schedule, 1.0) == []
        schedule.finished("a", 2.0, died=False)
        assert schedule.take(2.0, Places(1)) == [by_hand("a", due=1.0)]

    def test_all_triggers_during_a_run_become_one(self) -> None:
        """Three triggers during a run are one further run that counts two others and bears all tickets."""
        schedule = Schedule([A], [], now=0.0)
        schedule.triggered("a", 0.0, ticket=1)
        turn(schedule, 0.0)
        for now in (1.0, 2.0, 3.0):
            schedule.triggered("a", now, ticket=int(now) * 10)
        schedule.finished("a", 4.0, died=False)
        (start,) = schedule.take(4.0, Places(1))
        assert (start.due, start.coalesced, start.tickets) == (1.0, 2, (10, 20, 30))
        schedule.finished("a", 5.0, died=False)
        assert turn(schedule, 5.0) == []

    def test_the_latest_signal_wins_and_brings_its_kind_and_reflex(self) -> None:
        """A beat, two signals and a hand: the run gets the second signal and the reflex that it fired."""
        beat = Start("a", "interval", "every", None, 0, 2, 1.0, ())
        first = Start("a", "signal", "on-b", signal("b"), 0, 0, 2.0, ())
        second = Start("a", "signal", "on-c", signal("c"), 0, 0, 3.0, ())
        hand = by_hand("a", due=4.0, tickets=(1,))
        merged = coalesce(coalesce(coalesce(beat, first), second), hand)
        assert merged == Start("a", "signal", "on-c", signal("c"), 3, 2, 1.0, (1,))
        assert merged == coalesce(coalesce(beat, first), coalesce(second, hand))

    def test_without_a_signal_the_first_trigger_gives_kind_and_reflex(self) -> None:
        """A hand that comes after a beat doesn't make the run a manual one."""
        beat = Start("a", "interval", "every", None, 0, 0, 1.0, ())
        hand = by_hand("a", due=2.0)
        assert coalesce(beat, hand) == Start("a", "interval", "every", None, 1, 0, 1.0, ())
        assert coalesce(hand, beat) == Start("a", "manual", None, None, 1, 0, 2.0, ())


class TestThrottle:
    """A throttle is the least time between two starts of a sense."""

    def test_triggers_inside_the_window_are_deferred_to_its_end_once(self) -> None:
        """Two triggers inside the window become one start at its end, and then there is nothing left."""
        schedule = Schedule([SenseRule("a", throttle=5.0)], [], now=0.0)
        run(schedule, "a", 10.0)
        schedule.triggered("a", 11.0)
        schedule.triggered("a", 12.0)
        assert turn(schedule, 14.9) == []
        assert schedule.next_wake() == 15.0
        assert turn(schedule, 15.0) == ["a"]
        schedule.finished("a", 15.0, died=False)
        assert turn(schedule, 20.0) == []
        assert schedule.next_wake() is None

    def test_the_window_counts_from_the_start_not_the_end_of_a_run(self) -> None:
        """A run longer than the throttle is followed at once."""
        schedule = Schedule([SenseRule("a", throttle=5.0)], [], now=0.0)
        schedule.triggered("a", 0.0)
        turn(schedule, 0.0)
        schedule.triggered("a", 1.0)
        schedule.finished("a", 6.0, died=False)
        assert turn(schedule, 6.0) == ["a"]

    def test_the_next_wake_is_the_first_of_all_deferrals_and_beats(self) -> None:
        """Whichever comes first, the end of the window or a beat, wakes the loop."""
        schedule = Schedule([A, SenseRule("b", throttle=1.5)], [EVERY_SECOND], now=0.0)
        schedule.triggered("b", 0.0)
        assert turn(schedule, 0.0) == ["b", "a"]
        schedule.finished("b", 0.1, died=False)
        schedule.triggered("b", 0.2)
        assert schedule.next_wake() == 1.0
        schedule.beat(1.0)
        assert schedule.next_wake() == 1.5

    def test_a_throttled_sense_blocks_nobody_behind_it(self) -> None:
        """What is due later but may start goes ahead of what may not."""
        schedule = Schedule([SenseRule("a", throttle=5.0), B], [], now=0.0)
        run(schedule, "a", 0.0)
        schedule.triggered("a", 1.0)
        schedule.triggered("b", 2.0)
        assert turn(schedule, 2.0, free=1) == ["b"]


class TestGroups:
    """Senses of one group never run at the same time."""

    IO_A, IO_B, NET_C = SenseRule("a", group="io"), SenseRule("b", group="io"), SenseRule("c", group="net")

    def test_a_group_runs_one_at_a_time_and_in_order(self) -> None:
        """The second of a group starts when the first has finished; another group isn't held up."""
        schedule = Schedule([self.IO_A, self.IO_B, self.NET_C], [], now=0.0)
        for now, sense in enumerate("bac"):
            schedule.triggered(sense, now)
        assert turn(schedule, 3.0) == ["b", "c"]
        assert turn(schedule, 4.0) == []
        schedule.finished("b", 5.0, died=False)
        assert turn(schedule, 5.0) == ["a"]

    def test_what_comes_first_in_due_order_leads_whenever_it_joined(self) -> None:
        """A member whose run ended with an older trigger pending goes ahead of one that waited for that run."""
        schedule = Schedule([self.IO_A, self.IO_B], [], now=0.0)
        schedule.triggered("a", 0.0)
        turn(schedule, 0.0)
        schedule.triggered("a", 1.0)
        schedule.triggered("b", 2.0)
        schedule.finished("a", 3.0, died=False)
        assert turn(schedule, 3.0) == ["a"]

    def test_who_waited_for_the_group_keeps_the_place_among_all(self) -> None:
        """The wait for a group costs nobody the place in the order of due, when workers are scarce."""
        schedule = Schedule([self.IO_A, self.IO_B, self.NET_C], [], now=0.0)
        for now, sense in enumerate("ab"):
            schedule.triggered(sense, now)
        assert turn(schedule, 1.0, free=2) == ["a"]
        schedule.triggered("c", 2.0)
        schedule.finished("a", 3.0, died=False)
        assert turn(schedule, 3.0, free=1) == ["b"]

    def test_waiting_for_a_group_wakes_nobody(self) -> None:
        """Only the end of the run can change anything, so there is no moment to wake up for."""
        schedule = Schedule([self.IO_A, self.IO_B], [], now=0.0)
        schedule.triggered("a", 0.0)
        schedule.triggered("b", 0.0)
        assert turn(schedule, 0.0) == ["a"]
        assert schedule.next_wake() is None


class TestFairness:
    """When workers are scarce, first due is first served."""

    def test_first_due_first_served_and_ties_by_arrival(self) -> None:
        """One worker serves in the order of due, and of arrival where that is equal."""
        schedule = Schedule([A, B, C], [], now=0.0)
        for sense, now in [("c", 1.0), ("b", 2.0), ("a", 2.0)]:
            schedule.triggered(sense, now)
        served = []
        for now in (3.0, 4.0, 5.0):
            (sense,) = turn(schedule, now, free=1)
            schedule.finished(sense, now, died=False)
            schedule.triggered(sense, now)
            served.append(sense)
        assert served == ["c", "b", "a"]

    def test_it_is_due_that_counts_not_arrival(self) -> None:
        """A beat that the loop got to late goes ahead of a hand that came meanwhile."""
        schedule = Schedule([A, B], [EVERY_SECOND], now=0.0)
        turn(schedule, 0.0)
        schedule.finished("a", 0.5, died=False)
        schedule.triggered("b", 1.5)
        assert turn(schedule, 1.6, free=1) == ["a"]

    def test_no_worker_no_start_and_no_busy_loop(self) -> None:
        """What lacks nothing but a worker stays pending and asks for no wake."""
        schedule = Schedule([A], [], now=0.0)
        schedule.triggered("a", 1.0)
        assert turn(schedule, 1.0, free=0) == []
        assert schedule.next_wake() is None
        assert turn(schedule, 2.0, free=1) == ["a"]

    def test_a_deferral_that_ends_without_a_worker_asks_for_no_further_wake(self) -> None:
        """A throttle that is over, as the loop knows, is no reason to wake again."""
        schedule = Schedule([SenseRule("a", throttle=5.0)], [], now=0.0)
        run(schedule, "a", 0.0)
        schedule.triggered("a", 1.0)
        schedule.beat(5.0)
        assert schedule.next_wake() is None


class TestBackoff:
    """A sense whose worker dies again and again has to wait."""

    def test_it_grows_with_each_death_and_ends_with_a_run_that_lives(self) -> None:
        """The first death is forgiven, the next ones cost 1 s and 2 s, and a run that ends well resets the count."""
        schedule = Schedule([A], [], now=0.0)
        assert run(schedule, "a", 0.0, died=True) == 0.0
        assert run(schedule, "a", 1.0, died=True) == 1.0
        assert run(schedule, "a", 2.0, died=True) == 2.0
        assert schedule.deaths("a") == 3
        assert run(schedule, "a", 4.0, died=False) == 0.0
        assert run(schedule, "a", 5.0, died=True) == 0.0
        assert schedule.deaths("a") == 1

    def test_it_defers_hands_too_and_what_was_already_pending(self) -> None:
        """Nothing starts before the back-off is over, whatever triggered it and whenever."""
        schedule = Schedule([A], [], now=0.0)
        run(schedule, "a", 0.0, died=True)
        schedule.triggered("a", 0.0)
        turn(schedule, 0.0)
        schedule.triggered("a", 1.0, ticket=1)
        assert schedule.finished("a", 2.0, died=True) == 1.0
        schedule.triggered("a", 2.5, ticket=2)
        assert turn(schedule, 2.9) == []
        assert schedule.next_wake() == 3.0
        (start,) = schedule.take(3.0, Places(1))
        assert start.tickets == (1, 2)

    def test_it_holds_up_no_other_sense_of_the_group(self) -> None:
        """A group is free again when the run has ended, however it ended."""
        schedule = Schedule([SenseRule("a", group="g"), SenseRule("b", group="g")], [], now=0.0)
        run(schedule, "a", 0.0, died=True)
        run(schedule, "a", 1.0, died=True)
        schedule.triggered("a", 1.1)
        schedule.triggered("b", 1.2)
        assert turn(schedule, 1.2) == ["b"]

    def test_a_run_that_is_not_there_can_not_end(self) -> None:
        """An end without a start is a mistake of the caller, and is said so."""
        with pytest.raises(ValueError, match="'a' is not running"):
            Schedule([A], [], now=0.0).finished("a", 1.0, died=False)


class TestHalt:
    """A halted schedule fires nothing."""

    def test_it_drops_what_is_pending_and_gives_the_tickets_back(self) -> None:
        """Whoever waits for a run that will never be hears of it, whatever the run was waiting for."""
        group = [SenseRule("busy", group="g"), SenseRule("blocked", group="g")]
        schedule = Schedule([*group, SenseRule("throttled", throttle=5.0), SenseRule("ready")], [], now=0.0)
        run(schedule, "throttled", 0.0)
        for ticket, sense in enumerate(["busy", "blocked", "throttled"]):
            schedule.triggered(sense, 1.0, ticket=ticket)
        assert turn(schedule, 1.0) == ["busy"]
        schedule.triggered("busy", 2.0, ticket=3)
        schedule.triggered("ready", 2.0, ticket=4)
        assert sorted(schedule.halt()) == [1, 2, 3, 4]
        assert schedule.halt() == ()
        schedule.finished("busy", 3.0, died=False)
        assert turn(schedule, 9.0) == []
        assert schedule.next_wake() is None

    def test_nothing_fires_afterwards_and_runs_may_still_finish(self) -> None:
        """Beats, signals and hands are ignored, and the end of a run starts no other."""
        schedule = Schedule([A, B], [EVERY_SECOND, Reflex("alert", "b", on=("a",))], now=0.0)
        assert turn(schedule, 0.0) == ["a"]
        schedule.halt()
        schedule.signalled(signal("a"), 1.0)
        assert not schedule.triggered("b", 1.0, ticket=1)
        schedule.finished("a", 1.0, died=False)
        assert turn(schedule, 5.0) == []
        assert schedule.next_wake() is None
        assert schedule.due("a") is None


class TestStatus:
    """What `nerve status` shows of a sense."""

    def test_state_says_what_a_sense_does_or_what_keeps_it(self) -> None:
        """Each state in turn, the strongest reason first."""
        schedule = Schedule([SenseRule("a", throttle=3.0)], [], now=0.0)
        assert schedule.state("a", 0.0) == "idle"
        schedule.triggered("a", 0.0)
        assert schedule.state("a", 0.0) == "pending"
        turn(schedule, 0.0)
        assert schedule.state("a", 0.0) == "running"
        schedule.finished("a", 1.0, died=True)
        assert schedule.state("a", 1.0) == "idle"
        schedule.triggered("a", 1.0)
        assert schedule.state("a", 1.0) == "throttled"
        assert turn(schedule, 3.0) == ["a"]
        schedule.finished("a", 3.0, died=True)
        assert schedule.state("a", 3.5) == "backoff"
        assert schedule.state("a", 4.0) == "idle"

    def test_due_is_the_earliest_possible_start_that_is_known(self) -> None:
        """A beat, a pending trigger, and what defers either."""
        schedule = Schedule([SenseRule("a", throttle=1.5), B], [EVERY_SECOND], now=0.0)
        assert schedule.due("b") is None
        assert schedule.due("a") == 0.0
        turn(schedule, 0.0)
        assert schedule.due("a") == 1.5
        schedule.finished("a", 0.1, died=False)
        schedule.beat(2.2)
        assert schedule.due("a") == 2.0
        assert schedule.due("b") is None

    def test_pending_is_what_the_next_start_will_be(self) -> None:
        """What is shown as pending is what take gives, and then it is gone."""
        schedule = Schedule([A], [], now=0.0)
        schedule.triggered("a", 1.0, ticket=1)
        assert schedule.pending("a") == by_hand("a", due=1.0, tickets=(1,))
        assert schedule.take(1.0, Places(1)) == [by_hand("a", due=1.0, tickets=(1,))]
        assert schedule.pending("a") is None
