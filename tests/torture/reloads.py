"""Files are changed under load, in every way: no run is lost or doubled, and each has the code that its entry names."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from support.engine import Engine
from support.load import COUNTING, Load
from support.verdict import Verdict
from support.versions import check_audit_trail, ran
from support.waiting import pause, wait_until

from nerve.config.config import load_config
from nerve.control.client import ControlClient
from nerve.control.protocol import GetStatus, Scaled, ScaleWorkers, StatusReply
from nerve.control.status import EngineStatus
from nerve.reload.codebase import Codebase, read_main
from nerve.workspace import Workspace
from torture.processes import finish, titled
from torture.scenario import scenario

UPDATES, UPDATES_WHEN_SHORT = 200, 12
EVENTS, INTERVAL = 10, "20ms"
BETWEEN_SECONDS = 0.2
"""Longest pause between two saves; many are shorter than the time that the watcher waits."""

STEPS_A_ROUND = 8
QUIET_SECONDS = 15.0
"""Time within which the active versions must be those on disk, including the restart of a killed watcher."""

KILL_WATCHER, SCALE = 0.04, 0.1
MOST_WORKERS = 8
BROKEN = "def compute(ctx)\n"

VERSIONED = """
from shared import VALUE
OWN = {own}
{counting}
count = compute

def compute(ctx):
    ctx.log("version", {{"v": [OWN, VALUE]}})
    count(ctx)
"""


class Disk:
    """The files of a workspace, which are changed at random; knows the content of each."""

    def __init__(self, engine: Engine, load: Load, random: random.Random) -> None:
        self._random = random
        self._load = load
        self._senses = engine.home / "senses"
        self._yaml = engine.home / "nerve.yaml"
        self._number = 0
        self.own = dict.fromkeys(load.names, 0)
        self.broken: set[Path] = set()
        self.shared = self.beat = 0
        self.fix_all()

    def fix_all(self) -> None:
        """Write a new, valid version of each file."""
        self.change_shared()
        for name in self.own:
            self.change_sense(name)
        self.change_config()

    def change_something(self) -> None:
        """Change, break or remove one file."""
        name = self._random.choice(list(self.own))
        ways: list[tuple[int, Callable[[], object]]] = [
            (6, lambda: self.change_sense(name)),
            (2, self.change_shared),
            (4, self.change_config),
            (1, lambda: self._save(self._path(name), BROKEN, good=False)),
            (1, lambda: self._save(self._senses / "shared.py", BROKEN, good=False)),
            (1, lambda: self._save(self._yaml, "workers: many\n", good=False)),
            (1, lambda: self._remove(self._path(name))),
            (1, lambda: self._remove(self._yaml)),
        ]
        weights, changes = zip(*ways, strict=True)
        self._random.choices(changes, weights)[0]()

    def change_sense(self, name: str) -> None:
        """Write a new version of a sense's file."""
        self.own[name] = self._next()
        counting = COUNTING.format(folder=str(self._load.folder), events=EVENTS, pad="''")
        self._save(self._path(name), VERSIONED.format(own=self.own[name], counting=counting))

    def change_shared(self) -> None:
        """Write a new version of the module that all senses import."""
        self.shared = self._next()
        self._save(self._senses / "shared.py", f"VALUE = {self.shared}\n")

    def change_config(self) -> None:
        """Write a nerve.yaml with another reflex of the first sense, and with or without an extra sense."""
        self.beat = self._next()
        first, *others = self._load.names
        extra = self._random.choice(["", ", extra: {}"])
        reflexes = [f"{{name: beat-{self.beat}, sense: {first}, interval: {INTERVAL}}}"]
        reflexes += [f"{{sense: {name}, interval: {INTERVAL}}}" for name in (*others, *(["extra"] if extra else []))]
        senses = ", ".join(f"{name}: {{}}" for name in self._load.names)
        self._save(self._yaml, f"workers: 2\nsenses: {{{senses}{extra}}}\nreflexes: [{', '.join(reflexes)}]\n")

    def _path(self, name: str) -> Path:
        return self._senses / f"{name}.py"

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _save(self, path: Path, text: str, *, good: bool = True) -> None:
        """Overwrite a file, or replace it by a rename."""
        if self._random.random() < 0.5:
            path.write_text(text)
        else:
            beside = path.with_name(f".{path.name}.new")
            beside.write_text(text)
            beside.replace(path)
        (self.broken.discard if good else self.broken.add)(path)

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.broken.add(path)


