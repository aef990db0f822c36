"""Updates in the kernel: recorded, then in force, then answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.children import FakeChild

from nerve.clock import Stamp
from nerve.config.config import Config, SenseConfig
from nerve.config.diff import changes
from nerve.control.protocol import Refused, Reloaded, Reply
from nerve.events.model import LogEvent
from nerve.kernel.recorder import Recorder
from nerve.kernel.reloader import Reloader
from nerve.processes.child import Boot, Child, Role
from nerve.processes.messages import Ready, Rescan
from nerve.processes.services import Service
from nerve.reload.codebase import Module, Version
from nerve.reload.revision import Revision
from nerve.reload.update import NewVersion, Update
from nerve.workspace import Workspace

HELPER = Module("h", "/w/senses/h.py", b"x = 1", "hhhh")


def main_of(sense: str, digest: str) -> Module:
    """Make a sense's own file."""
    return Module(f"senses.{sense}", f"/w/senses/{sense}.py", digest.encode(), digest)


def config_of(*senses: str, workers: int = 1) -> Config:
    """Make a configuration."""
    return Config(workers=workers, senses={name: SenseConfig(name, f"/w/senses/{name}.py") for name in senses})


def new_version(sense: str, digest: str) -> Update:
    """Make the update that brings a sense a new version, with a helper."""
    return Update(modules=(main_of(sense, digest), HELPER), versions=(NewVersion(sense, 0, (1,), 0, None),))


class Rig:
    """Reloader between a watcher and a recorder that do nothing by themselves."""

    def __init__(self, pinned_workers: int | None = None) -> None:
        self.happened: list[object] = []
        self.events: list[LogEvent] = []
        self.replies: list[Reply] = []
        revision = Revision(config_of("one"), {"one": Version(main_of("one", "d1"))})
        boot = SimpleNamespace(revision=revision, boot_id="b1", workspace=Workspace(cast(Any, "/w")))
        self.watcher = FakeChild("watcher")
        role = Role("watcher", lambda _context: None)
        self.service = Service(role, lambda _role: cast(Child, self.watcher), lambda _c: None, lambda _c: None)
        self.service.start(0.0)
        self.watcher.says(Ready())
        self.service.receive()
        clock = SimpleNamespace(stamp=lambda: Stamp(1, 1), now=lambda: 0.0)
        self.reloads = Reloader(
            cast(Boot, boot), self.service, cast(Recorder, self), cast(Any, clock), self._follow, pinned_workers
        )

    def submit(self, events: Sequence[LogEvent], committed: Callable[[], None] | None = None) -> None:
        """Be the recorder: remember the events, and when they came."""
        self.events += events
        self.happened.append("recorded")

    def _follow(self, before: Revision, after: Revision) -> None:
        assert after is self.reloads.revision
        self.happened.append((before, after))

    def recorded(self) -> list[tuple[str, str | None, Any]]:
        """Give what was recorded: type, reference and payload."""
        return [(event.type, event.ref_id, json.loads(event.payload)) for event in self.events]


@pytest.fixture
def rig() -> Rig:
    """Give reloads of a small engine."""
    return Rig()


def test_an_update_is_recorded_before_anything_goes_by_it(rig: Rig) -> None:
    """The log shows the change before the first run that it has led to."""
    before = rig.reloads.revision
    rig.reloads.take(new_version("one", "d2"))
    assert rig.happened == ["recorded", (before, rig.reloads.revision)]
    assert rig.reloads.revision.versions["one"].digest == "d2"


def test_a_new_version_is_recorded_with_its_digest_and_its_files(rig: Rig) -> None:
    """Paths are those of the workspace, each with the digest that `sha256sum` begins with."""
    rig.reloads.take(new_version("one", "d2"))
    [(kind, ref_id, payload)] = rig.recorded()
    assert (kind, ref_id, payload["ok"], payload["digest"]) == ("sense_reload", "one", True, "d2")
    assert set(payload["files"]) == {"senses/one.py", "senses/h.py"}
    assert {len(digest) for digest in payload["files"].values()} == {32}


def test_a_new_configuration_is_recorded_with_its_changes(rig: Rig) -> None:
    """First the configuration, then the senses that came with it."""
    update = new_version("two", "d1")
    config = config_of("one", "two", workers=3)
    rig.reloads.take(Update(config, None, update.modules, update.versions))
    assert [recorded[:2] for recorded in rig.recorded()] == [("config_reload", "b1"), ("sense_reload", "two")]
    assert rig.recorded()[0][2] == {"ok": True, "changes": ["workers 1 -> 3", "sense two: added"]}


