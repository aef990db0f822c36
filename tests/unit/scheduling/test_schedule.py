"""The scheduling rules, one example each."""

from __future__ import annotations

import pytest
from support.scheduling import EVERY_SECOND, A, B, C, by_hand, run, signal, take, turn

from nerve.events.trigger import MANUAL
from nerve.scheduling.rules import Reflex, SenseRule, Start, coalesce
from nerve.scheduling.schedule import Schedule


class TestIntervals:
    """A reflex with an interval fires at each of its ticks."""

    def test_the_first_tick_is_at_once(self) -> None:
        """A reflex fires as soon as the schedule exists."""
        schedule = Schedule([A], [EVERY_SECOND], now=100.25)
        schedule.fire_timers(100.25)
        assert take(schedule, 100.25, 1) == [Start(sense="a", kind="interval", reflex="a-every-1s", due=100.25)]

    def test_an_offset_delays_all_ticks(self) -> None:
        """The ticks of a reflex begin its offset after the schedule."""
        schedule = Schedule([A], [Reflex("late", "a", interval=1.0, offset=0.25)], now=100.0)
        assert turn(schedule, 100.0) == []
        assert schedule.next_deadline() == 100.25
        assert turn(schedule, 100.25) == ["a"]
        assert schedule.next_deadline() == 101.25

    def test_a_late_tick_does_not_shift_the_next(self) -> None:
        """The next moment is counted from the moment before, not from when the loop came to it."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        for now, due in [(0.4, 0.0), (1.9, 1.0), (2.0, 2.0)]:
            schedule.fire_timers(now)
            assert [start.due for start in take(schedule, now, 1)] == [due]
            schedule.finished("a", now, died=False)
        assert schedule.next_deadline() == 3.0

    def test_missed_ticks_are_skipped_and_counted(self) -> None:
        """After a gap a sense runs once, for the last tick, and the start has the number of skipped ones."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        schedule.fire_timers(3.5)
        (start,) = take(schedule, 3.5, 1)
        assert (start.due, start.skipped, start.coalesced) == (3.0, 3, 0)
        assert schedule.next_deadline() == 4.0

    def test_skipped_ticks_add_up_while_a_start_is_pending(self) -> None:
        """The start counts the ticks that were skipped before each of the triggers that it answers."""
        schedule = Schedule([A], [EVERY_SECOND], now=0.0)
        schedule.fire_timers(1.5)
        schedule.fire_timers(4.5)
        (start,) = take(schedule, 4.5, 1)
        assert (start.due, start.skipped, start.coalesced) == (1.0, 3, 1)


class TestSignals:
    """A reflex with `on` fires when any of its senses has signalled."""

    def test_any_of_its_senses_fires_it(self) -> None:
        """Each of the senses in `on` fires the reflex, and the start carries the signal."""
        schedule = Schedule([A, B, C], [Reflex("alert", "c", on=("a", "b"))], now=0.0)
        for now, source in [(1.0, "a"), (2.0, "b")]:
            schedule.signalled(signal(source), now)
            assert take(schedule, now, 1) == [
                Start(sense="c", kind="signal", reflex="alert", signal=signal(source), due=now)
            ]
            schedule.finished("c", now, died=False)

    def test_a_signal_that_no_reflex_is_on_fires_nothing(self) -> None:
        """Nor does a signal that was sent by hand."""
        schedule = Schedule([A, B], [Reflex("alert", "b", on=("a",))], now=0.0)
        schedule.signalled(signal("b"), 1.0)
        schedule.signalled(signal(MANUAL), 1.0)
        assert turn(schedule, 1.0) == []

    def test_two_reflexes_of_one_sense_coalesce(self) -> None:
        """One signal that fires both is two triggers, and one run."""
        schedule = Schedule([A, B], [Reflex("one", "b", on=("a",)), Reflex("two", "b", on=("a",))], now=0.0)
        schedule.signalled(signal("a"), 1.0)
        assert take(schedule, 1.0) == [
            Start(sense="b", kind="signal", reflex="two", signal=signal("a"), coalesced=1, due=1.0)
        ]

    def test_a_sense_named_twice_in_on_fires_once(self) -> None:
        """A repetition has no effect."""
        schedule = Schedule([A, B], [Reflex("alert", "b", on=("a", "a"))], now=0.0)
        schedule.signalled(signal("a"), 1.0)
        (start,) = take(schedule, 1.0)
        assert start.coalesced == 0


