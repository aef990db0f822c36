"""Verification: an undamaged log has no findings, and each kind of damage is found."""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.archives import append, archive_before, at, folder_of
from support.entries import completed, event, sql, started

from nerve.errors import StoreError
from nerve.events.model import LogEvent
from nerve.store.archive.codec import write_lines
from nerve.store.archive.directory import MANIFEST, ArchiveDirectory, read_manifest
from nerve.store.archive.manifest import FileName, ManifestEntry
from nerve.store.jsonl import from_line, to_line
from nerve.store.table.writer import LogWriter
from nerve.store.verification import verify as verify_module
from nerve.store.verification.findings import SHOWN, VerificationReport
from nerve.store.verification.verify import verify

RUNS = 10
LAST = 5 * 3 * RUNS + 6


def check(db: Path, *, quick: bool = False) -> VerificationReport:
    """Verify without progress."""
    return verify(db, lambda _what, _done, _total: None, quick=quick)


def boot(day: int) -> LogEvent:
    """Return the start of an engine."""
    return event("start", source="system", ref_id="boot", ts=at(day))


def a_day(day: int) -> Iterator[LogEvent]:
    """Yield the events of ten runs, one after the other."""
    for n in range(RUNS):
        run, ts = f"cpu/{day}-{n}", at(day, n)
        yield from (started(run, ts=ts), event(ref_id=run, payload={"n": n}, ts=ts), completed(run, ts=ts))


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of five days with the first three in the archive, late entries, and one open run."""
    db = tmp_path_factory.mktemp("pattern") / "logs.db"
    append(db, [boot(0)])
    for day in range(3):
        append(db, a_day(day))
        archive_before(db, day + 1, compress="zstd" if day == 1 else None)
    append(db, [event("late", ts=at(0)), event("late", ts=at(2))])
    append(db, [*a_day(3), boot(4), *a_day(4), started("disk/1", ts=at(4, 99)), event(ts=at(4, 99))])
    archive_before(db, 3)
    return db


@pytest.fixture
def log(pattern: Path, tmp_path: Path) -> Path:
    """A copy of that log, to be damaged."""
    shutil.copytree(pattern.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "logs.db"


def rewrite(db: Path, file: str, change: Callable[[list[bytes]], list[bytes]], *, listed: bool = True) -> None:
    """Change the lines of a file; if `listed`, the manifest gets its new size and SHA-256, but keeps the counts."""
    name = FileName.parse(file)
    assert name
    path = folder_of(db) / file
    lines = change(list(ArchiveDirectory(folder_of(db)).lines(name)))
    with path.open("wb") as out:
        stored = write_lines(out, lines, compressed=name.compressed)
    if listed:
        relist(db, file, bytes=stored.bytes, sha256=stored.sha256)


def relist(db: Path, file: str, /, **changes: Any) -> None:
    """Change the entry of a file in the manifest."""
    entries = [msgspec.structs.replace(e, **changes) if e.file == file else e for e in read_manifest(folder_of(db))]
    write_manifest(db, entries)


def write_manifest(db: Path, entries: list[ManifestEntry]) -> None:
    """Replace the manifest."""
    (folder_of(db) / MANIFEST).write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))


def unlist(db: Path, file: str) -> None:
    """Remove a file from the manifest."""
    write_manifest(db, [entry for entry in read_manifest(folder_of(db)) if entry.file != file])


def delete(db: Path, *ids: int) -> None:
    """Delete rows as another program that knows the watermark could."""
    marks = sql(db, "SELECT key, value FROM meta WHERE key LIKE 'watermark%'")
    for key in ("watermark_ts", "watermark_id"):
        set_meta(db, key, 2**63 - 1)
    for number in ids:
        sql(db, "DELETE FROM logs WHERE id = ?", [number])
    sql(db, "DELETE FROM meta WHERE key LIKE 'watermark%'")
    for key, value in marks:
        set_meta(db, key, value)


def insert(db: Path, type: str, run: str | None, source: str = "reflex", payload: str = "'{}'") -> None:
    """Insert a row as another program could."""
    sql(db, f"INSERT INTO logs (source, type, ref_id, payload, ts) VALUES (?, ?, ?, {payload}, 1)",
        [source, type, run])  # fmt: skip


def set_meta(db: Path, key: str, value: object) -> None:
    """Set a value in the table meta."""
    sql(db, "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", [key, str(value)])


class TestWhole:
    """An undamaged log has no findings."""

    def test_report_counts_everything(self, log: Path) -> None:
        """An open run is not damage."""
        assert check(log) == VerificationReport(
            ok=True,
            entries=LAST,
            table=2 + 60 + 1,
            archive=93,
            files=5,
            runs=51,
            open_runs=1,
            damage=[],
            left_out={},
            notes=[],
        )

    def test_empty_log_is_undamaged(self, db: Path) -> None:
        """It has no entries that could be missing."""
        LogWriter.open(db).close()
        assert check(db) == VerificationReport(
            ok=True, entries=0, table=0, archive=0, files=0, runs=0, open_runs=0, damage=[], left_out={}, notes=[]
        )

    def test_entries_in_table_and_archive_are_not_damage(self, log: Path) -> None:
        """The archiver died before it deleted them."""
        archive_before(log, 4, purge=False)
        report = check(log)
        assert (report.ok, report.table, report.archive) == (True, 63, 123)

    def test_file_that_is_not_in_the_manifest_yet_is_not_damage(self, log: Path) -> None:
        """If the table has all of its entries, there is only a note."""
        [entry] = archive_before(log, 4, purge=False)
        unlist(log, entry.file)
        report = check(log)
        assert (report.ok, report.table, report.archive) == (True, 63, 93)
        assert report.notes == [
            f"{entry.file} is not in the manifest yet: an archiver was interrupted, and the next one will add it"
        ]

    def test_files_of_another_log_are_checked_separately(self, log: Path) -> None:
        """Their entries are not entries of this log."""
        log.unlink()
        append(log, a_day(4))
        assert check(log) == VerificationReport(
            ok=True, entries=30, table=30, archive=0, files=5, runs=10, open_runs=0, damage=[], left_out={}, notes=[]
        )
        rewrite(log, "2026-11-01.jsonl", lambda lines: lines[1:])
        assert not check(log).ok

    @pytest.mark.parametrize("page", [1, 7, 1000])
    @pytest.mark.parametrize("after", range(0, 60, 9))
    @pytest.mark.parametrize("purge", [True, False])
    def test_archiver_may_run_during_verification(
        self, log: Path, monkeypatch: pytest.MonkeyPatch, page: int, after: int, purge: bool
    ) -> None:
        """At any moment of the verification, entries may move and new ones may be written."""
        byte_rows, reads = verify_module.byte_rows, [0]

        def late(*args: Any, **names: Any) -> Any:
            reads[0] += page
            if after <= reads[0] < after + page:
                append(log, [event("late", ts=at(0)), started("disk/2", ts=at(4))])
                archive_before(log, 4, purge=purge)
            return byte_rows(*args, **names)

        monkeypatch.setattr(verify_module, "PAGE", page)
        monkeypatch.setattr(verify_module, "byte_rows", late)
        writer = LogWriter.open(log)  # so that reads use the WAL, as with an engine
        report = check(log)
        writer.close()
        assert report.damage == []
        assert report.entries == LAST


GOOD = "2026-11-01.jsonl"
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "an entry is gone": (lambda db: delete(db, 100), "gap: entry 100: missing: neither in the table nor in"),
    "entries are gone": (lambda db: delete(db, 98, 99, 100), "gap: entries 98 to 100: missing"),
    "the last is gone": (lambda db: delete(db, LAST), f"gap: entry {LAST}: missing"),
    "a file is gone": (lambda db: (folder_of(db) / GOOD).unlink(), f"file: {GOOD}: missing, though the manifest"),
    "a file was cut": (
        lambda db: rewrite(db, GOOD, lambda lines: lines[:-1], listed=False),
        rf"file: {GOOD}: changed: it has \d+ bytes, the manifest says \d+",
    ),
    "a byte was changed": (
        lambda db: rewrite(db, GOOD, lambda lines: [lines[0].replace(b"start", b"stArt"), *lines[1:]], listed=False),
        f"file: {GOOD}: changed: its SHA-256 is [0-9a-f]+, the manifest says",
    ),
    "a compressed file was cut": (
        lambda db: (folder_of(db) / "2026-11-02.jsonl.zst").write_bytes(b"(\xb5/\xfd\x04"),
        "file: 2026-11-02.jsonl.zst: is damaged: it stops before its end",
    ),
    "a line is garbage": (
        lambda db: rewrite(db, GOOD, lambda lines: [*lines[:4], b"{oops\n", *lines[5:]]),
        f"file: {GOOD}, line 5: damaged: JSON is malformed",
    ),
    "a line is missing": (lambda db: rewrite(db, GOOD, lambda lines: lines[1:]), f"manifest: {GOOD}: its rows is 30"),
    "lines changed places": (
        lambda db: rewrite(db, GOOD, lambda lines: [lines[1], lines[0], *lines[2:]]),
        rf"file: {GOOD}, line 2: entry 1 \(ts \d+\) doesn't belong there, after entry 2",
    ),
    "an entry has another day": (
        lambda db: rewrite(db, GOOD, lambda lines: [changed_line(lines[0], ts=at(1)), *lines[1:]]),
        rf"file: {GOOD}, line 1: entry 1 \(ts {at(1)}\) doesn't belong there",
    ),
    "the manifest counts wrong": (
        lambda db: relist(db, GOOD, rows=7, last_id=9),
        f"manifest: {GOOD}: its rows is 31, the manifest says 7",
    ),
    "the manifest is garbage": (
        lambda db: (folder_of(db) / MANIFEST).write_bytes(b"{oops\n") and None,
        "manifest: the archive: .*manifest.jsonl: line 1 is damaged",
    ),
    "the manifest has a path outside the folder": (
        lambda db: relist(db, GOOD, file="../../logs.db"),
        "manifest: the archive: .*manifest.jsonl names '../../logs.db'",
    ),
    "the manifest lacks a file": (
        lambda db: unlist(db, GOOD),
        f"file: {GOOD}: not in the manifest, but the only file with entry 1",
    ),
    "the manifest is gone": (
        lambda db: (folder_of(db) / MANIFEST).unlink(),
        f"file: {GOOD}: not in the manifest, but the only file with entry 1",
    ),
    "a file is archived twice": (
        lambda db: write_manifest(db, read_manifest(folder_of(db)) * 2),
        f"double: entry 1: in {GOOD} and in {GOOD}",
    ),
    "table and archive differ": (
        lambda db: archive_before(db, 4, purge=False)
        and rewrite(db, "2026-11-04.jsonl", lambda lines: [changed_line(lines[0], type="x"), *lines[1:]]),
        "entry: entry 94: not the same in 2026-11-04.jsonl and in the table",
    ),
    "a run starts twice": (
        lambda db: insert(db, "run_start", "disk/1"),
        f"run: disk/1: two run_start: entries 155 and {LAST + 1}",
    ),
    "a run completes twice": (
        lambda db: insert(db, "run_complete", "cpu/0-0"),
        f"run: cpu/0-0: entry {LAST + 1} completes it, though it was not open",
    ),
    "a run never starts": (
        lambda db: insert(db, "run_complete", "new/1"),
        f"run: new/1: entry {LAST + 1} completes it, though it was not open",
    ),
    "a run is left open by a boot": (
        lambda db: insert(db, "start", "boot", "system"),
        f"run: disk/1: no run_complete: open since entry 155, before the start in entry {LAST + 1}",
    ),
    "a start has no run": (
        lambda db: insert(db, "run_start", None),
        f"run: entry {LAST + 1}: a run_start without a run",
    ),
    "a payload is not JSON": (
        lambda db: insert(db, "x", None, payload="'{oops'"),
        f"entry: entry {LAST + 1}: can't be decoded: JSON is malformed",
    ),
    "a text is not UTF-8": (
        lambda db: insert(db, "x", None, payload="CAST(x'22ff22' AS TEXT)"),
        f"entry: entry {LAST + 1}: can't be decoded: ",
    ),
    "the watermark's id is too high": (
        lambda db: set_meta(db, "watermark_id", 94),
        "watermark: meta, watermark_id: 94, but the archive reaches only to 93: entries that are not in it could be",
    ),
    "the watermark's id is too low": (
        lambda db: set_meta(db, "watermark_id", 92),
        "watermark: meta, watermark_id: 92, but entries below 93 have been deleted from the table",
    ),
    "the watermark's moment is too high": (
        lambda db: set_meta(db, "watermark_ts", at(3, 1)),
        rf"watermark: meta, watermark_ts: {at(3, 1)}, but the archive reaches only to {at(3)}",
    ),
    "the watermark's moment is too low": (
        lambda db: set_meta(db, "watermark_ts", at(2)),
        rf"watermark: meta, watermark_ts: {at(2)}, but entries below \d+ have been deleted from the table",
    ),
    "the watermark is not a number": (
        lambda db: set_meta(db, "watermark_ts", "x\x1b"),
        r"watermark: meta, watermark_ts: 'x\\x1b' is not a number",
    ),
    "the watermark is gone": (
        lambda db: sql(db, "DELETE FROM meta WHERE key = 'watermark_id'") and None,
        "watermark: meta, watermark_id: missing, though entries below 93 have been deleted from the table",
    ),
    "an open run would be forgotten": (
        lambda db: set_meta(db, "settled_below", 156),
        r"run: disk/1: open since entry 155, but settled_below in the table meta \(156\) is greater",
    ),
    "a trigger is gone": (
        lambda db: sql(db, "DROP TRIGGER logs_no_update") and None,
        "schema: logs.db: its trigger logs_no_update is missing, or was altered",
    ),
    "an index is gone": (
        lambda db: sql(db, "DROP INDEX logs_ts") and None,
        "schema: logs.db: its index logs_ts is missing",
    ),
}  # fmt: skip


def changed_line(line: bytes, **changes: Any) -> bytes:
    """Change an entry on its line."""
    return to_line(msgspec.structs.replace(from_line(line), **changes))


class TestDamage:
    """Damage is found, with its location."""

    @pytest.mark.parametrize(("make", "found"), DAMAGE.values(), ids=DAMAGE.keys())
    def test_damage_is_found(self, log: Path, make: Callable[[Path], None], found: str) -> None:
        """One line of the report has its location and a description."""
        make(log)
        report = check(log)
        assert not report.ok
        lines = [f"{damage.kind}: {damage}" for damage in report.damage]
        assert any(re.match(found, line) for line in lines), lines

    def test_damaged_page_is_found(self, log: Path) -> None:
        """SQLite finds it; the archive is checked all the same."""
        with closing(sqlite3.connect(log)) as connection:
            (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'logs'").fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
        with log.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)
        report = check(log)
        assert {damage.kind for damage in report.damage} == {"database"}
        assert "logs.db, after entry 0: database disk image is malformed" in map(str, report.damage)
        assert (report.table, report.archive, report.files) == (0, 93, 5)

    def test_index_that_disagrees_with_the_table_is_found_unless_quick(self, log: Path) -> None:
        """Only the long check compares them."""
        with closing(sqlite3.connect(log, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(
                "UPDATE sqlite_master SET sql = replace(sql, '\"ts\")', '\"id\")') WHERE name = 'logs_ts'"
            )
        assert check(log, quick=True).ok
        assert [damage.kind for damage in check(log).damage][:1] == ["database"]

    def test_damage_beyond_the_limit_is_counted(self, log: Path) -> None:
        """Neither the report nor the memory grows without limit."""
        sql(log, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 150) "
                 "INSERT INTO logs (source, type, payload, ts) SELECT 'x', 'y', '{', i FROM n")  # fmt: skip
        report = check(log)
        assert len(report.damage) == SHOWN
        assert report.left_out == {"entry": 50}

    def test_missing_log_raises_store_error(self, tmp_path: Path) -> None:
        """There is no report."""
        with pytest.raises(StoreError, match="there is no log at"):
            check(tmp_path / "none.db")


DAYS = st.lists(st.integers(0, 4), min_size=1, max_size=12)


@settings(max_examples=15, deadline=None)
@given(batches=st.lists(st.tuples(DAYS, st.integers(1, 5), st.booleans()), min_size=1, max_size=3), data=st.data())
def test_any_changed_byte_or_missing_entry_is_found(
    batches: list[tuple[list[int], int, bool]], data: st.DataObject
) -> None:
    """Entries may be spread over the table and files in any way."""
    with tempfile.TemporaryDirectory() as folder:
        db = Path(folder) / "logs.db"
        for days, before, compressed in batches:
            append(db, [event(payload={"n": n}, ts=at(day)) for n, day in enumerate(days)])
            archive_before(db, before, compress="zstd" if compressed else None)
        report = check(db)
        assert (report.damage, report.table + report.archive) == ([], report.entries)
        for file in sorted(folder_of(db).glob("????-*")):
            content, place = bytearray(file.read_bytes()), data.draw(st.integers(0, file.stat().st_size - 1))
            content[place] ^= (flipped := data.draw(st.integers(1, 255)))
            file.write_bytes(content)
            assert file.name in {damage.where.split(",")[0] for damage in check(db).damage}
            content[place] ^= flipped
            file.write_bytes(content)
        if ids := sql(db, "SELECT id FROM logs"):
            (number,) = data.draw(st.sampled_from(ids))
            delete(db, number)
            [damage] = check(db).damage
            assert str(damage) == f"entry {number}: missing: neither in the table nor in the archive"


def test_interrupt_during_the_check_of_sqlite_ends_the_verification(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is not reported as damage."""
    monkeypatch.setattr(verify_module, "TICK_STEPS", 100)
    ticks: list[str] = []

    def interrupt(what: str, _done: int, _total: int) -> None:
        ticks.append(what)
        if len(ticks) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(log, interrupt)
    assert ticks == ["database"] * 3


def test_progress_is_reported_for_database_and_entries(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The total is unknown for the database."""
    monkeypatch.setattr(verify_module, "PROGRESS_ENTRIES", 50)
    reports: list[tuple[str, int, int]] = []
    verify(log, lambda *progress: reports.append(progress))
    assert reports == [("database", 0, 0), ("entries", 50, LAST), ("entries", 100, LAST), ("entries", 150, LAST)]
