"""Unix sockets: errors of listening name the path and the reason, and only the same user is accepted."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.eventqueue import short_folder

from nerve.errors import WireError, WorkspaceError
from nerve.ipc import sockets
from nerve.ipc.sockets import accept_same_user, same_user, socket_listening_at

only_linux_knows = pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux says who the peer is")


@pytest.fixture
def path() -> Iterator[Path]:
    """A path that is short enough for a socket."""
    with short_folder() as folder:
        yield folder / "x.sock"


def test_a_socket_in_a_missing_folder_is_an_error_with_its_path(tmp_path: Path) -> None:
    """The system's reason is in the message."""
    message = r"can't create the socket .*x\.sock: No such file or directory; free some space"
    with pytest.raises(WorkspaceError, match=message):
        socket_listening_at(tmp_path / "gone" / "x.sock")


def test_a_path_that_is_too_long_for_a_socket_is_an_error() -> None:
    """Python refuses it without an errno."""
    with pytest.raises(WorkspaceError, match="too long"):
        socket_listening_at(Path("/tmp") / ("x" * 200))


def test_a_listening_socket_is_private_and_replaces_a_stale_file(path: Path) -> None:
    """A crashed engine leaves its socket's file behind."""
    path.touch()
    with closing(socket_listening_at(path)):
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_accept_returns_each_waiting_connection_and_then_none(path: Path) -> None:
    """It never blocks."""
    with closing(socket_listening_at(path)) as listener, socket.socket(socket.AF_UNIX) as client:
        assert accept_same_user(listener) is None
        client.connect(str(path))
        accepted = accept_same_user(listener)
        assert accepted
        with accepted:
            client.sendall(b"x")
            assert accepted.recv(1) == b"x"
        assert accept_same_user(listener) is None


def test_a_connection_of_another_user_is_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says so, and the next connection can be accepted."""
    with closing(socket_listening_at(path)) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        monkeypatch.setattr(sockets, "same_user", lambda _sock, _uid: False)
        with pytest.raises(WireError, match="another user"):
            accept_same_user(listener)
        assert client.recv(1) == b""
        assert accept_same_user(listener) is None


def test_a_peer_of_the_same_user_is_recognized() -> None:
    """Both ends of a socket pair belong to this process."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert same_user(ours, os.getuid())


@only_linux_knows
def test_a_peer_of_another_user_is_recognized() -> None:
    """The system says which user is at the other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not same_user(ours, os.getuid() + 1)
