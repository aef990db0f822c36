"""Bytes in a lane that no producer of ours has written: found, bounded and reported, and nobody else suffers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.eventqueue import CountingClock, Producer, StepWriter, event, names, short_folder

from nerve.eventqueue import lane_reader
from nerve.eventqueue.lane_file import HEAD, IN_FILE, LOG, TAIL
from nerve.eventqueue.lane_reader import CORRUPT

CAPACITY = 4096


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes no sense is not read again."""
    monkeypatch.setattr(lane_reader, "REREAD_SECONDS", 0.0)


def write_frame(producer: Producer, at: int, body: bytes, checksum: int | None = None) -> None:
    """Write a frame as a producer does, with any body."""
    word = (crc32(body, at) if checksum is None else checksum) << 32 | len(body)
    producer.ring[at : at + 8] = word.to_bytes(8, "little")
    producer.ring[at + 8 : at + 8 + len(body)] = body
    producer.words[HEAD] = at + 8 + (len(body) + 7 & -8)


SOUND = msgspec.msgpack.encode([["sense", "a", None, "null", 1, 1]])
BODIES = {
    "not MessagePack": b"\xc1\xc1\xc1",
    "not an event": msgspec.msgpack.encode([["sense", "a"]]),
    "no events": msgspec.msgpack.encode([]),
    "a number where a text belongs": msgspec.msgpack.encode([["sense", 5, None, "null", 1, 1]]),
    "a time that no column holds": msgspec.msgpack.encode([["sense", "a", None, "null", 2**60, 1]]),
    "bytes that are not UTF-8": SOUND.replace(b"null", b"\xff" * 4),
    "more than one message": SOUND + b"\x00",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_frame_that_is_not_made_of_events_ends_its_lane(writer: StepWriter, body: bytes) -> None:
    """What came before it is committed, and so is what others log."""
    bad, good = writer.producer("bad"), writer.producer("good")
    bad.publish(event("sound"))
    sound = bad.words[HEAD]
    write_frame(bad, sound, body)
    good.publish(event("other"))
    assert sorted(names(writer.commit().events)) == ["other", "sound"]
    lane = writer.receiver.open("bad")
    assert lane is not None
    assert lane.corrupt is not None
    assert f"the frame at {sound}" in lane.corrupt
    assert (lane.committed, lane.uncommitted) == (sound, bad.words[HEAD] - sound)
    good.publish(event("more"))
    assert names(writer.commit().events) == ["more"]


@pytest.mark.parametrize(
    "head",
    [lambda at: at + 4, lambda at: at - 8, lambda at: at + CAPACITY + 8, lambda _: 2**64 - 8, lambda _: 0],
    ids=["not aligned", "backwards", "beyond the ring", "far away", "zero"],
)
def test_a_head_that_can_not_be_is_not_believed(writer: StepWriter, head: Callable[[int], int]) -> None:
    """However far it points, what can be lost is bounded by the ring."""
    producer = writer.producer(capacity=CAPACITY)
    producer.publish(event("a"))
    writer.commit()
    producer.words[HEAD] = head(producer.words[HEAD])
    assert writer.commit().events == []
    [lane] = writer.receiver.lanes
    assert lane.corrupt is not None
    assert "its head" in lane.corrupt
    assert 0 <= lane.uncommitted <= CAPACITY


def test_a_new_writer_does_not_believe_such_a_head_either(writer: StepWriter) -> None:
    """It knows the position from the log alone."""
    producer = writer.producer(capacity=CAPACITY)
    producer.words[HEAD] = 5 * CAPACITY
    writer.restart()
    assert writer.receiver.lanes[0].corrupt is not None
    assert writer.commit().events == []


def test_a_frame_of_an_earlier_lap_is_not_taken_for_a_new_one(writer: StepWriter) -> None:
    """Its bytes and its checksum are sound, but not at this position: else a power cut would double it."""
    producer = writer.producer(capacity=CAPACITY)
    for _ in range(200):
        assert producer.publish(event("a", payload="x" * 96))
        writer.commit()
        if producer.words[HEAD] % CAPACITY == 0:
            break
    before = len(writer.log.events)
    producer.words[HEAD] += CAPACITY
    assert writer.commit().events == []
    assert len(writer.log.events) == before
    assert writer.receiver.lanes[0].corrupt is not None


@pytest.mark.parametrize("wrong", ["missing", "too short", "other bytes"])
def test_a_body_that_is_not_in_its_file_ends_its_lane(writer: StepWriter, folder: Path, wrong: str) -> None:
    """The file of a frame is believed no more than the ring."""
    producer = writer.producer(capacity=CAPACITY)
    producer.publish(event("sound"))
    producer.publish(event("large", payload="x" * 5000))
    [body] = folder.glob("*.body")
    if wrong == "missing":
        body.unlink()
    else:
        data = body.read_bytes()
        body.write_bytes(data[:-1] if wrong == "too short" else data[:-1] + b"y")
    assert names(writer.commit().events) == ["sound"]
    assert writer.receiver.lanes[0].corrupt is not None


def test_a_length_without_bound_is_not_believed(writer: StepWriter) -> None:
    """Neither of a frame nor of a file."""
    for length in (2**31 - 1, IN_FILE | 2**30, 0):
        producer = writer.producer(f"p{length}", CAPACITY)
        producer.ring[:8] = length.to_bytes(8, "little")
        producer.words[HEAD] = 8
        assert writer.commit().events == []
        lane = writer.receiver.open(producer.name)
        assert lane is not None
        assert lane.corrupt is not None


def test_a_frame_that_becomes_whole_in_time_is_read(writer: StepWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU that reorders stores the head may be seen before the bytes: the lane is not condemned for it."""
    monkeypatch.setattr(lane_reader, "REREAD_SECONDS", 10.0)
    producer = writer.producer()
    producer.publish(event("a"))
    producer.publish(event("late"))
    at = writer.receiver.lanes[0].position
    late = bytes(producer.ring[at + 8 : at + 16])
    producer.ring[at + 8 : at + 16] = bytes(8)

    def arrive() -> None:
        time.sleep(0.02)
        producer.ring[at + 8 : at + 16] = late

    thread = threading.Thread(target=arrive)
    thread.start()
    assert names(writer.commit().events) == ["a", "late"]
    thread.join()
    assert writer.receiver.lanes[0].corrupt is None


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_bytes_over_a_live_ring_cost_only_the_frames_that_they_hit(data: st.DataObject) -> None:
    """Whatever is overwritten, and with whatever: what follows is found again once the producer is gone."""
    with short_folder() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(lane_reader, "REREAD_SECONDS", 0.0)
        writer = StepWriter(folder, CountingClock())
        producer = writer.producer(capacity=CAPACITY)
        for _ in range(data.draw(st.integers(0, 60))):
            producer.publish(event("before", payload="x" * 40))
            writer.commit()
        ends: dict[str, int] = {}
        begin = producer.words[HEAD]
        for n in range(data.draw(st.integers(1, 30))):
            if producer.publish(event(str(n), payload="x" * (n * 7 % 100))):
                ends[str(n)] = producer.words[HEAD]
        size = producer.words[HEAD] - begin
        at = data.draw(st.integers(0, size - 1))
        garbage = data.draw(st.binary(min_size=1, max_size=min(64, size - at)))
        for n, byte in enumerate(garbage):
            producer.ring[(begin + at + n) % CAPACITY] = byte
        before = len(writer.log.events)
        writer.commit()
        committed = names(writer.log.events)[before:]
        assert committed == list(ends)[: len(committed)]
        [lane] = writer.receiver.lanes
        producer.die()
        lane.gone = True
        writer.commit()
        committed = names(writer.log.events)[before:]
        hit = [
            name
            for name, start, end in zip(ends, [begin, *ends.values()], ends.values(), strict=False)
            if start < begin + at + len(garbage) and begin + at < end
        ]
        assert [name for name in ends if name not in committed] == [name for name in hit if name not in committed]
        assert committed == sorted(committed, key=int)
        assert (lane.corrupt is None) == (len(committed) == len(ends))
        assert writer.receiver.ended() == [lane]
        if lane.corrupt:
            missing = sum(
                end - start
                for name, start, end in zip(ends, [begin, *ends.values()], ends.values(), strict=False)
                if name not in committed
            )
            assert lane.unreadable == missing
        writer.close()


def test_sound_frames_are_found_without_a_head(writer: StepWriter) -> None:
    """They are known by their checksums, which hold for their positions only."""
    producer = writer.producer(capacity=CAPACITY)
    for name in "ab":
        producer.publish(event(name))
    writer.commit()
    for name in "cd":
        producer.publish(event(name))
    producer.words[HEAD] = 3
    assert writer.commit().events == []
    [lane] = writer.receiver.lanes
    assert writer.receiver.ended() == []
    lane.gone = True
    assert names(writer.commit().events) == ["c", "d"]
    assert writer.receiver.ended() == [lane]


# Files that are lanes of something else, or of another time.


def test_the_lane_of_another_log_is_put_aside(writer: StepWriter, folder: Path) -> None:
    """Nothing of it is committed, nothing of it is destroyed, and it is reported once."""
    producer = writer.producer()
    producer.publish(event("a"))
    producer.words[LOG] = 12345
    writer.restart()
    writer.restart()
    assert writer.commit().events == []
    [report] = writer.reports
    assert "another log" in report
    assert [path.name for path in folder.iterdir()] == ["p.aside"]


def test_a_truncated_lane_is_put_aside(writer: StepWriter, folder: Path) -> None:
    """To map what is not there would kill the writer."""
    producer = writer.producer()
    producer.publish(event("a"))
    producer.die()
    writer.receiver.close()
    with producer.path.open("r+b") as file:
        file.truncate(5000)
    writer.restart()
    [report] = writer.reports
    assert "5000 bytes" in report
    assert [path.name for path in folder.iterdir()] == ["p.aside"]


def test_a_log_that_is_older_than_its_lane_gets_what_the_lane_still_has(writer: StepWriter) -> None:
    """It was restored from a backup: what had been committed to the newer one is not in the ring any more."""
    producer = writer.producer(capacity=CAPACITY)
    producer.publish(event("before the backup"))
    writer.commit()
    backup = dict(writer.log.positions)
    producer.publish(event("after the backup"))
    writer.commit()
    producer.publish(event("not committed yet"))
    lost = producer.words[TAIL] - backup["p"]
    writer.log.positions = backup
    writer.restart()
    assert names(writer.commit().events) == ["not committed yet"]
    [report] = writer.reports
    assert f"{lost} bytes" in report


def test_a_lane_that_a_power_cut_has_set_back_gives_nothing_twice(writer: StepWriter) -> None:
    """Its page is older than the log: what it announces is committed already."""
    producer = writer.producer(capacity=CAPACITY)
    for name in "abc":
        producer.publish(event(name))
    writer.commit()
    producer.words[HEAD] = producer.words[TAIL] = 0
    writer.restart()
    assert writer.commit().events == []
    assert names(writer.log.events) == ["a", "b", "c"]


def test_a_lane_that_was_reported_is_not_reported_again(writer: StepWriter, folder: Path) -> None:
    """A writer that dies between the report and the removal has recorded it."""
    producer = writer.producer()
    writer.log.positions["p"] = CORRUPT
    writer.receiver.close()
    producer.die()
    writer.restart()
    assert (writer.reports, writer.receiver.lanes, list(folder.iterdir())) == ([], [], [])
