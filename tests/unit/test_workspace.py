"""The workspace: its places, how it is found, how its folders are made."""

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
    """What stands in for /tmp, and is as short."""
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
    """A home whose path is too long for a socket below it."""
    home = tmp_path / ("x" * 100)
    home.mkdir()
    return home


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def refusal(*, named: Path | None = None, environ: dict[str, str], cwd: Path) -> str:
    """The one line with which looking for a workspace is refused."""
    with pytest.raises(WorkspaceError) as refused:
        find_workspace(named, environ, cwd)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def test_every_place_follows_from_home() -> None:
    """The layout of a workspace is fixed."""
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


def test_what_is_named_comes_before_the_environment_and_that_before_here(tmp_path: Path) -> None:
    """--home wins over $NERVE_HOME, which wins over the folder that one is in."""
    for name in ("named", "environ", "here"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nerve.yaml").touch()
    named, environ, here = tmp_path / "named", {"NERVE_HOME": str(tmp_path / "environ")}, tmp_path / "here"
    assert find_workspace(named, environ, here).home == tmp_path / "named"
    assert find_workspace(None, environ, here).home == tmp_path / "environ"
    assert find_workspace(None, {}, here).home == tmp_path / "here"
    assert find_workspace(None, {"NERVE_HOME": ""}, here).home == tmp_path / "here"


def test_the_nearest_folder_upwards_is_found(home: Path) -> None:
    """From anywhere inside, the innermost workspace is meant; a folder that is called nerve.yaml is none."""
    deep = home / "senses" / "deep"
    (deep / "nerve.yaml").mkdir(parents=True)
    assert find_workspace(None, {}, deep).home == home
    (home / "senses" / "nerve.yaml").touch()
    assert find_workspace(None, {}, deep).home == home / "senses"


def test_home_is_absolute_and_without_links(home: Path, tmp_path: Path) -> None:
    """However it is reached, a workspace has one home, so that all processes agree on its sockets."""
    (tmp_path / "link").symlink_to(home)
    assert find_workspace(Path("ws/../link"), {}, tmp_path).home == home
    assert find_workspace(None, {"NERVE_HOME": "link"}, tmp_path).home == home
    assert find_workspace(None, {}, tmp_path / "link").home == home


def test_where_there_is_no_workspace_the_next_step_is_told(tmp_path: Path) -> None:
    """Each way of looking has its one line, which says where it looked and how to make a workspace."""
    empty = tmp_path / "my stuff"
    empty.mkdir()
    assert refusal(named=empty, environ={}, cwd=tmp_path) == (
        f"no nerve.yaml in {empty}, which --home names: make a workspace there with `nerve init '{empty}'`"
    )
    assert refusal(environ={"NERVE_HOME": "gone"}, cwd=tmp_path) == (
        f"no nerve.yaml in {tmp_path}/gone, which $NERVE_HOME names: "
        f"make a workspace there with `nerve init {tmp_path}/gone`"
    )
    assert refusal(environ={}, cwd=empty) == (
        f"no nerve.yaml in {empty} or in any folder above it: "
        "make a workspace with `nerve init DIR`, or name one with --home DIR"
    )


def test_a_folder_that_can_not_be_looked_at_is_told(tmp_path: Path) -> None:
    """Links in a loop, null bytes and names beyond the system's limits are refused like other bad places."""
    (tmp_path / "loop").symlink_to("loop")
    for place in ("loop", "a\0b", "x" * 5000):
        line = refusal(environ={"NERVE_HOME": place}, cwd=tmp_path)
        assert "nerve init" in line or "--home DIR" in line


def test_prepare_makes_the_folders_for_their_owner_only(home: Path) -> None:
    """All folders are there, private whatever the umask, and preparing again changes nothing."""
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


def test_prepare_closes_the_data_folder_and_that_of_the_sockets(home: Path) -> None:
    """Whatever they were before, nobody else gets in."""
    ws = Workspace(home)
    run = ws.data_dir / "run"
    run.mkdir(parents=True)
    ws.data_dir.chmod(0o750)
    run.chmod(0o777)
    ws.prepare()
    assert (mode(ws.data_dir), mode(run)) == (0o700, 0o700)


@pytest.mark.parametrize("place", ["data", "data/run", "data/archive", "data/senses"])
def test_a_file_in_the_place_of_a_folder_is_told(home: Path, place: str) -> None:
    """What is in the way is named."""
    (home / place).parent.mkdir(exist_ok=True)
    (home / place).touch()
    with pytest.raises(WorkspaceError) as refused:
        Workspace(home).prepare()
    assert str(refused.value) == f"{home / place} is in the way: it must be a folder; move it elsewhere"


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    """The system's reason is passed on: here the whole workspace is gone."""
    with pytest.raises(WorkspaceError, match=r"can't make the folder .*/gone/data: No such file or directory; make "):
        Workspace(tmp_path / "gone").prepare()


def test_a_folder_that_is_not_writable_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is mounted read-only, or another's folder, is found out before anything starts."""
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).name != "senses")
    with pytest.raises(WorkspaceError, match=r"can't write into .*/data/senses: make it writable"):
        Workspace(home).prepare()


def test_a_data_folder_that_belongs_to_another_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is logged is private: if its folder can't be made so, nothing starts."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(WorkspaceError, match=r"can't make .*/data private: Operation not permitted; start nerve as"):
        Workspace(home).prepare()


def test_a_long_home_has_its_sockets_on_a_short_path(far_home: Path, short_base: Path) -> None:
    """The path is one per user and home, private, and short enough to be listened on; the lock stays in data/run."""
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
def test_the_limit_is_on_the_bytes_of_the_longest_socket(excess: int) -> None:
    """A path of 100 bytes is still a usual one, and characters count as what they are in bytes."""
    room = 100 - len("/\u00e9/data/run/control.sock".encode())
    ws = Workspace(Path("/\u00e9" + "x" * (room + excess)))
    assert (len(os.fsencode(ws.control_socket)) == 100) is (excess == 0)
    assert (ws.run_dir == ws.data_dir / "run") is (excess == 0)


def test_a_short_path_that_was_left_open_is_closed(far_home: Path) -> None:
    """Folders of our own that others can enter are made private again."""
    ws = Workspace(far_home)
    ws.run_dir.mkdir(parents=True)
    ws.run_dir.parent.chmod(0o777)
    ws.prepare()
    assert (mode(ws.run_dir), mode(ws.run_dir.parent)) == (0o700, 0o700)


@pytest.mark.parametrize("level", ["user", "home"])
@pytest.mark.parametrize("trap", ["link", "file"])
def test_a_short_path_that_is_a_trap_is_refused(far_home: Path, level: str, trap: str) -> None:
    """A link, even to a folder of our own, or a file in the place of the sockets' folder stops the start."""
    ws = Workspace(far_home)
    place = ws.run_dir if level == "home" else ws.run_dir.parent
    place.parent.mkdir(exist_ok=True)
    if trap == "link":
        place.symlink_to(far_home)
    else:
        place.touch()
    with pytest.raises(WorkspaceError, match=r"is needed for the sockets, and is not a folder of this user's own: "):
        ws.prepare()


def test_a_short_path_of_another_user_is_refused(far_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made our folder in /tmp first does not get our sockets."""
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    ws = Workspace(far_home)
    ws.run_dir.parent.mkdir()
    with pytest.raises(WorkspaceError, match=rf"nerve-{uid + 1} is needed for the sockets, and is not a folder of"):
        ws.prepare()