class TestByHand:
    """A sense can be triggered by hand."""

    def test_a_trigger_by_hand_starts_at_once_with_its_signal_and_ticket(self) -> None:
        """It has no reflex."""
        schedule = Schedule([A], [], now=0.0)
        assert schedule.triggered("a", 1.0, signal=signal(MANUAL), ticket=7)
        assert take(schedule, 1.0, 1) == [Start(sense="a", kind="manual", signal=signal(MANUAL), due=1.0, tickets=(7,))]

    def test_an_unknown_sense_is_an_error(self) -> None:
        """A sense that isn't configured can't be triggered, finished, or be the sense of a reflex."""
        schedule = Schedule([A], [], now=0.0)
        with pytest.raises(KeyError):
            schedule.triggered("b", 1.0)
        with pytest.raises(KeyError):
            schedule.finished("b", 1.0, died=False)
        with pytest.raises(KeyError):
            Schedule([A], [Reflex("alert", "b", on=("a",))], now=0.0)


class TestCoalescing:
    """A sense never overlaps itself: triggers that arrive while it runs become one further run."""

    def test_a_sense_does_not_start_while_it_runs(self) -> None:
        """A trigger during a run waits for its end, however many workers are free."""
        schedule = Schedule([A], [], now=0.0)
        schedule.triggered("a", 0.0)
        assert turn(schedule, 0.0) == ["a"]
        schedule.triggered("a", 1.0)
        assert turn(schedule, 1.0) == []
        schedule.finished("a", 2.0, died=False)
        assert take(schedule, 2.0, 1) == [by_hand("a", due=1.0)]

    def test_all_triggers_during_a_run_become_one(self) -> None:
        """Of three triggers two are counted as coalesced, and the start has all tickets."""
        schedule = Schedule([A], [], now=0.0)
        schedule.triggered("a", 0.0, ticket=1)
        turn(schedule, 0.0)
        for now in (1.0, 2.0, 3.0):
            schedule.triggered("a", now, ticket=int(now) * 10)
        schedule.finished("a", 4.0, died=False)
        (start,) = take(schedule, 4.0, 1)
        assert (start.due, start.coalesced, start.tickets) == (1.0, 2, (10, 20, 30))
        schedule.finished("a", 5.0, died=False)
        assert turn(schedule, 5.0) == []

    def test_the_latest_signal_wins_and_brings_its_kind_and_reflex(self) -> None:
        """Of a tick, two signals and a trigger by hand, the run gets the second signal and the reflex that it fired."""
        tick = Start(sense="a", kind="interval", reflex="every", skipped=2, due=1.0)
        first = Start(sense="a", kind="signal", reflex="on-b", signal=signal("b"), due=2.0)
        second = Start(sense="a", kind="signal", reflex="on-c", signal=signal("c"), due=3.0)
        hand = by_hand("a", due=4.0, tickets=(1,))
        merged = coalesce(coalesce(coalesce(tick, first), second), hand)
        assert merged == Start(
            sense="a", kind="signal", reflex="on-c", signal=signal("c"), coalesced=3, skipped=2, due=1.0, tickets=(1,)
        )
        assert merged == coalesce(coalesce(tick, first), coalesce(second, hand))

    def test_without_a_signal_kind_and_reflex_are_those_of_the_first_trigger(self) -> None:
        """A trigger by hand after a tick doesn't make the run a manual one."""
        tick = Start(sense="a", kind="interval", reflex="every", due=1.0)
        hand = by_hand("a", due=2.0)
        assert coalesce(tick, hand) == Start(sense="a", kind="interval", reflex="every", coalesced=1, due=1.0)
        assert coalesce(hand, tick) == Start(sense="a", kind="manual", coalesced=1, due=2.0)


class TestThrottle:
    """A throttle is the least time between two starts of a sense."""

    def test_triggers_inside_the_window_are_deferred_to_its_end_once(self) -> None:
        """Two triggers inside the window become one start at its end, and no other."""
        schedule = Schedule([SenseRule("a", throttle=5.0)], [], now=0.0)
        run(schedule, "a", 10.0)
        schedule.triggered("a", 11.0)
        schedule.triggered("a", 12.0)
        assert turn(schedule, 14.9) == []
        assert schedule.next_deadline() == 15.0
        assert turn(schedule, 15.0) == ["a"]
        schedule.finished("a", 15.0, died=False)
        assert turn(schedule, 20.0) == []
        assert schedule.next_deadline() is None

    def test_the_window_counts_from_the_start_not_the_end_of_a_run(self) -> None:
        """A run longer than the throttle is followed at once."""
        schedule = Schedule([SenseRule("a", throttle=5.0)], [], now=0.0)
        schedule.triggered("a", 0.0)
        turn(schedule, 0.0)
        schedule.triggered("a", 1.0)
        schedule.finished("a", 6.0, died=False)
        assert turn(schedule, 6.0) == ["a"]

    def test_the_next_deadline_is_the_earliest_deferral_or_tick(self) -> None:
        """The end of the window or a tick, whichever comes first, wakes the loop."""
        schedule = Schedule([A, SenseRule("b", throttle=1.5)], [EVERY_SECOND], now=0.0)
        schedule.triggered("b", 0.0)
        assert turn(schedule, 0.0) == ["b", "a"]
        schedule.finished("b", 0.1, died=False)
        schedule.triggered("b", 0.2)
        assert schedule.next_deadline() == 1.0
        schedule.fire_timers(1.0)
        assert schedule.next_deadline() == 1.5

    def test_a_throttled_sense_does_not_block_the_next_one(self) -> None:
        """A sense that is due later, but may start, goes first."""
        schedule = Schedule([SenseRule("a", throttle=5.0), B], [], now=0.0)
        run(schedule, "a", 0.0)
        schedule.triggered("a", 1.0)
        schedule.triggered("b", 2.0)
        assert turn(schedule, 2.0, free=1) == ["b"]


