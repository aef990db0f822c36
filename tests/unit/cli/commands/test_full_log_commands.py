"""`nerve verify`, `nerve restore` and `nerve logs --archived`: what they print, and their exit codes."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import click
import pytest
from support.archives import append, archive_before, at, folder_of
from support.commands import NERVE, Command, Said
from support.entries import completed, event, sql, started
from support.waiting import wait_until

from nerve.cli.progress import Lines, shown_work
from nerve.store.query import query_logs


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace with entries of two archived days, and two that are still in the table."""
    (tmp_path / "nerve.yaml").touch()
    (tmp_path / "data").mkdir()
    db = tmp_path / "data" / "logs.db"
    append(db, [started("cpu/1", ts=at(0)), completed("cpu/1", ts=at(1)), event(ts=at(2)), event(ts=at(3))])
    archive_before(db, 2)
    return tmp_path


class TestVerify:
    """A line when all is well, a line for each damage when it isn't."""

    def test_a_log_that_is_whole_is_one_line(self, ask: Command) -> None:
        """And exit code 0."""
        said = "nerve: the log is whole: entries 1 to 4, 2 in the table and 2 in 2 files of the archive, 1 run\n"
        assert ask("verify") == Said(said, "", 0)
        assert ask("verify", "--quick") == Said(said, "", 0)

    def test_each_damage_is_a_line_with_its_place(self, home: Path, ask: Command) -> None:
        """Exit code 1, and what to do; what strangers have written can't steer the terminal."""
        db = home / "data" / "logs.db"
        (folder_of(db) / "2026-11-02.jsonl").unlink()
        sql(
            db,
            "INSERT INTO logs (source, type, ref_id, payload, ts) VALUES ('reflex', 'run_complete', '\x1b[2J', '1', 1)",
        )
        said = ask("verify")
        assert said.out.splitlines() == [
            "file: 2026-11-02.jsonl: missing, though the manifest names it",
            "gap: entry 2: missing: neither in the table nor in the archive",
            r"run: \x1b[2J: entry 5 completes it, though it was not open then",
        ]
        assert said.err == "nerve: 3 places are damaged: restore what is named from a backup, and look at the disk\n"
        assert said.code == 1

    def test_json_is_one_object(self, home: Path, ask: Command) -> None:
        """With the same in it, and the same exit code."""
        assert json.loads(ask("verify", "--json").out) == {
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
        said = ask("verify", "--json")
        report = json.loads(said.out)
        assert (report["ok"], said.code) == (False, 1)
        assert report["damage"][0]["kind"] == "file"
        assert report["damage"][0]["where"] == "2026-11-01.jsonl"

    def test_too_much_damage_is_counted(self, home: Path, ask: Command) -> None:
        """Rather than shown."""
        with sqlite3.connect(home / "data" / "logs.db") as connection:
            connection.executemany(
                "INSERT INTO logs (source, type, payload, ts) VALUES ('x', 'y', '{', ?)", [(n,) for n in range(103)]
            )
        connection.close()
        said = ask("verify")
        assert said.out.splitlines()[-1] == "entry: and 3 more"
        assert said.err.startswith("nerve: 103 places are damaged")

    def test_a_file_that_is_not_in_the_manifest_yet_is_mentioned(self, home: Path, ask: Command) -> None:
        """It is no damage: exit code 0."""
        db = home / "data" / "logs.db"
        manifest = folder_of(db) / "manifest.jsonl"
        before = manifest.read_bytes()
        archive_before(db, 3, purge=False)
        manifest.write_bytes(before)
        said = ask("verify")
        assert said.err.startswith("nerve: 2026-11-03.jsonl is not in the manifest yet")
        assert said.code == 0

    def test_before_there_is_a_log_it_says_so(self, home: Path, ask: Command) -> None:
        """In one line."""
        (home / "data" / "logs.db").unlink()
        assert re.fullmatch(r"nerve: there is no log to verify yet .*: start with `nerve start`\n", ask("verify").err)


class TestRestore:
    """The path on stdout, everything else on stderr."""

    def test_a_day_becomes_a_database(self, home: Path, ask: Command) -> None:
        """Its path can be handed on; what can be done with it is said too."""
        said = ask("restore", "2026-11-01")
        path = home / "data" / "restored" / "2026-11-01.db"
        assert (said.out, said.code) == (f"{path}\n", 0)
        assert [entry.id for entry in query_logs(path)] == [1]
        first, example = said.err.splitlines()
        assert first == "nerve: restored 1 entry of 2026-11-01 (UTC) from 1 file; ask it, for example, by"
        assert example == f"  sqlite3 -readonly {path} 'select source, type, count(*) from logs group by 1, 2'"

    def test_it_can_be_put_elsewhere(self, home: Path, ask: Command, tmp_path: Path) -> None:
        """What is there already stays, unless it is a restored day and --force is given."""
        path = tmp_path / "elsewhere.db"
        assert ask("restore", "2026-11-02", "-o", path).out == f"{path}\n"
        refused = ask("restore", "2026-11-01", "-o", path)
        assert (refused.out, refused.code) == ("", 1)
        assert "is there already" in refused.err
        assert ask("restore", "2026-11-01", "-o", path, "--force").code == 0
        assert [entry.id for entry in query_logs(path)] == [1]

    def test_never_into_the_log(self, home: Path, ask: Command, tmp_path: Path) -> None:
        """By whatever name it goes."""
        db = home / "data" / "logs.db"
        (tmp_path / "link.db").symlink_to(db)
        (tmp_path / "same.db").hardlink_to(db)
        for path in (db, tmp_path / "link.db", tmp_path / "same.db"):
            said = ask("restore", "2026-11-01", "-o", path, "--force")
            assert (said.out, said.code) == ("", 1)
            assert "is the log: nothing is ever restored into it" in said.err
        assert ask("verify").code == 0

    def test_the_archive_may_be_all_that_is_left(self, home: Path, ask: Command) -> None:
        """Without the log itself."""
        (home / "data" / "logs.db").unlink()
        assert ask("restore", "2026-11-01").code == 0

    def test_the_files_of_another_log_are_named(self, home: Path, ask: Command) -> None:
        """As they are left out."""
        db = home / "data" / "logs.db"
        db.unlink()
        append(db, [event(ts=at(0))])
        archive_before(db, 1)
        assert "left out, being of another log: 2026-11-01.jsonl\n" in ask("restore", "2026-11-01").err

    @pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "20261101", "2026-11-01T00:00"])
    def test_what_is_no_day_is_a_usage_error(self, ask: Command, day: str) -> None:
        """Exit code 2."""
        said = ask("restore", day)
        assert said.code == 2
        assert f"'{day}' is no day: write it as 2026-11-23" in said.err

    def test_a_day_that_is_not_archived_is_told(self, ask: Command) -> None:
        """Exit code 1."""
        said = ask("restore", "2026-11-03")
        assert said.code == 1
        assert "2026-11-03 (UTC) is not in the archive (it has 2 days from 2026-11-01 to 2026-11-02)" in said.err


