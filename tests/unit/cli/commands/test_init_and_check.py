"""`nerve init` and `nerve check`: what they write, what they say, and how they exit."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import Command

from nerve.cli.commands.check import sense_problems
from nerve.cli.commands.init import FILES


@pytest.fixture
def nerve(nerve: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `nerve` with arguments, in an empty folder unless it is told another."""
    monkeypatch.chdir(tmp_path)
    return nerve


@pytest.fixture
def home(nerve: Command, tmp_path: Path) -> Path:
    """A workspace as `nerve init` makes it."""
    assert nerve("init", "--quiet", tmp_path) == ("", "", 0)
    return tmp_path


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A folder that nothing can be made in, not even by root."""
    if Path("/proc").is_dir():
        return Path("/proc")
    folder = tmp_path / "unwritable"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user can write anywhere")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Give every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_init_fills_a_new_folder_and_says_what_comes_next(nerve: Command, tmp_path: Path) -> None:
    """All files are made, folders above included, and the steps begin with the way there."""
    said = nerve("init", "new/my space")
    assert sorted(contents(tmp_path / "new" / "my space")) == sorted(FILES)
    lines = said.out.splitlines()
    assert lines[: len(FILES)] == [f"created new/my space/{name}" for name in FILES]
    assert lines[len(FILES) :] == [
        "",
        "Next:",
        "  cd 'new/my space'",
        "  nerve start",
        "  nerve logs -f      (in another terminal)",
    ]
    assert (said.err, said.code) == ("", 0)


def test_init_without_a_folder_takes_the_current_one(nerve: Command, tmp_path: Path) -> None:
    """Then there is nowhere to go first."""
    said = nerve("init")
    assert sorted(contents(tmp_path)) == sorted(FILES)
    assert "cd " not in said.out


def test_init_takes_the_folder_that_home_names(nerve: Command, tmp_path: Path) -> None:
    """`--home` says where the workspace is, for a command that makes one too."""
    assert nerve("--home", tmp_path / "ws", "init").code == 0
    assert sorted(contents(tmp_path)) == sorted(f"ws/{name}" for name in FILES)


def test_init_keeps_what_is_there_and_adds_the_rest(nerve: Command, tmp_path: Path) -> None:
    """Own files stay as they are, each said so in a line; the others are made."""
    (tmp_path / "senses").mkdir()
    (tmp_path / "senses" / "cpu.py").write_text("mine")
    (tmp_path / "nerve.yaml").symlink_to("elsewhere.yaml")
    said = nerve("init", ".")
    kept = [line for line in said.out.splitlines() if line.startswith("kept")]
    assert kept == [f"kept    {name}, which was there already" for name in ("senses/cpu.py", "nerve.yaml")]
    assert said.out.count("created ") == len(FILES) - 2
    assert (tmp_path / "senses" / "cpu.py").read_text() == "mine"
    assert not (tmp_path / "elsewhere.yaml").exists()


def test_init_twice_changes_nothing(nerve: Command, home: Path) -> None:
    """The second time all is kept, and that is a success."""
    before = contents(home)
    said = nerve("init", home)
    assert (said.out.count("kept "), said.out.count("created "), said.code) == (len(FILES), 0, 0)
    assert contents(home) == before


@pytest.mark.parametrize("place", ["file", "file/below", "ws"])
def test_init_refuses_where_a_file_is_in_the_way(nerve: Command, tmp_path: Path, place: str) -> None:
    """One line says which, whether it is DIR itself, above it, or in it."""
    (tmp_path / "file").touch()
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "senses").touch()
    folder = "ws/senses" if place == "ws" else place
    said = nerve("init", "--quiet", place)
    assert said == ("", f"nerve: can't make the folder {folder}: a file is in its place; name another folder\n", 1)


def test_init_refuses_a_place_that_can_not_be_written(nerve: Command, unwritable: Path) -> None:
    """One line says what can't be written, and what to do."""
    said = nerve("init", unwritable / "ws")
    assert said.out == ""
    assert said.err.startswith(f"nerve: can't write {unwritable / 'ws'}: ")
    assert said.err.endswith("; make its place writable, or name another folder with `nerve init DIR`\n")
    assert said.code == 1


@pytest.fixture
def tiny_files() -> Iterator[None]:
    """Let this process write no file beyond ten bytes, as if the disk were full by then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("tiny_files")
def test_a_file_that_can_not_be_written_whole_is_not_left_in_part(nerve: Command, tmp_path: Path) -> None:
    """A write that fails half-way ends init, and the next one makes that file afresh."""
    said = nerve("init")
    assert said.err.startswith("nerve: can't write .gitignore: File too large; ")
    assert contents(tmp_path) == {}


def test_check_shows_what_will_run(nerve: Command, home: Path) -> None:
    """In a pipe it is plain text: a sense a line, with its file, what starts it and what holds it back."""
    with (home / "nerve.yaml").open("a") as file:
        file.write("workers: 3\n")
    said = nerve("check")
    assert said.out.splitlines() == [
        f"{home}: no problems; 5 senses, 5 reflexes, 3 workers",
        "  cpu       senses/cpu.py       every 2s; group processors",
        "  load      senses/load.py      every 5s; group processors",
        "  memory    senses/memory.py    every 5s",
        "  disk      senses/disk.py      every 10s",
        "  pressure  senses/pressure.py  on cpu, load, memory, disk; throttle 5s",
    ]
    assert (said.err, said.code) == ("", 0)


def test_check_says_what_runs_only_by_hand(nerve: Command, tmp_path: Path) -> None:
    """A sense without a reflex is no problem, but worth knowing."""
    (tmp_path / "odd.py").write_text("def compute(ctx): ...")
    (tmp_path / "nerve.yaml").write_text("{senses: {a: {path: odd.py}}, workers: 1}")
    assert nerve("check").out.splitlines() == [
        f"{tmp_path}: no problems; 1 sense, 0 reflexes, 1 worker",
        "  a  odd.py  no reflex: only by `nerve trigger a`",
    ]


@pytest.mark.parametrize(("no_color", "mark"), [("", "\x1b[32m\x1b[1m\u2713 \x1b[0m"), ("1", "\u2713 ")])
def test_check_marks_success_for_people(
    nerve: Command, home: Path, monkeypatch: pytest.MonkeyPatch, no_color: str, mark: str
) -> None:
    """At a terminal there is a check mark, in colour unless NO_COLOR is set."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("click._compat.should_strip_ansi", lambda *_: False)
    assert nerve("check").out.startswith(f"{mark}{home}: no problems")


