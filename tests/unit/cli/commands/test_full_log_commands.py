"""`nerve verify`, `nerve restore` and `nerve logs --archived`: their output and exit codes."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest
from support.archives import append, archive_before, at, folder_of
from support.commands import NERVE, Command, CommandResult
from support.entries import completed, event, sql, started
from support.waiting import wait_until

from nerve.store.query import query_logs


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a workspace with two archived entries, each of its own day, and two in the table."""
    (tmp_path / "nerve.yaml").touch()
    (tmp_path / "data").mkdir()
    db = tmp_path / "data" / "logs.db"
    append(db, [started("cpu/1", ts=at(0)), completed("cpu/1", ts=at(1)), event(ts=at(2)), event(ts=at(3))])
    archive_before(db, 2)
    return tmp_path


class TestVerify:
    """`nerve verify`: one line if the log is undamaged, otherwise a line per problem."""

    def test_an_undamaged_log_is_reported_in_one_line(self, invoke: Command) -> None:
        """The exit code is 0, with and without --quick."""
        line = "nerve: no problems found: entries 1 to 4 (2 in the table, 2 archived in 2 files), 1 run\n"
        assert invoke("verify") == CommandResult(line, "", 0)
        assert invoke("verify", "--quick") == CommandResult(line, "", 0)

    def test_each_problem_is_a_line_with_its_place(self, home: Path, invoke: Command) -> None:
        """The exit code is 1, stderr says what to do, and control characters of an entry are escaped."""
        db = home / "data" / "logs.db"
        (folder_of(db) / "2026-11-02.jsonl").unlink()
        sql(
            db,
            "INSERT INTO logs (source, type, ref_id, payload, ts) VALUES ('reflex', 'run_complete', '\x1b[2J', '1', 1)",
        )
        result = invoke("verify")
        assert result.out.splitlines() == [
            "file: 2026-11-02.jsonl: missing, though the manifest lists it",
            "gap: entry 2: missing: neither in the table nor in the archive",
            r"run: \x1b[2J: entry 5 completes it, though it was not open",
        ]
        assert (
            result.err == "nerve: 3 problems found: restore the files named above from a backup, and check the disk\n"
        )
        assert result.code == 1

    def test_json_holds_the_whole_report(self, home: Path, invoke: Command) -> None:
        """The JSON names the same problems, and the exit code is the same, as in text."""
        assert json.loads(invoke("verify", "--json").out) == {
            "ok": True,
            "entries": 4,
            "table": 2,
            "archive": 2,
            "files": 2,
            "runs": 1,
            "open_runs": 0,
            "damage": [],
            "left_out": {},
            "notes": [],
        }
        (folder_of(home / "data" / "logs.db") / "2026-11-01.jsonl").write_bytes(b"")
        result = invoke("verify", "--json")
        report = json.loads(result.out)
        assert (report["ok"], result.code) == (False, 1)
        assert report["damage"][0]["kind"] == "file"
        assert report["damage"][0]["where"] == "2026-11-01.jsonl"

    def test_problems_beyond_the_limit_are_counted(self, home: Path, invoke: Command) -> None:
        """Only the first hundred problems of a kind are listed."""
        with sqlite3.connect(home / "data" / "logs.db") as connection:
            connection.executemany(
                "INSERT INTO logs (source, type, payload, ts) VALUES ('x', 'y', '{', ?)", [(n,) for n in range(103)]
            )
        connection.close()
        result = invoke("verify")
        assert result.out.splitlines()[-1] == "entry: and 3 more"
        assert result.err.startswith("nerve: 103 problems found")

    def test_a_file_that_is_not_in_the_manifest_yet_is_a_note(self, home: Path, invoke: Command) -> None:
        """Such a file is left by an interrupted archive run; the exit code is 0."""
        db = home / "data" / "logs.db"
        manifest = folder_of(db) / "manifest.jsonl"
        before = manifest.read_bytes()
        archive_before(db, 3, purge=False)
        manifest.write_bytes(before)
        result = invoke("verify")
        assert result.err.startswith("nerve: 2026-11-03.jsonl is not in the manifest yet")
        assert result.code == 0

    def test_without_a_log_the_message_says_how_to_start(self, home: Path, invoke: Command) -> None:
        """The message is one line on stderr."""
        (home / "data" / "logs.db").unlink()
        message = r"nerve: no log yet: .* does not exist; start the engine with `nerve start`\n"
        assert re.fullmatch(message, invoke("verify").err)


