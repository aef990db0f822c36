"""The kernel's side of lanes: made before the fork, named to the writer before it, given up after the end."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.children import FakeChild
from support.eventqueue import BOOT

from nerve.errors import WorkspaceError
from nerve.eventqueue.lane_file import LaneFile
from nerve.processes import lanes as lanes_module
from nerve.processes.child import Role
from nerve.processes.lanes import LaneKeeper
from nerve.processes.messages import Lanes

WRITER = Role("writer", lambda _context: None)
WORKER = Role("worker", lambda _context: None, has_lane=True)
WATCHER = Role("watcher", lambda _context: None)


class Forked(FakeChild):
    """A child that notes with what it was forked, and how much the writer knew then."""

    def __init__(self, rig: Rig, role: Role, *, lane: Path | None, wakeup: object) -> None:
        super().__init__(role.name)
        self.lane = lane
        self.wakeup = wakeup
        self.known = list(rig.writer.received) if rig.writer else []
        self._act: Any = None

    def on_close(self, act: Any) -> None:
        """Note what is to be done at the end."""
        self._act = act

    def reaped(self) -> None:
        """End, and be closed."""
        self.code = 0
        self.close()
        self._act()


class Rig:
    """A keeper of lanes whose children are fakes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "worker-1.new").write_bytes(bytes(100))
        self.folder = folder
        self.writer: Forked | None = None
        self.fails = False
        self.boot: Any = SimpleNamespace(workspace=SimpleNamespace(lanes_dir=folder), boot_id=BOOT)
        self.keeper = LaneKeeper(self.boot, WRITER)

    def child(self, role: Role, _boot: object, **handed: Any) -> Forked:
        """Fork a fake, unless the system has no room."""
        if self.fails:
            raise BlockingIOError(errno.EAGAIN, "no processes left")
        return Forked(self, role, lane=handed.get("lane"), wakeup=handed.get("wakeup"))

    def fork(self, role: Role) -> Forked:
        """Have the keeper fork a child."""
        forked = cast(Forked, self.keeper.fork(role, self.boot))
        if role is WRITER:
            self.writer = forked
        return forked

    def names(self) -> set[str]:
        """The lanes whose files are there."""
        return {path.stem for path in self.folder.iterdir()}

    @property
    def told(self) -> list[Any]:
        """What the writer was told."""
        assert self.writer is not None
        return cast("list[Any]", self.writer.received)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A keeper that has made the kernel's own lane."""
    monkeypatch.setattr(lanes_module, "LANE_BYTES", 4096)
    monkeypatch.setattr(lanes_module, "KERNEL_LANE_BYTES", 8192)
    made = Rig(tmp_path / "lanes")
    monkeypatch.setattr(lanes_module, "Child", made.child)
    yield made
    made.keeper.close(discard=True)


def test_the_kernels_own_lane_is_there_from_the_beginning(rig: Rig) -> None:
    """With the boot and the producer in its header; what a maker that was killed has left is removed."""
    [name] = rig.names()
    assert name.startswith("kernel-")
    lane = rig.keeper.open_own()
    lane.close()
    file = LaneFile(rig.folder / f"{name}.lane")
    assert (file.boot_id, file.producer, file.capacity) == (BOOT, name, 8192)
    file.close()


def test_a_writer_hears_of_a_lane_before_its_producer_is_forked(rig: Rig) -> None:
    """Else it could take an effect without knowing of its cause."""
    rig.fork(WRITER)
    worker = rig.fork(WORKER)
    assert worker.lane is not None
    assert worker.lane.exists()
    assert worker.known[-1] == Lanes(live=(worker.lane.stem,))


def test_only_who_logs_has_a_lane_and_everybody_can_ring(rig: Rig) -> None:
    """The watcher needs none."""
    watcher = rig.fork(WATCHER)
    assert watcher.lane is None
    assert watcher.wakeup is rig.fork(WORKER).wakeup is rig.keeper.wakeup


