"""Who opens what: the writer alone has the log open for writing, through Peewee only, and no connection is forked."""

from __future__ import annotations

import pytest
from support import audited
from support.engine import Engine


@pytest.fixture
def noted(engine: Engine) -> list[tuple[int, str, str]]:
    """Run an engine that queries, archives and ends under the audit hook; give (pid, event, path) in order."""
    engine.config("""
        workers: 2
        senses: {tick: {}}
        reflexes: [{sense: tick, interval: 50ms}]
        logs: {archive_interval: 100ms}
    """)
    engine.sense(
        "tick", "def compute(ctx):\n    ctx.log('n')\n    ctx.query_logs(limit=1)\n    ctx.db.execute_sql('select 1')\n"
    )
    notes = engine.home / "audit"
    engine.prelude = audited.prelude(notes)
    engine.start()
    writer = engine.child("writer").pid
    engine.until(lambda: len(engine.runs("tick")) >= 5, "some runs have ended")
    assert engine.stop() == 0
    found = [line.split(" ", 2) for line in notes.read_text().splitlines()]
    return [(int(pid), "writer" if int(pid) == writer else event, f"{event} {path}") for pid, event, path in found]


def test_the_writer_opens_the_log_through_its_one_connection_only(noted: list[tuple[int, str, str]]) -> None:
    """A plain open and close of the file would drop SQLite's locks: the writer connects once, and opens nothing."""
    by_writer = [what for _pid, who, what in noted if who == "writer"]
    assert len([what for what in by_writer if what.startswith("sqlite3.connect")]) == 1
    assert [what for what in by_writer if what.startswith("open")] == [by_writer[0]], "made, before it was a database"


def test_no_connection_is_open_at_a_fork(noted: list[tuple[int, str, str]], engine: Engine) -> None:
    """A connection that crosses a fork corrupts data: the kernel connects to nothing until its last fork is done."""
    by_kernel = [what.split(" ")[0] for pid, _who, what in noted if pid == engine.pid]
    assert "os.fork" in by_kernel
    last_fork = len(by_kernel) - 1 - by_kernel[::-1].index("os.fork")
    assert "sqlite3.connect" not in by_kernel[:last_fork]