class TestGroups:
    """Senses of one group never run at the same time."""

    IO_A, IO_B, NET_C = SenseRule("a", group="io"), SenseRule("b", group="io"), SenseRule("c", group="net")

    def test_a_group_runs_one_at_a_time_and_in_order(self) -> None:
        """The second sense of a group starts when the first has finished; another group is not delayed."""
        schedule = Schedule([self.IO_A, self.IO_B, self.NET_C], [], now=0.0)
        for now, sense in enumerate("bac"):
            schedule.triggered(sense, now)
        assert turn(schedule, 3.0) == ["b", "c"]
        assert turn(schedule, 4.0) == []
        schedule.finished("b", 5.0, died=False)
        assert turn(schedule, 5.0) == ["a"]

    def test_the_order_within_a_group_is_that_of_due_moments(self) -> None:
        """A sense whose run ends with an older trigger pending goes before one that waited for that run."""
        schedule = Schedule([self.IO_A, self.IO_B], [], now=0.0)
        schedule.triggered("a", 0.0)
        turn(schedule, 0.0)
        schedule.triggered("a", 1.0)
        schedule.triggered("b", 2.0)
        schedule.finished("a", 3.0, died=False)
        assert turn(schedule, 3.0) == ["a"]

    def test_a_sense_that_waited_for_its_group_keeps_its_place_among_all(self) -> None:
        """When workers are scarce, it starts before all senses that became due later."""
        schedule = Schedule([self.IO_A, self.IO_B, self.NET_C], [], now=0.0)
        for now, sense in enumerate("ab"):
            schedule.triggered(sense, now)
        assert turn(schedule, 1.0, free=2) == ["a"]
        schedule.triggered("c", 2.0)
        schedule.finished("a", 3.0, died=False)
        assert turn(schedule, 3.0, free=1) == ["b"]

    def test_a_sense_that_waits_for_its_group_has_no_deadline(self) -> None:
        """Only the end of the run can change anything."""
        schedule = Schedule([self.IO_A, self.IO_B], [], now=0.0)
        schedule.triggered("a", 0.0)
        schedule.triggered("b", 0.0)
        assert turn(schedule, 0.0) == ["a"]
        assert schedule.next_deadline() is None


class TestFairness:
    """When workers are scarce, the sense that was due first starts first."""

    def test_first_due_first_served_and_ties_by_arrival(self) -> None:
        """With one worker, senses start in the order of their due moments, and of their arrival if these are equal."""
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

    def test_the_due_moment_counts_and_not_the_arrival(self) -> None:
        """A tick that the loop handles late goes before a trigger by hand that came meanwhile."""
        schedule = Schedule([A, B], [EVERY_SECOND], now=0.0)
        turn(schedule, 0.0)
        schedule.finished("a", 0.5, died=False)
        schedule.triggered("b", 1.5)
        assert turn(schedule, 1.6, free=1) == ["a"]

    def test_a_sense_that_lacks_only_a_worker_has_no_deadline(self) -> None:
        """It stays pending, and the loop does not spin."""
        schedule = Schedule([A], [], now=0.0)
        schedule.triggered("a", 1.0)
        assert turn(schedule, 1.0, free=0) == []
        assert schedule.next_deadline() is None
        assert turn(schedule, 2.0, free=1) == ["a"]

    def test_a_deferral_that_is_over_has_no_deadline(self) -> None:
        """The loop has handled its end, and need not wake up for it again."""
        schedule = Schedule([SenseRule("a", throttle=5.0)], [], now=0.0)
        run(schedule, "a", 0.0)
        schedule.triggered("a", 1.0)
        schedule.fire_timers(5.0)
        assert schedule.next_deadline() is None


