"""The workspace that `nerve init` writes: its configuration is sound, and each of its senses does its part."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil
import pytest
from honcho.environ import parse_procfile
from peewee import SqliteDatabase

from nerve.cli.commands.init import FILES, SENSES
from nerve.clock import SystemClock
from nerve.config.config import Config, load_config
from nerve.events.model import Log, LogEvent
from nerve.events.trigger import Signal, Trigger
from nerve.processes.messages import Run, RunResult
from nerve.reload.codebase import Codebase, read_main
from nerve.reload.syntax_check import problem_of
from nerve.runtime.context import SenseContext
from nerve.runtime.interruption import Interrupter
from nerve.runtime.loader import SenseLoader
from nerve.runtime.runner import run_sense

TEMPLATE = Path(str(resources.files("nerve") / "workspace_template"))
BY_INTERVAL = Trigger("interval", "a-reflex", None, 0, 0)


class Events:
    """A sink that keeps what a compute logs."""

    def __init__(self) -> None:
        self.kept: list[LogEvent] = []

    def send(self, events: Sequence[LogEvent]) -> None:
        """Keep the events."""
        self.kept.extend(events)

    def settle(self, timeout: float) -> bool:
        """All is settled at once, within any timeout."""
        return timeout > 0


class Databases:
    """The log as a list, and a sense's database in memory."""

    def __init__(self) -> None:
        self.logs: list[Log] = []
        self.asked: list[dict[str, Any]] = []
        self._own: dict[str, SqliteDatabase] = {}

    def query_logs(self, **filters: Any) -> list[Log]:
        """Give the log, and remember what was asked of it."""
        self.asked.append(filters)
        return self.logs

    def own(self, sense: str) -> SqliteDatabase:
        """Open the sense's database, which lasts as long as the test."""
        return self._own.setdefault(sense, SqliteDatabase(":memory:"))

    def peer(self, sense: str) -> SqliteDatabase:
        """Refuse: no sense of the template reads another's database."""
        raise AssertionError(f"the database of {sense} was asked for")

    def close(self) -> None:
        """Close the senses' databases."""
        for database in self._own.values():
            database.close()


class Done(NamedTuple):
    """One run of a sense: what it logged, as (source, type, payload), and the signal that it returned."""

    logged: list[tuple[str, str, Any]]
    signal: Any


