"""Diagnostics: stdlib logging from every process comes out of one handler, in order; the log never depends on it.

This is the sole importer of multiprocessing_logging, whose handler formats records where they are made and hands them
to a sub-handler in one receiving process. Its shared multiprocessing.Queue is replaced by a datagram socket: a record
is one datagram, so a process killed in the middle of logging can neither leave half a record nor keep a lock. A record
that finds the socket full is dropped and counted: diagnostics never block anybody.
"""

from __future__ import annotations

import logging
import select
import socket
import sys
from typing import Any

import msgspec
from multiprocessing_logging import MultiProcessingHandler

BUFFER_BYTES = 1024 * 1024
MAX_RECORD_CHARS = 16 * 1024
FORMAT = "%(asctime)s %(levelname)-7s %(processName)s[%(process)d] %(name)s: %(message)s"


class _Record(msgspec.Struct, array_like=True):
    """A log record on its way: only text and numbers, so that nothing is unpickled."""

    name: str
    level: int
    message: str
    created: float
    process: int
    process_name: str
    dropped: int


class DatagramQueue:
    """The part of multiprocessing.Queue that the handler uses, on a socket pair that every process inherits."""

    def __init__(self) -> None:
        self._in, self._out = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock in (self._in, self._out):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            sock.settimeout(0)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(_Record).decode
        self._dropped = 0
        self.watched = -1
        """A descriptor whose hang-up ends the stream once the queue is empty (receiving process)."""

    @property
    def receiving(self) -> int:
        """The descriptor that the receiving process needs."""
        return self._in.fileno()

    @property
    def sending(self) -> int:
        """The descriptor that every other process needs."""
        return self._out.fileno()

    def put_nowait(self, record: logging.LogRecord) -> None:
        """Send a record, or drop and count it when the receiver is behind."""
        text = record.getMessage()
        if record.exc_text:
            text = f"{text}\n{record.exc_text}"
        text = text[:MAX_RECORD_CHARS].encode("utf-8", "backslashreplace").decode()
        sent = _Record(
            record.name,
            record.levelno,
            text,
            record.created,
            record.process or 0,
            record.processName or "",
            self._dropped,
        )
        try:
            self._out.send(self._encode(sent))
            self._dropped = 0
        except OSError:  # full, or nobody receives any more
            self._dropped += 1

    def get(self, timeout: float | None = None) -> logging.LogRecord:
        """Wait for the next record; EOFError when the watched descriptor has hung up and nothing is left.

        `timeout` is the handler's polling interval, which is not needed here: waiting costs no wake-ups.
        """
        del timeout
        while True:
            try:
                return self._record(self._in.recv(BUFFER_BYTES))
            except BlockingIOError:
                self._wait()

    def qsize(self) -> int:
        """Tell whether something is waiting (1) or not (0)."""
        return len(select.select([self._in], [], [], 0)[0])

    def close(self) -> None:
        """Close this process's ends."""
        self._in.close()
        self._out.close()

    def join_thread(self) -> None:
        """Nothing to join: no thread feeds this queue."""

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self._in, select.POLLIN)
        poller.register(self.watched, 0)
        ready = {fd for fd, _event in poller.poll()}
        if self._in.fileno() not in ready:
            raise EOFError

    def _record(self, datagram: bytes) -> logging.LogRecord:
        try:
            sent = self._decode(datagram)
        except msgspec.DecodeError as error:
            return logging.LogRecord(
                "nerve.diagnostics", logging.ERROR, "", 0, f"an unreadable record: {error}", None, None
            )
        message = f"({sent.dropped} records dropped) {sent.message}" if sent.dropped else sent.message
        record = logging.LogRecord(sent.name, sent.level, "", 0, message, None, None)
        record.created, record.process, record.processName = sent.created, sent.process, sent.process_name
        return record


class RelayHandler(MultiProcessingHandler):  # type: ignore[misc]  # the library has no types
    """The library's handler on a DatagramQueue, receiving in a process of its own instead of a thread of the kernel.

    The kernel forks, and forking beside threads is a hazard: so no thread is started here.
    """

    def __init__(self, sub_handler: logging.Handler, records: DatagramQueue) -> None:
        logging.Handler.__init__(self)
        self.sub_handler = sub_handler
        self.queue = self.records = records
        self._is_closed = False
        self.setLevel(sub_handler.level)
        self.setFormatter(sub_handler.formatter)

    def receive_until_hangup(self, descriptor: int) -> None:
        """Give every record to the sub-handler until `descriptor` hangs up and nothing is left (receiving process)."""
        self.queue.watched = descriptor
        self._receive()

    def close(self) -> None:
        """Close the handler; the queue stays open, for other processes share it."""
        self._is_closed = True
        logging.Handler.close(self)


class ConsoleHandler(logging.StreamHandler[Any]):
    """Writes to stderr, and survives whatever stderr does: a receiving process must never die of a closed terminal."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter(FORMAT, datefmt="%H:%M:%S"))
        self.failures = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Count what could not be written: there is no place left to say so."""
        del record
        self.failures += 1


def make_relay() -> RelayHandler:
    """Make the handler that all processes share; in the kernel, before the first fork."""
    return RelayHandler(ConsoleHandler(), DatagramQueue())


def install(handler: logging.Handler, level: int = logging.INFO) -> None:
    """Make `handler` the only handler of this process's root logger."""
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)


__all__ = ["ConsoleHandler", "DatagramQueue", "RelayHandler", "install", "make_relay"]