class TestBackoff:
    """A sense whose workers die again and again has to wait."""

    def test_a_back_off_grows_with_each_death_in_a_row(self) -> None:
        """The first death has none, the next ones 1 s and 2 s; a run that ends well resets the count."""
        schedule = Schedule([A], [], now=0.0)
        assert run(schedule, "a", 0.0, died=True) == 0.0
        assert run(schedule, "a", 1.0, died=True) == 1.0
        assert run(schedule, "a", 2.0, died=True) == 2.0
        assert run(schedule, "a", 4.0, died=False) == 0.0
        assert run(schedule, "a", 5.0, died=True) == 0.0

    def test_a_back_off_defers_all_triggers(self) -> None:
        """Those that were pending before, and later ones by hand, start when it is over."""
        schedule = Schedule([A], [], now=0.0)
        run(schedule, "a", 0.0, died=True)
        schedule.triggered("a", 0.0)
        turn(schedule, 0.0)
        schedule.triggered("a", 1.0, ticket=1)
        assert schedule.finished("a", 2.0, died=True) == 1.0
        schedule.triggered("a", 2.5, ticket=2)
        assert turn(schedule, 2.9) == []
        assert schedule.next_deadline() == 3.0
        (start,) = take(schedule, 3.0, 1)
        assert start.tickets == (1, 2)

    def test_a_back_off_does_not_block_the_group(self) -> None:
        """A group is free when the run has ended, however it ended."""
        schedule = Schedule([SenseRule("a", group="g"), SenseRule("b", group="g")], [], now=0.0)
        run(schedule, "a", 0.0, died=True)
        run(schedule, "a", 1.0, died=True)
        schedule.triggered("a", 1.1)
        schedule.triggered("b", 1.2)
        assert turn(schedule, 1.2) == ["b"]

    def test_the_end_of_a_run_that_did_not_start_is_an_error(self) -> None:
        """It is a mistake of the caller."""
        with pytest.raises(ValueError, match="'a' is not running"):
            Schedule([A], [], now=0.0).finished("a", 1.0, died=False)


class TestHalt:
    """A halted schedule starts nothing."""

    def test_halting_drops_pending_starts_and_returns_their_tickets(self) -> None:
        """Whatever the starts were waiting for; a second time there are none."""
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
        assert schedule.next_deadline() is None

    def test_a_halted_schedule_ignores_triggers_and_lets_runs_finish(self) -> None:
        """Ticks, signals and triggers by hand have no effect, and the end of a run starts no other."""
        schedule = Schedule([A, B], [EVERY_SECOND, Reflex("alert", "b", on=("a",))], now=0.0)
        assert turn(schedule, 0.0) == ["a"]
        schedule.halt()
        schedule.signalled(signal("a"), 1.0)
        assert not schedule.triggered("b", 1.0, ticket=1)
        schedule.finished("a", 1.0, died=False)
        assert turn(schedule, 5.0) == []
        assert schedule.next_deadline() is None
        assert schedule.due("a") is None


class TestStatus:
    """The state and the next due moment of a sense, which `nerve status` shows."""

    def test_the_state_is_the_strongest_reason_why_a_sense_does_not_start(self) -> None:
        """A sense goes through each state in turn."""
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
        """It depends on ticks, on a pending trigger, and on the throttle that defers either."""
        schedule = Schedule([SenseRule("a", throttle=1.5), B], [EVERY_SECOND], now=0.0)
        assert schedule.due("b") is None
        assert schedule.due("a") == 0.0
        turn(schedule, 0.0)
        assert schedule.due("a") == 1.5
        schedule.finished("a", 0.1, died=False)
        schedule.fire_timers(2.2)
        assert schedule.due("a") == 2.0
        assert schedule.due("b") is None


class TestSlots:
    """A start needs a slot, and comes with the one that was reserved for it."""

    def test_each_start_comes_with_the_slot_that_was_reserved_for_it(self) -> None:
        """Slots are reserved in the order of service, and only for senses that may start now."""
        schedule = Schedule([A, SenseRule("b", throttle=5.0), C], [], now=0.0)
        run(schedule, "b", 0.0)
        for sense in ("c", "b", "a"):
            schedule.triggered(sense, 1.0)
        starts = schedule.take(1.0, lambda start: f"slot of {start.sense}")
        assert starts == [(by_hand("c", due=1.0), "slot of c"), (by_hand("a", due=1.0), "slot of a")]

    def test_nobody_passes_the_first_in_line(self) -> None:
        """A start without a slot stays pending, and no slot is reserved for those behind it."""
        schedule = Schedule([A, B], [], now=0.0)
        schedule.triggered("a", 1.0)
        schedule.triggered("b", 2.0)
        asked: list[str] = []

        def only_for_b(start: Start) -> str | None:
            asked.append(start.sense)
            return "slot" if start.sense == "b" else None

        assert schedule.take(2.0, only_for_b) == []
        assert asked == ["a"]
        assert schedule.state("a", 2.0) == schedule.state("b", 2.0) == "pending"
        assert turn(schedule, 3.0) == ["a", "b"]
