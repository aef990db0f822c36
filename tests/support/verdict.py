"""Checks of a log: every acknowledged event is there exactly once, and every run is complete."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Verdict:
    """The result of a scenario: counts for its line in the table, and in `wrong` everything that went wrong."""

    sent: int = 0
    lost: int = 0
    duplicated: int = 0
    kills: int = 0
    stall_ms: float = 0.0
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if nothing was lost or doubled, and nothing else went wrong."""
        return not (self.lost or self.duplicated or self.wrong)

    def expect(self, holds: object, otherwise: str) -> None:
        """Add `otherwise` to `wrong` unless a condition holds."""
        if not holds:
            self.wrong.append(otherwise)


def check_log(verdict: Verdict, db: Path, acknowledged: Iterable[tuple[str, int]]) -> None:
    """Compare the log at `db` with the (run, number) pairs for which `ctx.log` has returned, and check its runs.

    An event whose `ctx.log` has not returned may be in the log once, or not at all.
    """
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=30)) as connection:
        stored = Counter(
            connection.execute(
                "SELECT ref_id, json_extract(payload, '$.n') FROM logs WHERE source = 'sense' AND type = 'n'"
            )
        )
        acked = set(acknowledged)
        verdict.sent += len(acked)
        verdict.lost += len(acked - stored.keys())
        verdict.duplicated += sum(times - 1 for times in stored.values())
        _check_runs(verdict, connection)
        _check_ids(verdict, connection)
        (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
        verdict.expect(integrity == "ok", f"integrity_check: {integrity}")


def check_ok_runs(verdict: Verdict, db: Path, events: int) -> None:
    """Check that a counting run that is recorded as `ok` lacks none of its events."""
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=30)) as connection:
        incomplete = connection.execute(
            "SELECT ref_id, (SELECT count(*) FROM logs AS n WHERE n.ref_id = runs.ref_id AND n.source = 'sense') AS has"
            " FROM logs AS runs WHERE type = 'run_complete' AND json_extract(payload, '$.status') = 'ok'"
            " AND ref_id LIKE 'count%' AND has <> ?",
            (events,),
        ).fetchall()
    verdict.expect(not incomplete, f"{len(incomplete)} ok runs don't have their {events} events: {incomplete[:1]}")


def _check_runs(verdict: Verdict, connection: sqlite3.Connection) -> None:
    def times(type: str) -> Counter[str]:
        rows = connection.execute("SELECT ref_id FROM logs WHERE source = 'reflex' AND type = ?", (type,))
        return Counter(ref_id for (ref_id,) in rows)

    starts, completes = times("run_start"), times("run_complete")
    verdict.expect(all(n == 1 for n in starts.values()), "a run has more than one run_start")
    verdict.expect(all(n == 1 for n in completes.values()), "a run has more than one run_complete")
    open_runs = starts.keys() - completes.keys()
    verdict.expect(not open_runs, f"{len(open_runs)} runs have no run_complete, e.g. {min(open_runs, default=None)}")
    orphans = completes.keys() - starts.keys()
    verdict.expect(not orphans, f"{len(orphans)} runs have no run_start, e.g. {min(orphans, default=None)}")
    failed = connection.execute(
        "SELECT ref_id FROM logs WHERE source = 'reflex' AND type = 'run_complete'"
        " AND json_extract(payload, '$.status') NOT IN ('ok', 'cancelled')"
    )
    errors = Counter(
        ref_id for (ref_id,) in connection.execute("SELECT ref_id FROM logs WHERE source = 'system' AND type = 'error'")
    )
    unexplained = [ref_id for (ref_id,) in failed if errors[ref_id] != 1]
    verdict.expect(not unexplained, f"{len(unexplained)} failed runs don't have exactly one error: {unexplained[:1]}")


def _check_ids(verdict: Verdict, connection: sqlite3.Connection) -> None:
    (rows, first, last) = connection.execute("SELECT count(*), min(id), max(id) FROM logs").fetchone()
    (sequence,) = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'logs'").fetchone()
    verdict.expect(rows == 0 or sequence >= last, f"ids could be used again: sequence {sequence}, last {last}")
    verdict.expect(rows == 0 or last - first + 1 == rows, f"ids have gaps: {rows} rows from {first} to {last}")
