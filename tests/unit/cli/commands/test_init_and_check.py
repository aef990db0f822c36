"""`nerve init` and `nerve check`: the files they write, their output and exit codes."""

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
    """Return a function that runs `nerve` with arguments in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return nerve


@pytest.fixture
def home(nerve: Command, tmp_path: Path) -> Path:
    """Return a workspace that `nerve init` has created."""
    assert nerve("init", "--quiet", tmp_path) == ("", "", 0)
    return tmp_path


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """Return a folder in which not even root can create a file."""
    if Path("/proc").is_dir():
        return Path("/proc")
    folder = tmp_path / "unwritable"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user can write anywhere")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of every file below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_init_fills_a_new_folder_and_prints_the_next_steps(nerve: Command, tmp_path: Path) -> None:
    """Missing parent folders are created too, and the first step is to change to the folder."""
    result = nerve("init", "new/my space")
    assert sorted(contents(tmp_path / "new" / "my space")) == sorted(FILES)
    lines = result.out.splitlines()
    assert lines[: len(FILES)] == [f"created new/my space/{name}" for name in FILES]
    assert lines[len(FILES) :] == [
        "",
        "Next:",
        "  cd 'new/my space'",
        "  nerve start",
        "  nerve logs -f      (in another terminal)",
    ]
    assert (result.err, result.code) == ("", 0)


def test_init_without_a_folder_uses_the_current_one(nerve: Command, tmp_path: Path) -> None:
    """The next steps then have no `cd`."""
    result = nerve("init")
    assert sorted(contents(tmp_path)) == sorted(FILES)
    assert "cd " not in result.out


def test_init_uses_the_folder_of_the_home_option(nerve: Command, tmp_path: Path) -> None:
    """`--home` names the workspace for all commands, including the one that creates it."""
    assert nerve("--home", tmp_path / "ws", "init").code == 0
    assert sorted(contents(tmp_path)) == sorted(f"ws/{name}" for name in FILES)


def test_init_keeps_existing_files_and_adds_the_others(nerve: Command, tmp_path: Path) -> None:
    """Existing files are unchanged, and each is reported as kept."""
    (tmp_path / "senses").mkdir()
    (tmp_path / "senses" / "cpu.py").write_text("mine")
    (tmp_path / "nerve.yaml").symlink_to("elsewhere.yaml")
    result = nerve("init", ".")
    kept = [line for line in result.out.splitlines() if line.startswith("kept")]
    assert kept == [f"kept    {name} (exists already)" for name in ("senses/cpu.py", "nerve.yaml")]
    assert result.out.count("created ") == len(FILES) - 2
    assert (tmp_path / "senses" / "cpu.py").read_text() == "mine"
    assert not (tmp_path / "elsewhere.yaml").exists()


def test_init_twice_changes_nothing(nerve: Command, home: Path) -> None:
    """The second time all files are kept, and the exit code is 0."""
    before = contents(home)
    result = nerve("init", home)
    assert (result.out.count("kept "), result.out.count("created "), result.code) == (len(FILES), 0, 0)
    assert contents(home) == before


@pytest.mark.parametrize("place", ["file", "file/below", "ws"])
def test_init_fails_if_a_file_is_in_the_way_of_a_folder(nerve: Command, tmp_path: Path, place: str) -> None:
    """One line names the folder, whether it is DIR itself, above it, or in it."""
    (tmp_path / "file").touch()
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "senses").touch()
    folder = "ws/senses" if place == "ws" else place
    result = nerve("init", "--quiet", place)
    assert result == ("", f"nerve: can't create the folder {folder}: a file is in the way; choose another folder\n", 1)


def test_init_fails_in_a_folder_that_is_not_writable(nerve: Command, unwritable: Path) -> None:
    """One line names the path and says what to do."""
    result = nerve("init", unwritable / "ws")
    assert result.out == ""
    assert result.err.startswith(f"nerve: can't write {unwritable / 'ws'}: ")
    assert result.err.endswith("; make the folder writable, or choose another one with `nerve init DIR`\n")
    assert result.code == 1


@pytest.fixture
def tiny_files() -> Iterator[None]:
    """Limit files to ten bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("tiny_files")
def test_init_leaves_no_partial_file_if_a_write_fails(nerve: Command, tmp_path: Path) -> None:
    """The next `nerve init` then creates the whole file."""
    result = nerve("init")
    assert result.err.startswith("nerve: can't write .gitignore: File too large; ")
    assert contents(tmp_path) == {}


def test_check_shows_what_will_run(nerve: Command, home: Path) -> None:
    """In a pipe it is plain text: per sense a line with its file, what starts it, and what limits it."""
    with (home / "nerve.yaml").open("a") as file:
        file.write("workers: 3\n")
    result = nerve("check")
    assert result.out.splitlines() == [
        f"{home}: no problems; 5 senses, 5 reflexes, 3 workers",
        "  cpu       senses/cpu.py       every 2s; group processors",
        "  load      senses/load.py      every 5s; group processors",
        "  memory    senses/memory.py    every 5s",
        "  disk      senses/disk.py      every 10s",
        "  pressure  senses/pressure.py  on cpu, load, memory, disk; throttle 5s",
    ]
    assert (result.err, result.code) == ("", 0)


