"""The workspace that `nerve init` writes: its configuration is valid, and each of its senses does what it says."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import psutil
import pytest
from honcho.environ import parse_procfile

from nerve.cli.commands.init import FILES, SENSES
from nerve.config.config import load_config
from nerve.reload.syntax_check import problem_of
from nerve.testing import Result, load, run

TEMPLATE = Path(str(resources.files("nerve") / "workspace_template"))
MINUTE_MS = 60_000


class Senses:
    """The senses of the template, run one after the other in one workspace."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def run(self, sense: str, **options: Any) -> Result:
        """Run a sense once, which must go well."""
        return run(load(TEMPLATE / "senses" / f"{sense}.py"), sense=sense, home=self._home, **options).raise_on_error()


@pytest.fixture
def senses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Senses]:
    """The template's senses, in an empty workspace; their modules are removed afterwards."""
    monkeypatch.setattr("sys.path", [*sys.path])
    yield Senses(tmp_path)
    for sense in SENSES:
        sys.modules.pop(f"senses.{sense}", None)


def logged(result: Result) -> list[tuple[str, str, Any]]:
    """Return what a sense logged."""
    return [(entry.source, entry.type, entry.payload) for entry in result.events]


def reading(sense: str, payload: object, ts: int | None = None) -> dict[str, object]:
    """Make a reading as a sense logs it, `ts` in unix ms."""
    return {"source": "sense", "type": "reading", "ref_id": f"{sense}/{'0' * 32}", "payload": payload, "ts": ts}


def test_init_writes_every_file_of_the_template() -> None:
    """nerve.yaml is written last: a folder that has one is complete."""
    held = {
        path.relative_to(TEMPLATE).as_posix()
        for path in TEMPLATE.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert (held, FILES[-1]) == (set(FILES), "nerve.yaml")


def test_the_configuration_is_valid_and_runs_every_sense() -> None:
    """nerve.yaml loads without a problem, and each sense of the template has its file and a reflex."""
    config = load_config(TEMPLATE / "nerve.yaml")
    assert set(config.senses) == {reflex.sense for reflex in config.reflexes} == set(SENSES)
    for sense in config.senses.values():
        assert problem_of(Path(sense.path).read_bytes(), sense.path, is_sense=True) is None


def test_the_procfile_starts_nerve_without_a_shell_in_between() -> None:
    """A shell would keep Ctrl-C from nerve itself."""
    processes = parse_procfile((TEMPLATE / "Procfile").read_text()).processes
    assert dict(processes) == {"nerve": "PYTHONUNBUFFERED=1 exec nerve start"}


def test_cpu_signals_every_reading(senses: Senses) -> None:
    """A reading is the percentage of all processors together, so the template has signals from the start."""
    result = senses.run("cpu")
    assert logged(result) == [("sense", "reading", result.signal)]
    assert 0 <= result.signal["percent"] <= 100


@pytest.mark.parametrize(("used", "signal"), [(12.5, None), (97.5, {"percent": 97.5, "limit": 90})])
def test_memory_logs_every_reading_and_signals_a_high_one(
    senses: Senses, monkeypatch: pytest.MonkeyPatch, used: float, signal: object
) -> None:
    """The limit is 90 percent."""
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(percent=used))
    result = senses.run("memory")
    assert (logged(result), result.signal) == ([("sense", "reading", {"percent": used})], signal)


@pytest.mark.parametrize(("load", "percent"), [(0.5, 25.0), (3.0, 150.0)])
def test_load_is_relative_to_the_number_of_processors(
    senses: Senses, monkeypatch: pytest.MonkeyPatch, load: float, percent: float
) -> None:
    """Two processors are full with a load of 2, and more than that is a signal."""
    monkeypatch.setattr(psutil, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    result = senses.run("load")
    [(source, type_, payload)] = logged(result)
    assert (source, type_, payload["percent"]) == ("sense", "reading", percent)
    assert payload["wakes_late_ms"] >= 0
    assert result.signal == (payload if percent > 100 else None)


def test_disk_signals_each_new_peak_once(senses: Senses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its database keeps the highest usage from run to run."""
    real = psutil.disk_usage("/")
    signals = []
    for percent in (50.0, 50.0, 40.0, 60.5, 60.0):
        monkeypatch.setattr(psutil, "disk_usage", lambda _path, percent=percent: real._replace(percent=percent))
        result = senses.run("disk")
        assert logged(result) == [("sense", "reading", {"percent": percent})]
        signals.append(result.signal)
    first, second = {"percent": 50.0, "peak_before": None}, {"percent": 60.5, "peak_before": 50.0}
    assert signals == [first, None, None, second, None]


def test_pressure_summarizes_what_the_other_senses_logged(senses: Senses) -> None:
    """The readings of all four, as they really are, are summarized per sense; the signal names those under pressure."""
    readings = {sense: senses.run(sense).events[0].payload["percent"] for sense in ("cpu", "load", "memory", "disk")}
    result = senses.run("pressure", signal={"percent": 1})
    [(source, type_, summary)] = logged(result)
    assert (source, type_, summary["because_of"]) == ("sense", "summary", "other")
    assert {sense: of["max"] for sense, of in summary["senses"].items()} == readings
    high = [sense for sense, of in summary["senses"].items() if of["mean"] > 80]
    assert result.signal == ({"high": high} if high else None)


def test_pressure_takes_the_means_of_the_last_minutes(senses: Senses) -> None:
    """A single peak is not a signal; older entries, and readings of another form, are left out."""
    now = time.time_ns() // 1_000_000
    logs = [
        *(reading("cpu", {"percent": percent}) for percent in (100, 10, 10)),
        *(reading("memory", {"percent": percent}) for percent in (95.0, 85.0)),
        *(reading("greenhouse", payload) for payload in ({"celsius": 31}, None, 7, [])),
        reading("disk", {"percent": 99}, now - 6 * MINUTE_MS),
        {**reading("load", {"percent": 99}), "type": "summary"},
    ]
    result = senses.run("pressure", logs=logs, now=now)
    summary = {"cpu": {"mean": 40.0, "max": 100}, "memory": {"mean": 90.0, "max": 95.0}}
    assert logged(result) == [("sense", "summary", {"because_of": None, "senses": summary})]
    assert result.signal == {"high": ["memory"]}


def test_pressure_is_silent_on_an_empty_log(senses: Senses) -> None:
    """Before anything is logged it writes an empty summary, and does not fail."""
    result = senses.run("pressure")
    assert (logged(result), result.signal) == ([("sense", "summary", {"because_of": None, "senses": {}})], None)