class Bench:
    """Where the senses of the template are performed, on events and databases that a test can look at."""

    def __init__(self) -> None:
        self.events = Events()
        self.databases = Databases()
        self._loader = SenseLoader(TEMPLATE / "senses")
        codebase = Codebase.read(TEMPLATE / "senses")
        for sense in load_config(TEMPLATE / "nerve.yaml").senses.values():
            self._loader.accept(sense.name, codebase.version(read_main(sense)))

    def run_sense(self, sense: str, trigger: Trigger = BY_INTERVAL) -> Done:
        """Do one run of a sense, which must go well."""
        before = len(self.events.kept)
        outcome = self._outcome(sense, trigger)
        assert (outcome.status, outcome.error) == ("ok", None)
        logged = [(event.source, event.type, msgspec.json.decode(event.payload)) for event in self.events.kept[before:]]
        return Done(logged, None if outcome.signal is None else msgspec.json.decode(outcome.signal))

    def _outcome(self, sense: str, trigger: Trigger) -> RunResult:
        run = Run(run_id=f"{sense}/{'0' * 32}", sense=sense, trigger=trigger, timeout=30.0, max_payload=65536)

        def context(decoded: Trigger) -> SenseContext:
            return SenseContext(
                sense,
                run.run_id,
                decoded,
                events=self.events,
                databases=self.databases,
                clock=SystemClock(),
                max_payload=run.max_payload,
            )

        return run_sense(run, self._loader, context, Interrupter(), SystemClock())


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench, whose senses are not left among the imported modules."""
    bench = Bench()
    yield bench
    bench.databases.close()
    for sense in SENSES:
        sys.modules.pop(f"senses.{sense}", None)


def reading(sense: str, payload: object) -> Log:
    """Make an entry as a sense logs it."""
    return Log(1, "sense", "reading", f"{sense}/{'0' * 32}", payload, 0)


def test_what_init_writes_is_what_the_template_holds() -> None:
    """No file of the template is forgotten, and nerve.yaml comes last: a folder that has one is complete."""
    held = {
        path.relative_to(TEMPLATE).as_posix()
        for path in TEMPLATE.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert (held, FILES[-1]) == (set(FILES), "nerve.yaml")


def test_the_configuration_is_sound_and_runs_every_sense() -> None:
    """nerve.yaml loads without a problem, and each sense of the template has its file and a reflex."""
    config = load_config(TEMPLATE / "nerve.yaml")
    assert set(config.senses) == {reflex.sense for reflex in config.reflexes} == set(SENSES)
    for sense in config.senses.values():
        assert problem_of(Path(sense.path).read_bytes(), sense.path, is_sense=True) is None


def test_the_keys_that_are_commented_out_show_their_defaults(tmp_path: Path) -> None:
    """Taking the comment signs away changes nothing, but that the number of workers is then fixed."""
    text = (TEMPLATE / "nerve.yaml").read_text()
    shown, count = re.subn(r"^( *)# ([a-z_]+: )", r"\1\2", text, flags=re.MULTILINE)
    assert count == 11
    for name in SENSES:
        (tmp_path / "senses").mkdir(exist_ok=True)
        (tmp_path / "senses" / f"{name}.py").touch()
    loaded = []
    for version in (text, shown):
        (tmp_path / "nerve.yaml").write_text(version)
        loaded.append(load_config(tmp_path / "nerve.yaml"))
    assert replace(loaded[1], workers=Config().workers) == loaded[0]


@pytest.mark.parametrize(
    "key",
    [
        *("workers", "shutdown_timeout", "path", "group", "throttle", "timeout", "grace_period"),
        *("name", "kind", "sense", "interval", "on", "retention", "archive_interval", "max_payload"),
    ],
)
def test_the_configuration_shows_every_key(key: str) -> None:
    """Whoever looks for a setting finds it in the file that they have."""
    text = (TEMPLATE / "nerve.yaml").read_text()
    assert re.search(rf"^[ #-]*{key}: ", text, flags=re.MULTILINE)


def test_the_procfile_leaves_no_shell_between() -> None:
    """One line, which becomes nerve."""
    processes = parse_procfile((TEMPLATE / "Procfile").read_text()).processes
    assert dict(processes) == {"nerve": "PYTHONUNBUFFERED=1 exec nerve start"}


def test_cpu_signals_every_reading(bench: Bench) -> None:
    """It is what makes signals from the start: a percentage of all processors together."""
    done = bench.perform("cpu")
    assert done.logged == [("sense", "reading", done.signal)]
    assert 0 <= done.signal["percent"] <= 100


@pytest.mark.parametrize(("used", "signal"), [(12.5, None), (97.5, {"percent": 97.5, "limit": 90})])
def test_memory_signals_when_it_is_short(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, used: float, signal: object
) -> None:
    """A reading is logged in any case; only a high one is a signal."""
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(percent=used))
    assert bench.perform("memory") == ([("sense", "reading", {"percent": used})], signal)


@pytest.mark.parametrize(("load", "percent"), [(0.5, 25.0), (3.0, 150.0)])
def test_load_is_relative_to_the_processors(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, load: float, percent: float
) -> None:
    """Two processors are full with a load of 2, and more than that is a signal."""
    monkeypatch.setattr(psutil, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    ((source, type_, payload),), signal = bench.perform("load")
    assert (source, type_, payload["percent"]) == ("sense", "reading", percent)
    assert payload["wakes_late_ms"] >= 0
    assert signal == (payload if percent > 100 else None)


def test_disk_signals_each_new_peak_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its database remembers the highest usage from run to run."""
    real = psutil.disk_usage("/")
    usages = iter([50.0, 50.0, 40.0, 60.5, 60.0])
    monkeypatch.setattr(psutil, "disk_usage", lambda _path: real._replace(percent=next(usages)))
    done = [bench.perform("disk") for _ in range(5)]
    assert [logged for ((_, _, logged),), _ in done] == [{"percent": p} for p in (50.0, 50.0, 40.0, 60.5, 60.0)]
    peaks = [{"percent": 50.0, "peak_before": None}, None, None, {"percent": 60.5, "peak_before": 50.0}, None]
    assert [signal for _, signal in done] == peaks


def test_pressure_sums_up_what_the_others_have_logged(bench: Bench) -> None:
    """The readings of all four, as they really are, come out per sense; the signal names those under pressure."""
    for sense in ("cpu", "load", "memory", "disk"):
        ((source, type_, payload),), _ = bench.perform(sense)
        bench.databases.logs.append(Log(1, source, type_, f"{sense}/{'0' * 32}", payload, 0))
    signal = Signal("cpu", "{}", None, 0)
    ((source, type_, summary),), result = bench.perform("pressure", Trigger("signal", "r", signal, 0, 0))
    assert (source, type_, summary["because_of"]) == ("sense", "summary", "cpu")
    assert {sense: of["max"] for sense, of in summary["senses"].items()} == {
        log.ref_id.split("/")[0]: log.payload["percent"] for log in bench.databases.logs if log.ref_id
    }
    high = [sense for sense, of in summary["senses"].items() if of["mean"] > 80]
    assert result == ({"high": high} if high else None)


def test_pressure_looks_at_means_over_the_last_minutes(bench: Bench) -> None:
    """One peak is no pressure, and other readings that a user's senses log are no hindrance."""
    bench.databases.logs = [
        *(reading("cpu", {"percent": percent}) for percent in (100, 10, 10)),
        *(reading("memory", {"percent": percent}) for percent in (95.0, 85.0)),
        *(reading("greenhouse", payload) for payload in ({"celsius": 31}, None, 7, [])),
    ]
    done = bench.perform("pressure")
    senses = {"cpu": {"mean": 40.0, "max": 100}, "memory": {"mean": 90.0, "max": 95.0}}
    assert done.logged == [("sense", "summary", {"because_of": None, "senses": senses})]
    assert done.signal == {"high": ["memory"]}
    (asked,) = bench.databases.asked
    assert (asked["source"], asked["type"]) == ("sense", "reading")
    assert asked["since"].tzinfo is not None


def test_pressure_on_an_empty_log_is_silent(bench: Bench) -> None:
    """Nothing has been logged yet: an empty summary, and no failure."""
    assert bench.perform("pressure") == ([("sense", "summary", {"because_of": None, "senses": {}})], None)
