"""The reloader: it activates and records the watcher's updates, and answers those who asked for a reload."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.children import FakeChild
from support.clock import FakeClock

from nerve.config.config import Config, SenseConfig
from nerve.control.protocol import Refused, Reloaded, Reply
from nerve.events.model import LogEvent
from nerve.kernel.recorder import Recorder
from nerve.kernel.reloader import Reloader, RevisionChange
from nerve.processes.child import Boot, Child, Role
from nerve.processes.messages import Ready, Rescan
from nerve.processes.services import Service
from nerve.reload.codebase import Module, Version
from nerve.reload.revision import Delta, Revision
from nerve.reload.update import Update
from nerve.workspace import Workspace

HELPER = Module("h", "/w/senses/h.py", b"x = 1", "hhhh")


def main_of(sense: str, digest: str) -> Module:
    """Return a sense's own file."""
    return Module(f"senses.{sense}", f"/w/senses/{sense}.py", digest.encode(), digest)


def config_of(*senses: str, workers: int = 1) -> Config:
    """Return a configuration with these senses."""
    return Config(workers=workers, senses={name: SenseConfig(name, f"/w/senses/{name}.py") for name in senses})


def version_of(sense: str, digest: str) -> dict[str, Version]:
    """Return a new version of one sense, with a helper."""
    return {sense: Version(main_of(sense, digest), (HELPER,))}


class Harness:
    """A reloader between a fake watcher and a fake recorder."""

    def __init__(self, pinned_workers: int | None = None) -> None:
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
        self.reloader = Reloader(cast(Boot, boot), self.service, cast(Recorder, self), FakeClock(), pinned_workers)

    def submit(self, events: Sequence[LogEvent], committed: Callable[[], None] | None = None) -> None:
        """Keep what is recorded, as the recorder's stand-in."""
        self.events += events

    def apply(self, delta: Delta, request: int | None = None) -> RevisionChange | None:
        """Apply a delta as the watcher would send it."""
        return self.reloader.apply(Update.pack(delta, request))

    def recorded(self) -> list[tuple[str, str | None, Any]]:
        """Return what was recorded: type, reference and payload."""
        return [(event.type, event.ref_id, json.loads(event.payload)) for event in self.events]


@pytest.fixture
def harness() -> Harness:
    """Return a reloader with one active sense, `one`."""
    return Harness()


def test_an_update_is_recorded_and_its_change_returned(harness: Harness) -> None:
    """The kernel gets the change only after the record, so the log has it before any run that it leads to."""
    before = harness.reloader.revision
    change = harness.apply(Delta(versions=version_of("one", "d2")))
    assert change == (before, harness.reloader.revision)
    assert harness.reloader.revision.versions["one"].digest == "d2"
    assert [event.type for event in harness.events] == ["sense_reload"]


def test_a_new_version_is_recorded_with_its_digest_and_files(harness: Harness) -> None:
    """Paths are relative to the workspace, each with the first digits of the file's SHA-256."""
    harness.apply(Delta(versions=version_of("one", "d2")))
    [(kind, ref_id, payload)] = harness.recorded()
    assert (kind, ref_id, payload["ok"], payload["digest"]) == ("sense_reload", "one", True, "d2")
    assert set(payload["files"]) == {"senses/one.py", "senses/h.py"}
    assert {len(digest) for digest in payload["files"].values()} == {32}


def test_a_new_configuration_is_recorded_with_its_changes(harness: Harness) -> None:
    """The configuration comes first, then the senses that it added."""
    harness.apply(Delta(config_of("one", "two", workers=3), versions=version_of("two", "d1")))
    assert [recorded[:2] for recorded in harness.recorded()] == [("config_reload", "b1"), ("sense_reload", "two")]
    assert harness.recorded()[0][2] == {"ok": True, "changes": ["workers 1 -> 3", "sense two: added"]}


def test_a_change_of_workers_that_has_no_effect_is_recorded_as_such() -> None:
    """With `--workers`, the number in nerve.yaml is not used, and the recorded change says so."""
    harness = Harness(pinned_workers=9)
    harness.apply(Delta(config_of("one", workers=3)))
    assert harness.recorded()[0][2]["changes"] == ["workers 1 -> 3 (stays 9: --workers or $NERVE_WORKERS wins)"]


