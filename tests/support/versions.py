"""Senses that log which version of them runs, and a check that the log is right about it."""

from __future__ import annotations

from support.engine import Engine


def saying(version: object, before: str = "") -> str:
    """Return the code of a sense that logs its version; `before` is the code above its compute."""
    return f"{before}\ndef compute(ctx):\n    ctx.log('version', {{'v': {version!r}}})\n"


def said(engine: Engine, sense: str) -> list[object]:
    """Return the versions that the runs of a sense have logged, in order."""
    return [entry.payload["v"] for entry in engine.rows("type = 'version' AND ref_id LIKE ?", f"{sense}/%")]


def until_said(engine: Engine, sense: str, version: object, timeout: float = 15.0) -> None:
    """Wait until the latest run of a sense has logged this version."""
    engine.until(lambda: said(engine, sense)[-1:] == [version], f"{sense} says {version!r}", timeout)


def ran(engine: Engine, sense: str) -> list[tuple[str, object]]:
    """Return the digest in `run_start` and the version that was logged, for each run of a sense, in order."""
    rows = engine.rows("ref_id LIKE ? AND type IN ('run_start', 'version')", f"{sense}/%")
    digests = {row.ref_id: row.payload["digest"] for row in rows if row.type == "run_start"}
    return [(digests[row.ref_id], row.payload["v"]) for row in rows if row.type == "version"]


def check_audit_trail(engine: Engine, sense: str) -> None:
    """Check that each run has the code that its `run_start` names, and that of the last reload before it."""
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
            assert row.payload["digest"] == revision, f"{row.ref_id} does not have the active version"


def _by_digest(engine: Engine, sense: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for digest, version in ran(engine, sense):
        found.setdefault(digest, set()).add(repr(version))
    return found
