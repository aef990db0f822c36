"""Senses that say which version of themselves runs, and the check that the log never says otherwise."""

from __future__ import annotations

from support.engine import Engine


def saying(version: object, before: str = "") -> str:
    """Give the code of a sense that logs its version; `before` stands above its compute."""
    return f"{before}\ndef compute(ctx):\n    ctx.log('version', {{'v': {version!r}}})\n"


def said(engine: Engine, sense: str) -> list[object]:
    """The versions that the runs of a sense have logged, in order."""
    return [entry.payload["v"] for entry in engine.rows("type = 'version' AND ref_id LIKE ?", f"{sense}/%")]


def until_said(engine: Engine, sense: str, version: object, timeout: float = 15.0) -> None:
    """Wait until a run of a sense logs this version as the latest."""
    engine.until(lambda: said(engine, sense)[-1:] == [version], f"{sense} says {version!r}", timeout)


def ran(engine: Engine, sense: str) -> list[tuple[str, object]]:
    """The digest that `run_start` names and the version that the run then logged, of each run of a sense, in order."""
    rows = engine.rows("ref_id LIKE ? AND type IN ('run_start', 'version')", f"{sense}/%")
    digests = {row.ref_id: row.payload["digest"] for row in rows if row.type == "run_start"}
    return [(digests[row.ref_id], row.payload["v"]) for row in rows if row.type == "version"]


def check_audit_trail(engine: Engine, sense: str) -> None:
    """Each run has the code that its `run_start` names, and goes by the reload before it: never by an older one."""
    for digest, versions in _by_digest(engine, sense).items():
        assert len(versions) == 1, f"{digest} of {sense} is {versions}"
    revision: str | None = None
    for row in engine.rows(
        "type IN ('run_start', 'sense_reload') AND (ref_id LIKE ? OR ref_id = ?)", f"{sense}/%", sense
    ):
        if row.type == "sense_reload" and row.payload["ok"]:
            revision = row.payload["digest"]
        elif row.type == "run_start":
            revision = revision or row.payload["digest"]
            assert row.payload["digest"] == revision, f"{row.ref_id} has not the version in force"


def _by_digest(engine: Engine, sense: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for digest, version in ran(engine, sense):
        found.setdefault(digest, set()).add(repr(version))
    return found