class TestLogs:
    """`nerve logs --archived` looks everywhere."""

    def test_archived_entries_come_first(self, ask: Command) -> None:
        """In the order of ids, with any filter."""

        def ids(*arguments: object) -> list[int]:
            return [json.loads(line)["id"] for line in ask("logs", "--json", *arguments).out.splitlines()]

        assert ids() == [3, 4]
        assert ids("--archived") == [1, 2, 3, 4]
        assert ids("--archived", "-n", 3) == [2, 3, 4]
        assert ids("--archived", "--sense", "cpu", "type=run_complete") == [2]
        assert ids("--archived", "--after", 1, "--until", "2026-11-03") == [2, 3]

    def test_a_damaged_file_is_one_line(self, home: Path, ask: Command) -> None:
        """Which says where, and how to see more."""
        file = folder_of(home / "data" / "logs.db") / "2026-11-02.jsonl"
        file.write_bytes(b"{\n")
        said = ask("logs", "--archived", "--json")
        assert said.code == 1
        assert said.err.startswith(f"nerve: {file}, line 1 is damaged")
        assert said.err.endswith("see `nerve verify`\n")

    def test_following_misses_nothing_that_is_archived_at_once(self, home: Path) -> None:
        """What comes and moves to the archive between two looks at the log is shown as well, in its turn."""
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
                wait_until(lambda: shown() == [4, 5, 6, 7], "what came meanwhile is shown")
                process.send_signal(signal.SIGINT)
                assert process.wait(10) == 0
            finally:
                process.kill()


class TestWorking:
    """How far long work is."""

    def test_short_work_passes_in_silence(self, capsys: pytest.CaptureFixture[str]) -> None:
        """In a pipe, there is a line every few seconds only."""
        moments = iter([0.0, 4.9, 5.0, 9.9, 10.5, 16.0])
        lines = Lines("checking", lambda: next(moments))
        for done in (1, 2, 3, 4):
            lines("entries", done, 8)
        lines("database", 0, 0)
        said = ["nerve: checking entries: 25%", "nerve: checking entries: 50%", "nerve: checking database ..."]
        assert capsys.readouterr().err.splitlines() == said

    def test_a_terminal_has_a_bar(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """It is gone when the work is done."""
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("TERM", "xterm")
        with shown_work("checking") as working:
            working("entries", 1, 4)
        assert "checking" in click.unstyle(capsys.readouterr().err)
