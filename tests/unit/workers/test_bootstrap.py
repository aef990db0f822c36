"""What ties a child to its kernel."""

from __future__ import annotations

import os
import select
import socket

from nerve.workers.bootstrap import _await_hang_up


def test_a_child_ends_when_its_link_does_and_not_when_it_is_written_to() -> None:
    """Where the system does not kill it, a thread of its own does; what the link brings is for others."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _await_hang_up(theirs.fileno())
        os._exit(99)
    theirs.close()
    ours.sendall(b"a message")
    child = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    if child is not None:
        assert not select.select([child], [], [], 0.05)[0]
        os.close(child)
    ours.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
