"""The archiver removes kept code that no run in the log has."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from support.entries import event

from nerve.clock import SystemClock
from nerve.config.logs_section import LogsConfig
from nerve.maintenance.archiver import CODE_SECONDS, archive_alone
from nerve.reload.code_store import CodeStore
from nerve.reload.codebase import Codebase, SourceFile
from nerve.store.table.writer import LogWriter
from nerve.workspace import Workspace


def test_code_stays_as_long_as_the_log_has_runs_of_it(tmp_path: Path) -> None:
    """Unused code is kept for the retention, and for a day at least, since a run may be about to start."""
    workspace = Workspace(tmp_path.resolve())
    workspace.prepare()
    store = CodeStore(workspace.code_dir)
    ran, unused, recent = (
        Codebase([]).version(SourceFile(name="senses.a", path="/a.py", source=b"x = %d" % n)) for n in range(3)
    )
    now = SystemClock().stamp().ts
    for version, age in ((ran, 3.0), (unused, 3.0), (recent, 0.5)):
        store.keep(version)
        used_at = now / 1000 - age * CODE_SECONDS
        os.utime(workspace.code_dir / version.digest, (used_at, used_at))
    with closing(LogWriter.open(workspace.logs_db)) as writer:
        payload = {"sense": "a", "digest": ran.digest}
        writer.append([event("run_start", source="reflex", ref_id="a/1", payload=payload, ts=now)], {})
    archived = archive_alone(workspace, LogsConfig(retention=10.0), lambda _progress: None, vacuum=False)
    assert archived.error is None or archived.error == ""
    assert {version.digest for version in (ran, recent)} == set(store.find(""))
