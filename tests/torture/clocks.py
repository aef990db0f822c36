"""The wall clock is stepped while the engine runs: timestamps follow it, and nothing else does."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from support.engine import Engine
from support.load import Load
from support.verdict import Verdict
from support.waiting import pause, wait_until
from support.wallclock import WallClock

from torture.processes import finish, titled
from torture.scenario import scenario

HOUR, DAY = 3600.0, 86400.0
BEAT_SECONDS = 0.1
TOLERANCE_SECONDS = 2.0
"""Limit on gaps and lateness: more than a loaded machine needs, and much less than a step."""

CATCH_UP_SECONDS = 20.0
TAIL_BYTES = 10_000

BEAT = """
import time

def compute(ctx):
    ctx.log("beat", {"mono": time.monotonic()})
    return {"mono": time.monotonic()}
"""

OUT_OF_ORDER = {
    "runs have entries before their run_start, or after their run_complete": """
        SELECT count(*) FROM (SELECT 1 FROM logs WHERE ref_id LIKE '%/%' GROUP BY ref_id
        HAVING min(id) <> min(id) FILTER (WHERE type = 'run_start')
            OR max(id) <> max(id) FILTER (WHERE type = 'run_complete'))""",
    "events of a run are not in the order in which they were logged": """
        SELECT count(*) FROM (SELECT json_extract(payload, '$.n') AS n,
            lag(json_extract(payload, '$.n')) OVER (PARTITION BY ref_id ORDER BY id) AS previous
        FROM logs WHERE source = 'sense' AND type = 'n') WHERE n <= previous""",
    "runs started before the run that caused them was complete": """
        SELECT count(*) FROM logs AS effect JOIN logs AS cause
        ON cause.ref_id = json_extract(effect.payload, '$.cause') AND cause.type = 'run_complete'
        WHERE effect.type = 'run_start' AND effect.id < cause.id""",
}


class Listener:
    """A reader of the whole log: with `nerve logs -f` while the engine runs, and page by page."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._file = engine.home / "followed"
        self.paged: list[int] = []
        with self._file.open("w") as file:
            self._process = subprocess.Popen(engine.command("logs", "-f", "--json", "--after", "0"), stdout=file)

    @property
    def followed(self) -> list[int]:
        """Return the ids that `nerve logs -f` has printed, in its order."""
        return [json.loads(line)["id"] for line in self._file.read_text().splitlines()]

    def page(self) -> None:
        """Read the entries after the last one of the previous page."""
        after = self.paged[-1] if self.paged else 0
        page = self._engine.run("logs", "--json", "--after", str(after)).stdout
        self.paged += [json.loads(line)["id"] for line in page.splitlines()]

    def end(self, last_id: int) -> int:
        """End `nerve logs -f` once it has printed the last entry; return its exit code."""
        last_line = f'{{"id":{last_id},'.encode()
        with suppress(AssertionError):
            wait_until(lambda: last_line in _tail(self._file), "nerve logs -f has printed everything", CATCH_UP_SECONDS)
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(timeout=10)


def _tail(file: Path) -> bytes:
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - TAIL_BYTES))
        return opened.read()


