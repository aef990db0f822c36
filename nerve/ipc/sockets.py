"""Unix sockets: listening at one, and who is at the other end."""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

from nerve.errors import WorkspaceError

LISTEN_BACKLOG = 128


def socket_listening_at(path: Path) -> socket.socket:
    """Listen at a Unix socket for this user only; replaces what a crash has left there.

    Raises WorkspaceError where there can't be one, as on a full disk.
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
        reason = error.strerror or error
        raise WorkspaceError(f"can't make the socket {path}: {reason}; free some space, or check its folder") from None
    return listener


def same_user(sock: socket.socket, uid: int) -> bool:
    """Tell whether the other end runs as `uid`; only Linux can say, elsewhere the mode of the folder must do."""
    if sys.platform != "linux":
        return True
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, peer_uid, _gid = struct.unpack("3i", credentials)
    return bool(peer_uid == uid)