def test_a_new_writer_is_told_everything(rig: Rig) -> None:
    """Who lives, and whose lane is still to be drained; not whose lane is gone already."""
    [kernel] = rig.names()
    rig.fork(WRITER)
    alive, dead, drained = (rig.fork(WORKER) for _ in range(3))
    for worker in (dead, drained):
        worker.reaped()
    drained.lane.unlink()  # type: ignore[union-attr]
    rig.fork(WRITER)
    [lanes] = rig.told
    assert set(lanes.live) == {kernel, alive.lane.stem}  # type: ignore[union-attr]
    assert lanes.gone == (dead.lane.stem,)  # type: ignore[union-attr]


def test_a_lane_is_given_up_when_its_producer_has_been_reaped(rig: Rig) -> None:
    """It is the writer that removes it."""
    rig.fork(WRITER)
    worker = rig.fork(WORKER)
    worker.reaped()
    assert rig.told[-1] == Lanes(gone=(worker.lane.stem,))  # type: ignore[union-attr]
    assert worker.lane.exists()  # type: ignore[union-attr]


def test_a_fork_that_fails_gives_its_lane_up(rig: Rig) -> None:
    """And the error reaches whoever tries again."""
    rig.fork(WRITER)
    rig.fails = True
    with pytest.raises(BlockingIOError):
        rig.fork(WORKER)
    announced, given_up = rig.told[-2:]
    assert announced.live == given_up.gone


def test_the_lanes_of_the_first_workers_are_reserved(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a disk without room for them is an error of the start; later workers need room of their own."""
    rig.keeper.reserve(WORKER, 2)
    assert len(rig.names()) == 3
    archiver = rig.fork(Role("archiver", lambda _context: None, has_lane=True))
    assert archiver.lane is not None
    assert archiver.lane.name.startswith("archiver-")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lanes_module, "create_lane_file", full)
    rig.fork(WORKER)
    rig.fork(WORKER)
    with pytest.raises(OSError, match="No space left"):
        rig.fork(WORKER)


def test_a_writer_that_is_far_behind_gets_no_further_lanes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else workers that die one after the other would fill the disk; the next one waits until some are drained."""
    monkeypatch.setattr(lanes_module, "MAX_UNDRAINED", 3)
    dead = [rig.fork(WORKER) for _ in range(3)]
    for worker in dead:
        worker.reaped()
    before = rig.names()
    with pytest.raises(OSError, match="lanes of 3 dead processes"):
        rig.fork(WORKER)
    assert rig.names() == before
    assert dead[0].lane is not None
    dead[0].lane.unlink()
    rig.fork(WORKER)


@pytest.mark.parametrize("what", ["the kernel's own", "those of the first workers"])
def test_a_start_without_room_for_lanes_is_one_clear_line(rig: Rig, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """It names the folder, the reason, and what to do."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lanes_module, "create_lane_file", full)
    with pytest.raises(WorkspaceError, match=rf"{rig.folder}.*No space left on device; free some space"):
        LaneKeeper(rig.boot, WRITER) if what == "the kernel's own" else rig.keeper.reserve(WORKER, 1)


def test_the_producer_of_a_lane_that_makes_no_sense_is_killed(rig: Rig) -> None:
    """Its run then ends with the reason; the kernel can't be replaced, and is told so."""
    [kernel] = rig.names()
    worker = rig.fork(WORKER)
    assert rig.keeper.condemn(worker.lane.stem, "a wild pointer")  # type: ignore[union-attr]
    assert worker.signals == [signal.SIGKILL]
    assert worker.failure is not None
    assert "a wild pointer" in worker.failure
    assert rig.keeper.condemn("somebody who has just ended", "a wild pointer")
    assert not rig.keeper.condemn(kernel, "a wild pointer")


def test_at_the_end_only_unused_lanes_are_removed(tmp_path: Path, rig: Rig) -> None:
    """The others are the writer's to remove, or the next start's to recover; a start that failed leaves none."""
    keeper = LaneKeeper(rig.boot, WRITER)
    before = rig.names()
    keeper.reserve(WORKER, 2)
    keeper.close(discard=False)
    assert rig.names() == before
    failed = LaneKeeper(rig.boot, WRITER)
    failed.reserve(WORKER, 1)
    failed.fork(WORKER, rig.boot)
    failed.close(discard=True)
    assert rig.names() == before