@scenario
def reloads(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """Change senses, a shared module and nerve.yaml under load; scale, and SIGKILL the watcher meanwhile."""
    load = Load(engine, senses=4, events=EVENTS, interval=INTERVAL)
    engine.sense("extra", "def compute(ctx): ...\n")
    disk = Disk(engine, load, random)
    engine.start()
    saves = rounds = 0
    while _updates(engine) < (UPDATES_WHEN_SHORT if short else UPDATES):
        for _ in range(STEPS_A_ROUND):
            disk.change_something()
            saves += 1
            _disturb(engine, random, verdict)
            pause(random.uniform(0, BETWEEN_SECONDS))
        if rounds % 2:
            disk.fix_all()
        _check_in_force(engine, disk, load)
        rounds += 1
    disk.fix_all()
    _check_in_force(engine, disk, load)
    verdict.expect(not _problems(engine), f"problems are left: {_problems(engine)}")
    finish(engine, load, verdict)
    _check_history(engine, load, verdict)
    verdict.notes.append(
        f"{saves} saves and {rounds} quiet moments: {_updates(engine)} updates, "
        f"{engine.how_many(f'{RELOADED} AND {REFUSED}')} refusals; {engine.count('reflex', 'run_start')} runs"
    )


RELOADED = "source = 'system' AND type IN ('sense_reload', 'config_reload')"
REFUSED = "json_extract(payload, '$.ok') = 0"


def _updates(engine: Engine) -> int:
    """Return the number of updates that the kernel has applied; the entries of one have the same time."""
    return len({row.ts for row in engine.rows(RELOADED)})


def _disturb(engine: Engine, random: random.Random, verdict: Verdict) -> None:
    if random.random() < KILL_WATCHER:
        for victim in titled(engine, "watcher"):
            with suppress(psutil.NoSuchProcess):
                victim.kill()
                verdict.kills += 1
    if random.random() < SCALE:
        with _connected(engine) as client:
            client.send(ScaleWorkers(random.randint(1, MOST_WORKERS)))
            client.expect(Scaled, 10)


def _connected(engine: Engine) -> ControlClient:
    """Connect like a command, but without looking for nerve.yaml, which may be missing."""
    workspace = Workspace(engine.home.resolve())
    return ControlClient(workspace.control_socket, workspace.home)


def _status(engine: Engine) -> EngineStatus:
    with _connected(engine) as client:
        client.send(GetStatus())
        return client.expect(StatusReply, 10).status


def _problems(engine: Engine) -> list[str]:
    return _status(engine).problems


def _check_in_force(engine: Engine, disk: Disk, load: Load) -> None:
    """Wait until the active versions are the valid files on disk; raise AssertionError if they stay different."""
    workspace = Workspace(engine.home.resolve())
    shared_is_good = workspace.senses_dir / "shared.py" not in {path.resolve() for path in disk.broken}
    config_is_good = not any(path.suffix == ".yaml" or not path.exists() for path in disk.broken)
    for name in load.names:
        if shared_is_good and engine.home / "senses" / f"{name}.py" not in disk.broken:
            version = [disk.own[name], disk.shared]
            _until(engine, lambda n=name, v=version: _last_version(engine, n) == v, f"{name} says {version}")
            if config_is_good:
                _check_digest(engine, workspace, name)
    if config_is_good:
        beat = f"beat-{disk.beat}"
        _until(engine, lambda: _last_reflex(engine, load.names[0]) == beat, f"{beat} fires")
    elif disk.broken:
        _until(engine, lambda: _problems(engine), f"the status names one of {disk.broken}")


def _until(engine: Engine, condition: Callable[[], object], what: str) -> None:
    """Wait for something to become active; if it does not, fail with everything that could explain it."""
    try:
        wait_until(condition, what, QUIET_SECONDS)
    except AssertionError as late:
        last = [(row.ts, row.ref_id, row.payload) for row in engine.rows(RELOADED)[-8:]]
        raise AssertionError(f"{late}\n{_status(engine)}\n{last}\n{engine.stderr[-4000:]}") from None


def _check_digest(engine: Engine, workspace: Workspace, name: str) -> None:
    sense = load_config(workspace.config_path).senses[name]
    digest = Codebase.read(workspace.senses_dir).version(read_main(sense)).digest
    assert ran(engine, name)[-1][0] == digest, f"{name} runs under another digest than that of the disk, {digest}"


def _last_version(engine: Engine, name: str) -> object:
    rows = engine.rows("id = (SELECT max(id) FROM logs WHERE type = 'version' AND ref_id LIKE ?)", f"{name}/%")
    return rows[0].payload["v"] if rows else None


def _last_reflex(engine: Engine, name: str) -> object:
    where = "id = (SELECT max(id) FROM logs WHERE type = 'run_start' AND ref_id LIKE ?)"
    return engine.rows(where, f"{name}/%")[0].payload["reflex"]


def _check_history(engine: Engine, load: Load, verdict: Verdict) -> None:
    for name in (*load.names, "extra"):
        try:
            check_audit_trail(engine, name)
        except AssertionError as wrong:
            verdict.wrong.append(str(wrong))
    failed = "type = 'run_complete' AND json_extract(payload, '$.status') NOT IN ('ok', 'cancelled')"
    verdict.expect(not engine.how_many(failed), f"{engine.how_many(failed)} runs failed")
    others = engine.how_many("source = 'system' AND type = 'error'") - verdict.kills
    verdict.expect(not others, f"{others} other errors than the watcher's deaths")