def test_check_without_a_workspace_fails(nerve: Command) -> None:
    """There is nothing to check, and the line says how to get something."""
    said = nerve("check")
    assert "nerve init" in said.err
    assert said.code == 1


def test_check_tells_the_problems_of_all_files_together(nerve: Command, home: Path) -> None:
    """Config, syntax and a missing compute come in one go, each with its place; nothing of it is run."""
    (home / "nerve.yaml").write_text("senses:\n  cpu:\n  memory:\n  load:\n    throttle: soon\n  gone:\n")
    (home / "senses" / "cpu.py").write_text("def compute(ctx):\n    return {\n")
    (home / "senses" / "memory.py").write_text("raise SystemExit('was run')\n")
    (home / "senses" / "helper.py").write_text("x = 1\n")
    said = nerve("check")
    assert said.err.splitlines() == [
        "nerve.yaml:5: senses.load.throttle: 'soon' is not a duration: write it as 500ms, 10s, 5m, 2h, 30d or 1h30m",
        "nerve.yaml:6: senses.gone: missing sense file 'senses/gone.py': create it, or fix `path`",
        "senses/cpu.py:2: '{' was never closed",
        "senses/memory.py:1: has no `compute`: add `def compute(ctx):`",
        "nerve: 4 problems: correct the lines above, then run `nerve check` again",
    ]
    assert (said.out, said.code) == ("", 1)


def test_check_looks_at_the_senses_even_where_nerve_yaml_is_no_yaml(nerve: Command, home: Path) -> None:
    """What is in senses/ can be compiled whatever nerve.yaml says."""
    (home / "nerve.yaml").write_text("senses: [")
    (home / "senses" / "cpu.py").write_text("return 1\n")
    said = nerve("check")
    yaml_problem, python_problem, closing = said.err.splitlines()
    assert re.match(r"nerve\.yaml:[12]: is not valid YAML: ", yaml_problem)
    assert python_problem == "senses/cpu.py:1: 'return' outside function"
    assert closing.startswith("nerve: 2 problems: ")


def test_check_counts_one_problem_as_one(nerve: Command, home: Path) -> None:
    """A sound nerve.yaml does not hide a sense that isn't."""
    (home / "senses" / "disk.py").write_text("\n\ncompute = = 1\n")
    assert nerve("check").err.splitlines() == [
        "senses/disk.py:3: invalid syntax",
        "nerve: 1 problem: correct the lines above, then run `nerve check` again",
    ]


def test_check_says_what_a_reload_would_say(nerve: Command, home: Path) -> None:
    """A helper in a folder of its own is part of a sense, too."""
    (home / "senses" / "lib").mkdir()
    (home / "senses" / "lib" / "units.py").write_text("x = = 1\n")
    (home / "senses" / "cpu.py").write_text("from lib import units\ndef compute(ctx): ...\n")
    assert nerve("check").err.splitlines()[0] == "senses/lib/units.py:1: invalid syntax"


def test_helpers_need_no_compute(tmp_path: Path) -> None:
    """Only what nerve.yaml names is a sense; of the rest just the syntax counts."""
    path = tmp_path / "a.py"
    path.write_text("x = 1")
    assert list(sense_problems(tmp_path, [path], {path})) == ["a.py:1: has no `compute`: add `def compute(ctx):`"]
    assert list(sense_problems(tmp_path, [path], set())) == []
    path.write_bytes(b"# coding: klingon")
    (problem,) = sense_problems(tmp_path, [path], set())
    assert problem.startswith("a.py:1: ")


def test_a_sense_that_can_not_be_read_is_a_problem(tmp_path: Path) -> None:
    """A folder in the place of a file, say."""
    (tmp_path / "a.py").mkdir()
    assert list(sense_problems(tmp_path, [tmp_path / "a.py"], set())) == ["a.py:1: can't be read: Is a directory"]


def test_check_only_notes_what_is_wrong_with_a_file_that_no_sense_uses(nerve: Command, home: Path) -> None:
    """A reload would not mind it either."""
    (home / "senses" / "draft.py").write_text("def compute(\n")
    said = nerve("check")
    assert said.code == 0
    assert said.err == "nerve: note: senses/draft.py:1: '(' was never closed; but no sense uses that file\n"
