"""Diagnostics: stdlib logging from every process goes through one handler, in order; logs.db never depends on it.

This is the only importer of multiprocessing_logging. Its handler formats a record in the process that logs it, and
passes it to a sub-handler in one receiving process. Its multiprocessing.Queue is replaced by a datagram socket: a
record is one datagram, so a process that is killed while it logs leaves neither half a record nor a locked queue.

Diagnostics never block: a record that the socket has no room for is dropped and counted. So is one that exceeds the
allowance of its process, so that a compute that logs in a tight loop leaves room for the others.
"""

from __future__ import annotations

import logging
import select
import socket
import sys
from typing import Any

import msgspec
from multiprocessing_logging import MultiProcessingHandler

from nerve.escaping import escape
from nerve.events.payload import valid_text

BUFFER_BYTES = 1024 * 1024
MAX_RECORD_CHARS = 16 * 1024
RECORDS_PER_SECOND = 1_000
"""The allowance of each process."""

FORMAT = "%(asctime)s %(levelname)-7s %(processName)s[%(process)d] %(name)s: %(message)s"


class _Record(msgspec.Struct, array_like=True):
    """A log record in the socket: only text and numbers, so that nothing is unpickled."""

    name: str
    level: int
    message: str
    created: float
    process: int
    process_name: str
    dropped: int
    trace: str = ""


class Allowance:
    """A token bucket: how many records a process may still send. It holds one second's worth, and refills with time."""

    def __init__(self, per_second: int = RECORDS_PER_SECOND) -> None:
        self._per_second = per_second
        self._left = float(per_second)
        self._seen = 0.0

    def take(self, now: float) -> bool:
        """Take one token at `now`, in seconds of a clock that may be set back; return False if none is left."""
        refill = max(0.0, now - self._seen) * self._per_second
        self._left = min(float(self._per_second), self._left + refill)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class DatagramQueue:
    """The part of multiprocessing.Queue that the library uses, on a socket pair that every process inherits."""

    def __init__(self) -> None:
        self._in, self._out = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock in (self._in, self._out):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            sock.settimeout(0)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(_Record).decode
        self._allowance = Allowance()
        self._dropped = 0
        self.watched: int | None = None
        """`get` raises EOFError when this descriptor has hung up and the queue is empty (receiving process)."""

    @property
    def receiving(self) -> int:
        """The descriptor that the receiving process needs."""
        return self._in.fileno()

    @property
    def sending(self) -> int:
        """The descriptor that every other process needs."""
        return self._out.fileno()

    def put_nowait(self, record: logging.LogRecord) -> None:
        """Send a record; drop and count it if the receiver is behind, or the allowance is used up."""
        if not self._allowance.take(record.created):
            self._dropped += 1
            return
        traces = filter(None, (record.exc_text, record.stack_info))
        sent = _Record(
            _sendable(record.name),
            record.levelno,
            _sendable(record.getMessage()),
            record.created,
            record.process or 0,
            record.processName or "",
            self._dropped,
            _sendable("\n".join(traces)),
        )
        try:
            self._out.send(self._encode(sent))
            self._dropped = 0
        except OSError:  # the socket is full, or the receiving process is gone
            self._dropped += 1

    def get(self, timeout: float | None = None) -> logging.LogRecord:
        """Wait for the next record; raises EOFError when the watched descriptor has hung up and none is left.

        `timeout` is the library's polling interval, which is ignored: waiting without end costs no wake-ups.
        """
        del timeout
        while True:
            try:
                return self._record(self._in.recv(BUFFER_BYTES))
            except BlockingIOError:
                self._wait()

    def close(self) -> None:
        """Close both ends in this process."""
        self._in.close()
        self._out.close()

    def join_thread(self) -> None:
        """Nothing to join: no thread feeds this queue."""

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self._in, select.POLLIN)
        if self.watched is not None:
            poller.register(self.watched, 0)
        ready = {fd for fd, _event in poller.poll()}
        if self._in.fileno() not in ready:
            raise EOFError

    def _record(self, datagram: bytes) -> logging.LogRecord:
        try:
            sent = self._decode(datagram)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return logging.LogRecord(
                "nerve.diagnostics", logging.ERROR, "", 0, f"an unreadable record: {error}", None, None
            )
        message = f"({sent.dropped} records dropped) {sent.message}" if sent.dropped else sent.message
        record = logging.LogRecord(sent.name, sent.level, "", 0, message, None, None)
        record.created, record.process, record.processName = sent.created, sent.process, sent.process_name
        record.exc_text = sent.trace or None
        return record


def _sendable(text: str) -> str:
    return valid_text(text[:MAX_RECORD_CHARS])[:MAX_RECORD_CHARS]


class RelayHandler(MultiProcessingHandler):  # type: ignore[misc]  # the library has no types
    """The library's handler, with a DatagramQueue, and a receiving process in place of its receiving thread.

    `emit` and `_receive` are the library's: how a record is formatted, sent, received and passed on. What surrounds
    them is not: its constructor starts a thread in the process that makes the handler, which is the kernel, and a
    process that forks must not have threads; its `close` waits for that thread.
    """

    def __init__(self, sub_handler: logging.Handler, records: DatagramQueue) -> None:
        logging.Handler.__init__(self)
        # The attributes that the library's methods use.
        self.sub_handler = sub_handler
        self.queue = self.records = records
        self._is_closed = False  # it stays so: `_receive` ends by EOFError
        self.setLevel(sub_handler.level)
        self.setFormatter(sub_handler.formatter)

    def receive_until_hangup(self, descriptor: int) -> None:
        """Pass every record to the sub-handler until `descriptor` hangs up and none is left (receiving process)."""
        self.records.watched = descriptor
        self._receive()

    def close(self) -> None:
        """Close the handler, but not the queue, which other processes share."""
        logging.Handler.close(self)


class LineFormatter(logging.Formatter):
    """Formats a record as one line; its traceback follows, indented, so that no text can look like another record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return the line, with everything escaped that a terminal would act on."""
        return escape(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """Return the line and the traceback."""
        line, *trace = super().format(record).split("\n")
        return "\n    ".join([line, *(escape(part.expandtabs(4)) for part in trace)])


class ConsoleHandler(logging.StreamHandler[Any]):
    """Writes to stderr, and ignores its failures: the receiving process must not die of a closed terminal."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(LineFormatter(FORMAT, datefmt="%H:%M:%S"))
        self.failures = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; a failure is counted, also where logging itself would raise."""
        try:
            super().emit(record)
        except RecursionError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Count the failure: there is no other place to report it."""
        del record
        self.failures += 1


def make_relay() -> RelayHandler:
    """Return the handler that all processes share; made in the kernel, before the first fork."""
    return RelayHandler(ConsoleHandler(), DatagramQueue())


def install(handler: logging.Handler, level: int = logging.INFO) -> None:
    """Make `handler` the only handler of the root logger in this process."""
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