def test_a_number_of_workers_that_does_not_come_about_is_recorded_as_that() -> None:
    """Where `--workers` says how many there are, nerve.yaml is not believed to have changed it."""
    rig = Rig(pinned_workers=9)
    rig.reloads.take(Update(config_of("one", workers=3)))
    assert rig.recorded()[0][2]["changes"] == ["workers 1 -> 3 (stays 9: --workers or $NERVE_WORKERS wins)"]


def test_what_is_broken_is_recorded_with_its_problems(rig: Rig) -> None:
    """A configuration with all of them, a sense with its line."""
    rig.reloads.take(Update(problems=("nerve.yaml:1: no", "nerve.yaml:2: no"), broken={"one": "senses/one.py:3: no"}))
    assert rig.recorded() == [
        ("config_reload", "b1", {"ok": False, "errors": ["nerve.yaml:1: no", "nerve.yaml:2: no"]}),
        ("sense_reload", "one", {"ok": False, "error": "senses/one.py:3: no"}),
    ]
    assert rig.reloads.revision.problems == ("nerve.yaml:1: no", "nerve.yaml:2: no", "senses/one.py:3: no")


def test_a_new_sense_that_is_broken_is_recorded_as_that_only(rig: Rig) -> None:
    """It is in force for want of a better one, which is nothing to call good."""
    update = new_version("two", "d1")
    rig.reloads.take(Update(config_of("one", "two"), None, update.modules, update.versions, {"two": "two.py:1: no"}))
    reloads = [recorded[2] for recorded in rig.recorded() if recorded[0] == "sense_reload"]
    assert reloads == [{"ok": False, "error": "two.py:1: no", "digest": "d1"}]  # by which its failing runs go


def test_folders_that_the_watcher_cannot_see_into_are_a_problem_until_it_can_or_dies(rig: Rig) -> None:
    """The next watcher tells anew."""
    for ending in (lambda: rig.reloads.cannot_see(()), lambda: rig.reloads.watcher_died("killed")):
        rig.reloads.cannot_see(("/w/lib (no room)",))
        assert rig.reloads.problems == ("changes in /w/lib (no room) are not noticed: use `nerve reload` after one",)
        ending()
        assert rig.reloads.problems == ()


def test_who_asks_is_told_what_came_of_it(rig: Rig) -> None:
    """Each the answer to their own question, once."""
    other: list[Reply] = []
    rig.reloads.ask(rig.replies.append)
    rig.reloads.ask(other.append)
    first, second = rig.watcher.received
    assert isinstance(first, Rescan)
    assert isinstance(second, Rescan)
    update = new_version("one", "d2")
    for _ in range(2):
        rig.reloads.take(Update(config_of("one", workers=2), None, update.modules, update.versions, {}, second.request))
    assert rig.replies == []
    assert other == [Reloaded(("workers 1 -> 2",), ("one",), ())]
    rig.reloads.take(Update(request=first.request, broken={"one": "one.py:1: no"}))
    assert rig.replies == [Reloaded((), (), ("one.py:1: no",))]


def test_an_answer_without_a_change_is_not_recorded(rig: Rig) -> None:
    """Nothing is different from before."""
    rig.reloads.ask(rig.replies.append)
    rig.reloads.take(Update(request=1))
    assert rig.replies == [Reloaded((), (), ())]
    assert rig.happened == []


def test_nobody_waits_for_a_watcher_that_is_not_there(rig: Rig) -> None:
    """Before it serves, after it has died, and while it ends."""
    rig.watcher.ready = False
    rig.reloads.ask(rig.replies.append)
    rig.watcher.ready = True
    rig.service.finish()
    rig.reloads.ask(rig.replies.append)
    rig.service.child = None
    rig.reloads.ask(rig.replies.append)
    assert rig.replies == [Refused("the watcher is not there: see `nerve status`")] * 3


def test_who_waits_is_told_of_the_watcher_s_death(rig: Rig) -> None:
    """Once; the next watcher numbers on, so that no late answer reaches the wrong one."""
    rig.reloads.ask(rig.replies.append)
    rig.reloads.watcher_died("killed by SIGKILL")
    rig.reloads.watcher_died("killed by SIGKILL")
    assert rig.replies == [Refused("the watcher died (killed by SIGKILL): ask again")]
    rig.reloads.ask(rig.replies.append)
    rig.reloads.take(Update(request=1))
    assert len(rig.replies) == 1
    rig.reloads.take(Update(request=2))
    assert len(rig.replies) == 2


def test_an_update_of_an_outdated_watcher_does_no_harm(rig: Rig) -> None:
    """What it says of a sense that is gone by now comes to nothing."""
    rig.reloads.take(Update(config_of("two"), versions=()))
    rig.reloads.take(new_version("one", "d9"))
    assert "one" not in rig.reloads.revision.versions
    assert changes(rig.reloads.revision.config, config_of("two")) == ()
