"""The workspace: its paths, how it is found, how its folders are created."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nerve import workspace
from nerve.errors import WorkspaceError
from nerve.workspace import Workspace, find_workspace


@pytest.fixture
def short_base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in place of /tmp, with as short a path."""
    with TemporaryDirectory(dir="/tmp", prefix="n") as folder:
        monkeypatch.setattr(workspace, "_SHORT_BASE", Path(folder))
        yield Path(folder)


@pytest.fixture
def home(tmp_path: Path, short_base: Path) -> Path:
    """A folder with a nerve.yaml."""
    home = tmp_path / "ws"
    home.mkdir()
    (home / "nerve.yaml").touch()
    return home


@pytest.fixture
def far_home(tmp_path: Path, short_base: Path) -> Path:
    """A home whose path is too long for a socket in it."""
    home = tmp_path / ("x" * 100)
    home.mkdir()
    return home


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def refusal(*, named: Path | None = None, environ: dict[str, str], cwd: Path) -> str:
    """Return the error of a search that fails, which is one line."""
    with pytest.raises(WorkspaceError) as refused:
        find_workspace(named, environ, cwd)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def test_every_path_follows_from_home() -> None:
    """The layout of a workspace is part of the public contract."""
    ws = Workspace(Path("/ws"))
    places = {
        "config_path": "nerve.yaml",
        "senses_dir": "senses",
        "data_dir": "data",
        "logs_db": "data/logs.db",
        "archive_dir": "data/archive/logs",
        "run_dir": "data/run",
        "lock_path": "data/run/lock",
        "event_socket": "data/run/events.sock",
        "control_socket": "data/run/control.sock",
    }
    assert {name: getattr(ws, name) for name in places} == {n: Path("/ws") / place for n, place in places.items()}
    assert ws.sense_db("disk-usage") == Path("/ws/data/senses/disk-usage.db")