class TestRestore:
    """`nerve restore`: the path on stdout, everything else on stderr."""

    def test_an_archived_day_becomes_a_database(self, home: Path, invoke: Command) -> None:
        """The path is printed to stdout, for use in scripts; stderr shows an example of a query."""
        result = invoke("restore", "2026-11-01")
        path = home / "data" / "restored" / "2026-11-01.db"
        assert (result.out, result.code) == (f"{path}\n", 0)
        assert [entry.id for entry in query_logs(path)] == [1]
        first, example = result.err.splitlines()
        assert first == "nerve: restored 1 entry of 2026-11-01 (UTC) from 1 file; example of a query:"
        assert example == f"  sqlite3 -readonly {path} 'select source, type, count(*) from logs group by 1, 2'"

    def test_an_existing_output_file_is_replaced_only_with_force(
        self, home: Path, invoke: Command, tmp_path: Path
    ) -> None:
        """--output names another file; --force replaces it if it is a restored day."""
        path = tmp_path / "elsewhere.db"
        assert invoke("restore", "2026-11-02", "-o", path).out == f"{path}\n"
        result = invoke("restore", "2026-11-01", "-o", path)
        assert (result.out, result.code) == ("", 1)
        assert str(path) in result.err
        assert "--force" in result.err
        assert [entry.id for entry in query_logs(path)] == [2]
        assert invoke("restore", "2026-11-01", "-o", path, "--force").code == 0
        assert [entry.id for entry in query_logs(path)] == [1]

    def test_the_log_is_not_a_valid_output_file(self, home: Path, invoke: Command, tmp_path: Path) -> None:
        """Neither its path nor a link to it is accepted, even with --force."""
        db = home / "data" / "logs.db"
        (tmp_path / "link.db").symlink_to(db)
        (tmp_path / "same.db").hardlink_to(db)
        for path in (db, tmp_path / "link.db", tmp_path / "same.db"):
            result = invoke("restore", "2026-11-01", "-o", path, "--force")
            assert (result.out, result.code) == ("", 1)
            assert "is the log, which restore never writes to: choose another file with -o" in result.err
        assert invoke("verify").code == 0

    def test_a_day_can_be_restored_without_the_log(self, home: Path, invoke: Command) -> None:
        """The archive alone is enough."""
        (home / "data" / "logs.db").unlink()
        assert invoke("restore", "2026-11-01").code == 0

    def test_files_of_another_log_are_skipped_and_named(self, home: Path, invoke: Command) -> None:
        """An archive may still hold files of a log that was deleted."""
        db = home / "data" / "logs.db"
        db.unlink()
        append(db, [event(ts=at(0))])
        archive_before(db, 1)
        assert "skipped files that belong to another log: 2026-11-01.jsonl\n" in invoke("restore", "2026-11-01").err

    @pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "20261101", "2026-11-01T00:00"])
    def test_an_invalid_day_is_a_usage_error(self, invoke: Command, day: str) -> None:
        """The exit code is 2, and the message shows the format."""
        result = invoke("restore", day)
        assert result.code == 2
        assert f"'{day}' is not a valid day: write it as 2026-11-23" in result.err

    def test_a_day_that_is_not_archived_is_an_error(self, invoke: Command) -> None:
        """The exit code is 1, and the message names the days that are archived."""
        result = invoke("restore", "2026-11-03")
        assert result.code == 1
        assert "2026-11-03 (UTC) is not in the archive (it has 2 days from 2026-11-01 to 2026-11-02)" in result.err


class TestLogs:
    """`nerve logs --archived`: entries of the archive and of the table."""

    def test_archived_entries_come_first(self, invoke: Command) -> None:
        """Entries are in the order of their ids, with any filter."""

        def ids(*arguments: object) -> list[int]:
            return [json.loads(line)["id"] for line in invoke("logs", "--json", *arguments).out.splitlines()]

        assert ids() == [3, 4]
        assert ids("--archived") == [1, 2, 3, 4]
        assert ids("--archived", "-n", 3) == [2, 3, 4]
        assert ids("--archived", "--sense", "cpu", "type=run_complete") == [2]
        assert ids("--archived", "--after", 1, "--until", "2026-11-03") == [2, 3]

    def test_a_damaged_archive_file_is_an_error_in_one_line(self, home: Path, invoke: Command) -> None:
        """The line names the file and the line in it, and how to see more."""
        file = folder_of(home / "data" / "logs.db") / "2026-11-02.jsonl"
        file.write_bytes(b"{\n")
        result = invoke("logs", "--archived", "--json")
        assert result.code == 1
        assert result.err.startswith(f"nerve: {file}, line 1 is damaged")
        assert result.err.endswith("see `nerve verify`\n")

    def test_following_shows_entries_that_are_archived_before_they_are_read(self, home: Path) -> None:
        """An entry that moves to the archive between two polls is shown as well, in the order of ids."""
        db, out = home / "data" / "logs.db", home / "out"
        command = [*NERVE, "--home", str(home), "logs", "-f", "--archived", "--json", "-n", "1"]

        def shown() -> list[int]:
            return [json.loads(line)["id"] for line in out.read_text().splitlines()]

        with out.open("w") as stdout, subprocess.Popen(command, stdout=stdout) as process:
            try:
                wait_until(lambda: shown() == [4], "the newest entry is shown")
                process.send_signal(signal.SIGSTOP)
                append(db, [event("late", ts=at(0)), event("new", ts=at(4)), event("late", ts=at(1))])
                archive_before(db, 2)
                process.send_signal(signal.SIGCONT)
                wait_until(lambda: shown() == [4, 5, 6, 7], "the entries committed meanwhile are shown")
                process.send_signal(signal.SIGINT)
                assert process.wait(10) == 0
            finally:
                process.kill()