@scenario
def clock(engine: Engine, random: random.Random, verdict: Verdict, short: bool) -> None:
    """Step the wall clock by an hour, back and forth, and SIGKILL the writer meanwhile."""
    wall = WallClock(engine.home / "wallclock")
    engine.prelude = wall.prelude
    wall.step(DAY // 2 - wall.now() % DAY)  # noon: an hour more or less is still the same day
    load = _configure(engine)
    began = time.monotonic()
    engine.start()
    listener = Listener(engine)
    offsets = [0.0]
    for _ in range(3 if short else 16):
        offsets.append(random.choice([offset for offset in (-HOUR, 0.0, HOUR) if offset != offsets[-1]]))
        _kill_writer_in_a_burst(engine, load, random, verdict)  # its successor starts in another hour
        wall.step(offsets[-1] - offsets[-2])
        pause(random.uniform(0, 0.3))
        triggered = engine.run("trigger", "by-hand", "--wait", "--json")
        types = [json.loads(line)["type"] for line in triggered.stdout.splitlines()]
        verdict.expect(types == ["run_start", "beat", "run_complete"], f"trigger --wait: {types} {triggered.stderr}")
        _check_status(engine, wall, began, verdict)
        listener.page()
    finish(engine, load, verdict)
    _check_listener(engine, listener, verdict)
    _check_order(engine.db, verdict)
    _check_beats(engine, verdict)
    archived = [path.name for path in (engine.home / "data" / "archive").rglob("*.jsonl")]
    verdict.expect(not archived and not engine.count("system", "archive"), f"today was archived: {archived}")


def _configure(engine: Engine) -> Load:
    load = Load(engine, senses=3, events=400, interval="500ms")
    for name in ("beat", "echo", "by-hand"):
        engine.sense(name, BEAT)
        load.senses.append(f"{name}: {{}}")
    load.reflexes += [f"{{sense: beat, interval: {BEAT_SECONDS:g}s}}", "{sense: echo, on: [beat]}"]
    load.configure(workers=4, extra="logs: {retention: 1s, archive_interval: 1s}\n")
    return load


def _kill_writer_in_a_burst(engine: Engine, load: Load, random: random.Random, verdict: Verdict) -> None:
    """Kill the writer while it is behind: batches that are committed but not acknowledged are sent again."""
    runs = load.runs()
    wait_until(lambda: load.runs() > runs, "a burst has begun")
    pause(random.uniform(0, 0.1))
    for victim in titled(engine, "writer"):
        with suppress(psutil.NoSuchProcess):
            victim.kill()
            verdict.kills += 1


def _check_status(engine: Engine, wall: WallClock, began: float, verdict: Verdict) -> None:
    """Record what is wrong in the status, unless it is right again once the writer is back."""
    odd: list[str] = []

    def is_sane() -> bool:
        odd[:] = _oddities(engine.status(), wall.now() * 1000, (time.monotonic() - began) * 1000)
        return not odd

    with suppress(AssertionError):
        wait_until(is_sane, "the status is sane", timeout=5)
    verdict.wrong += odd


def _oddities(status: dict[str, Any], wall_ms: float, uptime_ms: float) -> list[str]:
    [beat] = (sense for sense in status["senses"] if sense["name"] == "beat")
    archiver = status["archiver"]
    found = {
        "uptime": (status["kernel"]["uptime_ms"], uptime_ms),
        "last run of an interval": (beat["last_ts"], wall_ms),
        "next beat of an interval": (beat["next_due_ts"], wall_ms),
        "next run of the archiver": (archiver["next_ts"], wall_ms),
        "lag": (status["writer"]["lag_ms"], 0),
    }
    odd = [
        f"status: the {name} is {shown} instead of about {expected:.0f} ms"
        for name, (shown, expected) in found.items()
        if shown is None or abs(shown - expected) > TOLERANCE_SECONDS * 1000
    ]
    return [*odd, *status["problems"], *([] if archiver["last_ts"] else ["the archiver has never run"])]


def _check_listener(engine: Engine, listener: Listener, verdict: Verdict) -> None:
    listener.page()
    ids = [row.id for row in engine.rows()]
    verdict.expect(listener.end(ids[-1]) == 0, "nerve logs -f did not end with 0")
    for name, seen in (("nerve logs -f", listener.followed), ("paging by id", listener.paged)):
        missed, times = len(set(ids) - set(seen)), len(seen) - len(set(seen))
        verdict.expect(seen == ids, f"{name} missed {missed} entries, printed {times} twice, or was out of order")


def _check_order(db: Path, verdict: Verdict) -> None:
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=30)) as connection:
        for what, query in OUT_OF_ORDER.items():
            (count,) = connection.execute(query).fetchone()
            verdict.expect(not count, f"{count} {what}")


def _check_beats(engine: Engine, verdict: Verdict) -> None:
    """Check the starts of an interval by the monotonic clock: no gap, no burst, no drift, and none missing."""
    moments = [row.payload["mono"] for row in engine.rows("type = 'beat' AND ref_id LIKE 'beat/%'")]
    starts = [row.payload for row in engine.rows("type = 'run_start' AND ref_id LIKE 'beat/%'")]
    gap = max(later - earlier for earlier, later in pairwise(moments))
    late = max(start["lateness_ms"] for start in starts) / 1000
    beats = sum(1 + start["coalesced"] + start["skipped"] for start in starts[1:])
    drift = moments[-1] - moments[0] - beats * BEAT_SECONDS
    crowd = max(sum(1 for other in moments if moment <= other < moment + 1) for moment in moments)
    verdict.expect(moments == sorted(moments), "the ids of an interval's events are not in their order")
    verdict.expect(gap < TOLERANCE_SECONDS, f"an interval of {BEAT_SECONDS:g} s paused for {gap:.1f} s")
    verdict.expect(late < TOLERANCE_SECONDS, f"a beat was late by {late:.1f} s")
    verdict.expect(abs(drift) < TOLERANCE_SECONDS, f"the beat has drifted by {drift:.1f} s")
    verdict.expect(
        crowd <= round(1 / BEAT_SECONDS) + 3, f"{crowd} starts of an interval of {BEAT_SECONDS:g} s in one second"
    )
    verdict.notes.append(
        f"{len(starts)} starts for {beats + 1} beats of {BEAT_SECONDS:g} s: longest gap {gap * 1000:.0f} ms, "
        f"latest {late * 1000:.0f} ms, drift {drift * 1000:.0f} ms, at most {crowd} in one second"
    )