def test_home_option_wins_over_the_environment_and_that_over_the_current_folder(tmp_path: Path) -> None:
    """An empty $NERVE_HOME counts as not set."""
    for name in ("named", "environ", "here"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nerve.yaml").touch()
    named, environ, here = tmp_path / "named", {"NERVE_HOME": str(tmp_path / "environ")}, tmp_path / "here"
    assert find_workspace(named, environ, here).home == tmp_path / "named"
    assert find_workspace(None, environ, here).home == tmp_path / "environ"
    assert find_workspace(None, {}, here).home == tmp_path / "here"
    assert find_workspace(None, {"NERVE_HOME": ""}, here).home == tmp_path / "here"


def test_the_nearest_folder_upwards_with_a_nerve_yaml_is_found(home: Path) -> None:
    """It has to be a file: a folder with that name does not count."""
    deep = home / "senses" / "deep"
    (deep / "nerve.yaml").mkdir(parents=True)
    assert find_workspace(None, {}, deep).home == home
    (home / "senses" / "nerve.yaml").touch()
    assert find_workspace(None, {}, deep).home == home / "senses"


def test_home_is_absolute_and_has_no_symlinks(home: Path, tmp_path: Path) -> None:
    """All processes must find the same sockets, by whatever path the workspace was named."""
    (tmp_path / "link").symlink_to(home)
    assert find_workspace(Path("ws/../link"), {}, tmp_path).home == home
    assert find_workspace(None, {"NERVE_HOME": "link"}, tmp_path).home == home
    assert find_workspace(None, {}, tmp_path / "link").home == home


def test_a_search_without_result_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    """There is one message for each way to name a workspace."""
    empty = tmp_path / "my stuff"
    empty.mkdir()
    assert refusal(named=empty, environ={}, cwd=tmp_path) == (
        f"no nerve.yaml in {empty} (from --home): create a workspace there with `nerve init '{empty}'`"
    )
    assert refusal(environ={"NERVE_HOME": "gone"}, cwd=tmp_path) == (
        f"no nerve.yaml in {tmp_path}/gone (from $NERVE_HOME): "
        f"create a workspace there with `nerve init {tmp_path}/gone`"
    )
    assert refusal(environ={}, cwd=empty) == (
        f"no nerve.yaml in {empty} or in any folder above it: "
        "create a workspace with `nerve init DIR`, or choose one with --home DIR"
    )


def test_a_path_that_can_not_be_searched_is_an_error(tmp_path: Path) -> None:
    """Symlink loops, null bytes and names that are too long are reported like other wrong paths."""
    (tmp_path / "loop").symlink_to("loop")
    for place in ("loop", "a\0b", "x" * 5000):
        line = refusal(environ={"NERVE_HOME": place}, cwd=tmp_path)
        assert "nerve init" in line or "--home DIR" in line


def test_prepare_creates_private_folders_and_can_be_repeated(home: Path) -> None:
    """Their mode does not depend on the umask, and files in them are kept."""
    ws = Workspace(home)
    umask = os.umask(0)
    try:
        ws.prepare()
    finally:
        os.umask(umask)
    assert {mode(p) for p in (ws.data_dir, ws.lock_path.parent, ws.archive_dir, ws.sense_db("x").parent)} == {0o700}
    ws.logs_db.touch()
    ws.prepare()
    assert ws.logs_db.exists()


def test_prepare_makes_existing_folders_private(home: Path) -> None:
    """The data folder and that of the sockets are closed to others, whatever their mode was."""
    ws = Workspace(home)
    run = ws.data_dir / "run"
    run.mkdir(parents=True)
    ws.data_dir.chmod(0o750)
    run.chmod(0o777)
    ws.prepare()
    assert (mode(ws.data_dir), mode(run)) == (0o700, 0o700)


@pytest.mark.parametrize("place", ["data", "data/run", "data/archive", "data/senses"])
def test_a_file_in_place_of_a_folder_is_an_error_with_its_path(home: Path, place: str) -> None:
    """It is not removed."""
    (home / place).parent.mkdir(exist_ok=True)
    (home / place).touch()
    with pytest.raises(WorkspaceError) as refused:
        Workspace(home).prepare()
    assert (home / place).is_file()
    assert str(refused.value) == f"{home / place} is not a folder, but nerve needs one there: move it elsewhere"


def test_a_folder_that_can_not_be_created_is_an_error_with_the_reason(tmp_path: Path) -> None:
    """Here the whole workspace is gone."""
    with pytest.raises(WorkspaceError, match=r"can't create the folder .*/gone/data: No such file or directory; make "):
        Workspace(tmp_path / "gone").prepare()


def test_a_folder_that_is_not_writable_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only disk, or a folder of another user, is noticed before anything starts."""
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).name != "senses")
    with pytest.raises(WorkspaceError, match=r"can't write to .*/data/senses: make it writable"):
        Workspace(home).prepare()


def test_a_data_folder_of_another_user_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is private: if its folder can't be, nothing starts."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(WorkspaceError, match=r"can't make .*/data private: Operation not permitted; run nerve as"):
        Workspace(home).prepare()


def test_a_home_with_a_long_path_has_its_sockets_on_a_short_one(far_home: Path, short_base: Path) -> None:
    """It is private, and different for each user and home; the lock stays in data/run."""
    ws = Workspace(far_home)
    ws.prepare()
    assert ws.run_dir.parent == short_base / f"nerve-{os.getuid()}"
    assert (mode(ws.run_dir), mode(ws.run_dir.parent)) == (0o700, 0o700)
    assert ws.run_dir == Workspace(far_home).run_dir != Workspace(far_home / "other").run_dir
    assert ws.lock_path == far_home / "data/run/lock"
    ws.prepare()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(ws.control_socket))


@pytest.mark.parametrize("excess", [0, 1])
def test_the_limit_applies_to_the_bytes_of_the_longest_socket_path(excess: int) -> None:
    """A path of 100 bytes is short enough; a character counts as its bytes."""
    room = 100 - len("/\u00e9/data/run/control.sock".encode())
    ws = Workspace(Path("/\u00e9" + "x" * (room + excess)))
    assert (len(os.fsencode(ws.control_socket)) == 100) is (excess == 0)
    assert (ws.run_dir == ws.data_dir / "run") is (excess == 0)


def test_a_short_path_that_others_can_enter_is_made_private(far_home: Path) -> None:
    """The folders belong to this user, but their mode is wrong."""
    ws = Workspace(far_home)
    ws.run_dir.mkdir(parents=True)
    ws.run_dir.parent.chmod(0o777)
    ws.prepare()
    assert (mode(ws.run_dir), mode(ws.run_dir.parent)) == (0o700, 0o700)


@pytest.mark.parametrize("level", ["user", "home"])
@pytest.mark.parametrize("trap", ["link", "file"])
def test_a_short_path_that_is_not_a_folder_is_refused(far_home: Path, level: str, trap: str) -> None:
    """Another user may have put it there: a symlink is refused even if it leads to a folder of this user."""
    ws = Workspace(far_home)
    place = ws.run_dir if level == "home" else ws.run_dir.parent
    place.parent.mkdir(exist_ok=True)
    if trap == "link":
        place.symlink_to(far_home)
    else:
        place.touch()
    with pytest.raises(WorkspaceError, match=r"is needed for sockets, but is not a folder that belongs to this user: "):
        ws.prepare()


def test_a_short_path_of_another_user_is_refused(far_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who creates the folder in /tmp first does not get the sockets of another."""
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    ws = Workspace(far_home)
    ws.run_dir.parent.mkdir()
    with pytest.raises(WorkspaceError, match=rf"nerve-{uid + 1} is needed for sockets, but is not a folder"):
        ws.prepare()
