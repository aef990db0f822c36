"""Unix sockets: listening, and accepting connections of the same user only."""

from __future__ import annotations

import os
import socket
import struct
import sys
from pathlib import Path

from nerve.errors import WireError, WorkspaceError

LISTEN_BACKLOG = 128


def socket_listening_at(path: Path) -> socket.socket:
    """Return a non-blocking Unix socket that listens at `path` for this user only; a stale file there is replaced.

    Raises WorkspaceError if that fails, for instance on a full disk.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.settimeout(0)
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        step = "free some space, or check that its folder is writable"
        raise WorkspaceError(f"can't create the socket {path}: {error.strerror or error}; {step}") from None
    return listener


def accept_same_user(listener: socket.socket) -> socket.socket | None:
    """Accept a connection; return None if none is waiting any more.

    Raises WireError for one of another user, which is closed.
    """
    try:
        sock, _address = listener.accept()
    except (BlockingIOError, ConnectionAbortedError):
        return None
    if not same_user(sock, os.getuid()):
        sock.close()
        raise WireError("it came from a process of another user")
    return sock


def same_user(sock: socket.socket, uid: int) -> bool:
    """Return True if the peer runs as `uid`; always True except on Linux, where the folder's mode has to protect it."""
    if sys.platform != "linux":
        return True
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, peer_uid, _gid = struct.unpack("3i", credentials)
    return bool(peer_uid == uid)