def test_broken_files_are_recorded_with_their_problems(harness: Harness) -> None:
    """A configuration is recorded with all of its problems, a sense with its first."""
    problems = ("nerve.yaml:1: no", "nerve.yaml:2: no")
    harness.apply(Delta(config_problems=problems, broken={"one": "senses/one.py:3: no"}))
    assert harness.recorded() == [
        ("config_reload", "b1", {"ok": False, "errors": list(problems)}),
        ("sense_reload", "one", {"ok": False, "error": "senses/one.py:3: no"}),
    ]
    assert harness.reloader.revision.problems == (*problems, "senses/one.py:3: no")


def test_a_new_broken_sense_is_recorded_only_as_broken(harness: Harness) -> None:
    """Its version is active, since there is no other; the digest is the one that its failing runs are recorded with."""
    harness.apply(Delta(config_of("one", "two"), None, version_of("two", "d1"), {"two": "two.py:1: no"}))
    reloads = [recorded[2] for recorded in harness.recorded() if recorded[0] == "sense_reload"]
    assert reloads == [{"ok": False, "error": "two.py:1: no", "digest": "d1"}]


@pytest.mark.parametrize(
    "end", [lambda reloader: reloader.set_unwatched(()), lambda reloader: reloader.watcher_died("killed")]
)
def test_unwatched_folders_are_a_problem_until_they_are_watched_or_the_watcher_dies(
    harness: Harness, end: Callable[[Reloader], None]
) -> None:
    """A new watcher reports its unwatched folders itself."""
    harness.reloader.set_unwatched(("/w/lib (no room)",))
    assert harness.reloader.problems == ("changes in /w/lib (no room) are not detected: run `nerve reload` after one",)
    end(harness.reloader)
    assert harness.reloader.problems == ()


def test_each_request_gets_its_own_answer_once(harness: Harness) -> None:
    """Answers are matched by the request's number, in whatever order they come."""
    other: list[Reply] = []
    harness.reloader.ask(harness.replies.append)
    harness.reloader.ask(other.append)
    first, second = harness.watcher.received
    assert isinstance(first, Rescan)
    assert isinstance(second, Rescan)
    delta = Delta(config_of("one", workers=2), versions=version_of("one", "d2"))
    for _ in range(2):
        harness.apply(delta, second.request)
    assert harness.replies == []
    assert other == [Reloaded(("workers 1 -> 2",), ("one",), ())]
    harness.apply(Delta(broken={"one": "one.py:1: no"}), first.request)
    assert harness.replies == [Reloaded((), (), ("one.py:1: no",))]


def test_an_answer_without_a_change_is_not_recorded(harness: Harness) -> None:
    """The request is answered, and the kernel has nothing to apply."""
    harness.reloader.ask(harness.replies.append)
    assert harness.apply(Delta(), request=1) is None
    assert harness.replies == [Reloaded((), (), ())]
    assert harness.events == []


def test_a_request_is_refused_while_no_watcher_runs(harness: Harness) -> None:
    """That is before it is ready, while it finishes, and after its death."""
    harness.watcher.ready = False
    harness.reloader.ask(harness.replies.append)
    harness.watcher.ready = True
    harness.service.finish()
    harness.reloader.ask(harness.replies.append)
    harness.service.child = None
    harness.reloader.ask(harness.replies.append)
    assert harness.replies == [Refused("the watcher is not running; see `nerve status`")] * 3


def test_a_waiting_request_is_refused_when_the_watcher_dies(harness: Harness) -> None:
    """It is refused once; numbers are not reused, so a late answer can't reach the wrong request."""
    harness.reloader.ask(harness.replies.append)
    harness.reloader.watcher_died("killed by SIGKILL")
    harness.reloader.watcher_died("killed by SIGKILL")
    assert harness.replies == [Refused("the watcher died (killed by SIGKILL): try again")]
    harness.reloader.ask(harness.replies.append)
    harness.apply(Delta(), request=1)
    assert len(harness.replies) == 1
    harness.apply(Delta(), request=2)
    assert len(harness.replies) == 2


def test_a_version_of_a_removed_sense_is_ignored(harness: Harness) -> None:
    """A watcher that was started with an earlier revision may still send one."""
    harness.apply(Delta(config_of("two")))
    harness.apply(Delta(versions=version_of("one", "d9")))
    assert harness.reloader.revision == Revision(config_of("two"), {})
