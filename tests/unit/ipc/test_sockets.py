"""Where the kernel can't listen, it says in one line where and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerve.errors import WorkspaceError
from nerve.ipc.sockets import socket_listening_at


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """Whatever the system refuses is an error of the workspace, with the socket's path."""
    path = tmp_path / "gone" / "x.sock"
    with pytest.raises(WorkspaceError, match=r"can't make the socket .*x\.sock: No such file or directory; free some"):
        socket_listening_at(path)


def test_a_path_that_is_too_long_for_a_socket() -> None:
    """Python refuses it without an errno, and that is said as well."""
    with pytest.raises(WorkspaceError, match="too long"):
        socket_listening_at(Path("/tmp") / ("x" * 200))
