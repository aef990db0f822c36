"""The lanes that the kernel names: opened, drained when their producers are gone, replaced when they make no sense."""

from __future__ import annotations

import pytest
from support.eventqueue import event, names
from support.writer import A_WHILE, Stage

from nerve.eventqueue import lane_reader
from nerve.eventqueue.lane_file import HEAD
from nerve.eventqueue.lane_reader import CORRUPT
from nerve.processes.messages import Finish, LaneCorrupt, Lanes


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes no sense is not read again."""
    monkeypatch.setattr(lane_reader, "REREAD_SECONDS", 0.0)


def lanes(stage: Stage) -> list[str]:
    """The files of lanes that there are."""
    return sorted(path.name for path in stage.folder.iterdir())


def test_the_last_words_of_a_producer_are_committed_and_its_lane_removed(stage: Stage) -> None:
    """Its file first, then its position; whoever is there keeps both."""
    dead, alive = stage.producer("dead"), stage.producer("alive")
    dead.publish(event("last words"))
    alive.publish(event("words"))
    stage.gone(dead)
    stage.turns(2)
    assert sorted(names(stage.store.events)) == ["last words", "words"]
    assert lanes(stage) == ["alive.lane"]
    assert list(stage.store.positions) == ["alive"]


def test_a_producer_that_never_logged_leaves_nothing(stage: Stage) -> None:
    """Its lane goes without a commit."""
    stage.gone(stage.producer())
    stage.turns(2)
    assert (lanes(stage), stage.store.commits) == ([], [])


def test_a_new_writer_goes_on_from_the_positions_in_the_log(stage: Stage) -> None:
    """Nothing is taken twice, though the commit was never acknowledged; the dead are drained like everybody."""
    dead, alive = stage.producer("dead"), stage.producer("alive")
    for producer in (dead, alive):
        producer.publish(event(f"{producer.name} 1"))
    stage.writer._receiver.acknowledge = lambda _positions: False  # type: ignore[method-assign]
    stage.turns(1)
    dead.publish(event("dead 2"))
    dead.die()
    stage.succeed()
    stage.kernel.send(Lanes(gone=("dead", "long removed")))
    stage.turns(3)
    assert sorted(names(stage.store.events)) == ["alive 1", "dead 1", "dead 2"]
    assert lanes(stage) == ["alive.lane"]
    assert alive.lane.settled


def test_a_position_that_can_not_be_forgotten_on_a_full_disk_does_no_harm(stage: Stage) -> None:
    """The next start forgets it: no lane will ever have its name."""
    producer = stage.producer()
    producer.publish(event("a"))
    stage.turns(1)
    stage.store.failures = 1
    stage.gone(producer)
    stage.turns(2)
    assert (lanes(stage), list(stage.store.positions)) == ([], ["p"])


def test_a_lane_that_makes_no_sense_has_its_producer_replaced_and_is_reported_once(stage: Stage) -> None:
    """The sound part is committed, the kernel is told at once, the rest follows when it is gone."""
    bad, good = stage.producer("bad"), stage.producer("good")
    bad.publish(event("sound"))
    head = bad.words[HEAD]
    bad.publish(event("overwritten"))
    size = bad.words[HEAD] - head
    bad.ring[head + 8 : head + 16] = b"garbage!"
    stage.turns(2)
    assert names(stage.store.events) == ["sound"]
    [told] = stage.told()
    assert isinstance(told, LaneCorrupt)
    assert told.producer == "bad"
    bad.publish(event("after it"))
    good.publish(event("other"))
    stage.clock.time += A_WHILE
    stage.turns(2)
    assert stage.told() == []
    assert stage.errors() == []
    stage.gone(bad)
    stage.clock.time += A_WHILE
    stage.turns(2)
    [error] = stage.errors()
    assert error.kind == "wire"
    assert f"{size} bytes" in error.message
    assert lanes(stage) == ["good.lane"]
    assert [name for name in names(stage.store.events) if name != "error"] == ["sound", "other", "after it"]


def test_a_report_that_can_not_be_written_is_written_later(stage: Stage) -> None:
    """The lane stays until then."""
    bad = stage.producer("bad")
    bad.words[HEAD] = 4
    stage.turns(1)
    stage.gone(bad)
    stage.turns(1)
    stage.clock.time += A_WHILE
    stage.store.failures = 1
    stage.turns(1)
    assert lanes(stage) == ["bad.lane"]
    stage.turns(1)
    assert len(stage.errors()) == 1
    assert lanes(stage) == []


def test_a_report_is_not_made_again_by_the_next_writer(stage: Stage) -> None:
    """It is committed with the position that says so."""
    bad = stage.producer("bad")
    bad.words[HEAD] = 4
    stage.turns(1)
    forget = stage.store.forget
    stage.store.forget = lambda *_: None  # type: ignore[method-assign]
    stage.gone(bad)
    stage.turns(1)
    stage.clock.time += A_WHILE
    stage.turns(1)
    stage.store.forget = forget  # type: ignore[method-assign]
    assert stage.store.positions == {"bad": CORRUPT}
    assert len(stage.errors()) == 1


def test_a_living_producer_without_a_lane_is_replaced(stage: Stage) -> None:
    """Somebody has removed its file: what it logs would die with it."""
    stage.kernel.send(Lanes(live=("nobody",)))
    stage.turns(2)
    [told] = stage.told()
    assert isinstance(told, LaneCorrupt)
    assert told.producer == "nobody"


def test_finishing_reports_what_makes_no_sense(stage: Stage) -> None:
    """The kernel's own lane has nobody who could be replaced."""
    bad = stage.producer("kernel")
    bad.publish(event("sound"))
    bad.words[HEAD] += 4
    stage.turns(1)
    stage.kernel.send(Finish())
    stage.writer.run()
    assert len(stage.errors()) == 1
    assert lanes(stage) == []