def test_check_shows_that_a_sense_has_no_reflex(nerve: Command, tmp_path: Path) -> None:
    """A sense without a reflex is valid, but it may be an oversight."""
    (tmp_path / "odd.py").write_text("def compute(ctx): ...")
    (tmp_path / "nerve.yaml").write_text("{senses: {a: {path: odd.py}}, workers: 1}")
    assert nerve("check").out.splitlines() == [
        f"{tmp_path}: no problems; 1 sense, 0 reflexes, 1 worker",
        "  a  odd.py  no reflex; runs only on `nerve trigger a`",
    ]


@pytest.mark.parametrize(
    ("no_color", "term", "mark"),
    [("", "xterm", "\x1b[32m\x1b[1m\u2713 \x1b[0m"), ("1", "xterm", "\u2713 "), ("", "dumb", "\u2713 ")],
)
def test_check_marks_success_on_a_terminal(
    nerve: Command, home: Path, monkeypatch: pytest.MonkeyPatch, no_color: str, term: str, mark: str
) -> None:
    """The check mark is coloured unless NO_COLOR is set or the terminal is dumb."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("click._compat.should_strip_ansi", lambda *_: False)
    assert nerve("check").out.startswith(f"{mark}{home}: no problems")


def test_check_without_a_workspace_fails(nerve: Command) -> None:
    """The message says how to create a workspace."""
    result = nerve("check")
    assert "nerve init" in result.err
    assert result.code == 1


def test_check_lists_the_problems_of_all_files_at_once(nerve: Command, home: Path) -> None:
    """They are problems of nerve.yaml, syntax errors and a missing compute, each with its place; no file is run."""
    (home / "nerve.yaml").write_text("senses:\n  cpu:\n  memory:\n  load:\n    throttle: soon\n  gone:\n")
    (home / "senses" / "cpu.py").write_text("def compute(ctx):\n    return {\n")
    (home / "senses" / "memory.py").write_text("raise SystemExit('was run')\n")
    (home / "senses" / "helper.py").write_text("x = 1\n")
    result = nerve("check")
    assert result.err.splitlines() == [
        "nerve.yaml:5: senses.load.throttle: 'soon' is not a duration: write it as 500ms, 10s, 5m, 2h, 30d or 1h30m",
        "nerve.yaml:6: senses.gone: missing sense file 'senses/gone.py': create it, or fix `path`",
        "senses/cpu.py:2: '{' was never closed",
        "senses/memory.py:1: has no `compute`: add `def compute(ctx):`",
        "nerve: 4 problems: fix the lines above, then run `nerve check` again",
    ]
    assert (result.out, result.code) == ("", 1)


def test_check_compiles_the_senses_even_if_nerve_yaml_is_not_valid_yaml(nerve: Command, home: Path) -> None:
    """The files in senses/ can be checked for syntax without a configuration."""
    (home / "nerve.yaml").write_text("senses: [")
    (home / "senses" / "cpu.py").write_text("return 1\n")
    result = nerve("check")
    yaml_problem, python_problem, closing = result.err.splitlines()
    assert re.match(r"nerve\.yaml:[12]: is not valid YAML: ", yaml_problem)
    assert python_problem == "senses/cpu.py:1: 'return' outside function"
    assert closing.startswith("nerve: 2 problems: ")


def test_check_finds_a_broken_sense_beside_a_valid_nerve_yaml(nerve: Command, home: Path) -> None:
    """A single problem is counted in the singular."""
    (home / "senses" / "disk.py").write_text("\n\ncompute = = 1\n")
    assert nerve("check").err.splitlines() == [
        "senses/disk.py:3: invalid syntax",
        "nerve: 1 problem: fix the lines above, then run `nerve check` again",
    ]


def test_check_finds_a_broken_helper_in_a_subfolder(nerve: Command, home: Path) -> None:
    """A helper that a sense imports is part of the sense."""
    (home / "senses" / "lib").mkdir()
    (home / "senses" / "lib" / "units.py").write_text("x = = 1\n")
    (home / "senses" / "cpu.py").write_text("from lib import units\ndef compute(ctx): ...\n")
    assert nerve("check").err.splitlines()[0] == "senses/lib/units.py:1: invalid syntax"


def test_helpers_need_no_compute(tmp_path: Path) -> None:
    """Only files that nerve.yaml names are senses; of the others only the syntax is checked."""
    path = tmp_path / "a.py"
    path.write_text("x = 1")
    assert list(sense_problems(tmp_path, [path], {path})) == ["a.py:1: has no `compute`: add `def compute(ctx):`"]
    assert list(sense_problems(tmp_path, [path], set())) == []
    path.write_bytes(b"# coding: klingon")
    (problem,) = sense_problems(tmp_path, [path], set())
    assert problem.startswith("a.py:1: ")


def test_a_sense_that_can_not_be_read_is_a_problem(tmp_path: Path) -> None:
    """Here a folder has the name of the file."""
    (tmp_path / "a.py").mkdir()
    assert list(sense_problems(tmp_path, [tmp_path / "a.py"], set())) == ["a.py:1: can't be read: Is a directory"]


def test_a_broken_file_that_no_sense_uses_is_only_a_note(nerve: Command, home: Path) -> None:
    """A reload ignores such a file as well."""
    (home / "senses" / "draft.py").write_text("def compute(\n")
    result = nerve("check")
    assert result.code == 0
    assert result.err == "nerve: note: senses/draft.py:1: '(' was never closed (no sense uses this file)\n"


def test_check_names_the_files_that_no_sense_uses(nerve: Command, home: Path) -> None:
    """With an empty nerve.yaml these are all files, so that nobody takes it for a success."""
    (home / "nerve.yaml").write_text("")
    result = nerve("check")
    assert result.out.startswith(f"{home}: no problems; 0 senses, 0 reflexes, ")
    assert result.err.splitlines()[0] == (
        "nerve: note: senses/cpu.py is used by no sense of nerve.yaml: if it is a sense, add `cpu:` under `senses`"
    )
    assert (len(result.err.splitlines()), result.code) == (5, 0)


def test_check_shows_notes_on_doubtful_values(nerve: Command, home: Path) -> None:
    """They are no problems, and go to standard error."""
    (home / "nerve.yaml").write_text((home / "nerve.yaml").read_text() + "\nshutdown_timeout: 4\n")
    result = nerve("check")
    note = "shutdown_timeout: '4' has no unit and is taken as seconds: write 4s"
    assert (result.err.count(note), result.code) == (1, 0)


@pytest.mark.parametrize("name", ["yaml", "click/__init__", "random"])
def test_check_names_helpers_that_another_module_hides(nerve: Command, home: Path, name: str) -> None:
    """An `import` finds an installed package or the standard library first, so the helper is silently not used."""
    path = home / "senses" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text("x = 1\n")
    top = name.partition("/")[0]
    (home / "senses" / "cpu.py").write_text(f"import {top}\ndef compute(ctx): ...\n")
    result = nerve("check")
    assert result.err.startswith(f"nerve: note: senses/{name}.py can't be imported: `import {top}` finds ")
    assert " first; rename the file\n" in result.err
    assert result.code == 0


def test_check_accepts_a_sense_that_is_named_like_a_module(nerve: Command, home: Path) -> None:
    """Nobody imports it, so nothing hides it."""
    (home / "senses" / "random.py").write_text("def compute(ctx): ...\n")
    (home / "nerve.yaml").write_text("senses: {random: , cpu: , load: , memory: , disk: , pressure: }\n")
    result = nerve("check")
    assert (result.err, result.code) == ("", 0)


def test_check_shows_twenty_problems_and_how_many_more_there_are(nerve: Command, home: Path) -> None:
    """Three hundred equal lines would hide the others."""
    (home / "nerve.yaml").write_text("\n".join(f"key{n}: 1" for n in range(300)))
    lines = nerve("check").err.splitlines()
    assert (len(lines), lines[20]) == (22, "... and 280 more")
    assert lines[21].startswith("nerve: 300 problems: ")


def test_check_names_a_file_that_is_not_utf_8(nerve: Command, home: Path) -> None:
    """The name is escaped, also in the encoding of the terminal."""
    Path(os.fsdecode(os.fsencode(home / "senses") + b"/m\xe9t\xe9o.py")).write_text("x = 1")
    (home / "senses" / "cpu.py").write_text("import importlib\ndef compute(ctx): ...\n")
    note = r"senses/m\udce9t\udce9o.py can't be imported: its name is not valid UTF-8; rename the file"
    assert nerve("check").err == f"nerve: note: {note}\n"


@pytest.mark.parametrize("command", ["check", "init"])
def test_a_workspace_whose_path_is_not_utf_8_is_refused(nerve: Command, tmp_path: Path, command: str) -> None:
    """One line says so before anything is started."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    if command == "check":
        (folder / "nerve.yaml").touch()
    result = nerve("--home", folder, command)
    assert result.err == f"nerve: the path {str(folder)!a} is not valid UTF-8: rename the folder\n"
    assert (result.out, result.code) == ("", 1)
    assert [path.name for path in folder.iterdir()] == ["nerve.yaml"] * (command == "check")


def test_init_makes_files_that_only_their_owner_may_write(nerve: Command, tmp_path: Path) -> None:
    """Whatever the umask is: what is in them is executed."""
    old = os.umask(0)
    try:
        assert nerve("init", "-q", "a/ws").code == 0
    finally:
        os.umask(old)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "a").rglob("*")}
    assert modes == {0o644, 0o755}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755


def test_check_refuses_a_link_to_a_whole_system(nerve: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not read it."""
    monkeypatch.setattr("nerve.reload.codebase.MAX_FOLDERS", 1)
    (home / "senses" / "lib").symlink_to("/usr")
    result = nerve("check")
    assert "remove the link senses/lib -> /usr" in result.err
    assert result.code == 1
