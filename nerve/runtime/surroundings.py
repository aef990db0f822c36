"""What every run finds around it, and what is put back after it, as the next run may be another sense's; in a worker.

Working directory, umask, environment, signal handlers and mask, standard streams, default timeout of sockets, event
loop and logging are put back after each run, in less than 3 us if nothing has changed: each is set again, compared, or
watched for changes, whichever is cheapest.

What a sense's file sets while it is loaded happens once, and is treated differently. Directory, umask and timeout are
set again before each run of that sense. The environment stays for all senses, as libraries set theirs in this way.

Programs that an interrupted run leaves are ended by `nerve.processes.programs`; about threads, see `run_of_thread`.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C functions that `signal` wraps
import os
import signal
import sys
import time
from _socket import getdefaulttimeout, setdefaulttimeout
from asyncio import _get_running_loop, _set_running_loop, events
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from nerve.runtime.logging_state import LoggingState

SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class Surroundings:
    """What the runs of this worker find: everything as it is when this is made."""

    def __init__(self, home: Path, logging: LoggingState, restore_crash_handlers: Callable[[], None]) -> None:
        """Enter the folder `home`. `restore_crash_handlers` sets the handlers of signals that Python does not show."""
        with suppress(OSError):  # the workspace was moved while the engine runs
            os.chdir(home)
        self._home = os.open(".", os.O_RDONLY)
        self._umask = _umask()
        self._environ = os.environ
        self._variables = _watch_variables()
        self._handlers = {number: signal.getsignal(number) for number in SIGNALS}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._unraisable = sys.unraisablehook
        self._restore_crash_handlers = restore_crash_handlers
        self._signals = _SignalWatch()
        self._stdin, self._stdout, self._stderr = sys.stdin, sys.stdout, sys.stderr
        for stream in filter(None, (self._stdout, self._stderr)):
            stream.reconfigure(line_buffering=True)  # a killed worker loses no line
        self._logging = logging
        self._own: dict[str, _Own] = {}

    def put_back(self) -> bool:
        """Put back what a run has changed; return False if that is impossible: then the worker must be replaced."""
        try:
            os.fchdir(self._home)
            os.umask(self._umask)
            if self._variables.changed or os.environ is not self._environ:
                self._put_back_environment()
            if self._signals.changed or sys.unraisablehook is not self._unraisable:
                self._put_back_signals()
            _signal.set_wakeup_fd(-1)
            if sys.stdout is not self._stdout or sys.stderr is not self._stderr or sys.stdin is not self._stdin:
                sys.stdin, sys.stdout, sys.stderr = self._stdin, self._stdout, self._stderr
            self._flush()
            setdefaulttimeout(None)
            if _get_running_loop() is not None or _event_loop_policy() is not None:
                self._put_back_event_loop()
            self._logging.put_back()
        except Exception:  # noqa: BLE001 - whatever it is, the next run would not find what it should
            return False
        return True

    def accept_loaded(self, sense: str) -> None:
        """Note what the file of a sense has set while it was loaded."""
        if os.environ is self._environ:
            self._variables.accept()
        self._logging.accept_loggers()
        own = _Own(_directory(), _umask(), getdefaulttimeout())
        os.fchdir(self._home)
        self._own.pop(sense, None)
        if own != _Own(_directory(), self._umask, None):
            self._own[sense] = own
            self.set_own(sense)

    def set_own(self, sense: str) -> None:
        """Set again, before a run, what the file of its sense has set."""
        own = self._own.get(sense)
        if own is not None:
            os.chdir(own.directory)
            os.umask(own.umask)
            setdefaulttimeout(own.socket_timeout)

    def _put_back_environment(self) -> None:
        os.environ = self._environ  # noqa: B003 - the compute has replaced the mapping, not its content
        timezone = os.environ.get("TZ")
        for name, value in self._variables.differences():
            if value is None:
                del os.environ[os.fsdecode(name)]
            else:
                os.environ[os.fsdecode(name)] = os.fsdecode(value)
        self._variables.changed = False
        if os.environ.get("TZ") != timezone:
            time.tzset()

    def _put_back_signals(self) -> None:
        for timer in (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)  # without its handler, the signal of a timer would end the process
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        sys.unraisablehook = self._unraisable
        self._restore_crash_handlers()
        self._signals.changed = False

    def _put_back_event_loop(self) -> None:
        _set_running_loop(None)
        current = getattr(_event_loop_policy(), "_local", None)
        if current is not None:
            vars(current).clear()

    def _flush(self) -> None:
        """Write what was printed without a line end, and open again what was closed."""
        try:
            self._stdout.flush()
            self._stderr.flush()
        except (AttributeError, OSError):  # there is no such stream, or nobody reads it
            pass
        except ValueError:
            self._stdout, self._stderr = _reopened(self._stdout, 1), _reopened(self._stderr, 2)
            sys.stdout, sys.stderr = self._stdout, self._stderr


class _Own(NamedTuple):
    """What a sense's file has set while it was loaded."""

    directory: str
    umask: int
    socket_timeout: float | None


class _Variables(dict[bytes, bytes]):
    """The variables behind `os.environ`; `changed` if one was set or deleted since they were last accepted."""

    def __init__(self, variables: dict[bytes, bytes]) -> None:
        super().__init__(variables)
        self.accept()

    def accept(self) -> None:
        """Take the variables as they are now for what every run finds."""
        self._accepted = dict(self)
        self.changed = False

    def differences(self) -> list[tuple[bytes, bytes | None]]:
        """Return the accepted value of each variable that has another one now; None if there should be none."""
        names = self.keys() | self._accepted.keys()
        return [(name, self._accepted.get(name)) for name in names if self.get(name) != self._accepted.get(name)]

    def __setitem__(self, name: bytes, value: bytes) -> None:
        self.changed = True
        super().__setitem__(name, value)

    def __delitem__(self, name: bytes) -> None:
        self.changed = True
        super().__delitem__(name)


def _watch_variables() -> _Variables:
    mappings: Any = (os.environ, os.environb)
    variables = _Variables(mappings[0]._data)  # noqa: SLF001 - comparing all after each run takes longer
    for mapping in mappings:
        mapping._data = variables  # noqa: SLF001 - as above
    return variables


class _SignalWatch:
    """Notes in `changed` that a handler of a signal, or the mask, may have changed."""

    def __init__(self) -> None:
        self.changed = False
        for name in ("signal", "pthread_sigmask"):  # `signal` looks them up here at each call
            setattr(_signal, name, self._noting(getattr(_signal, name)))

    def _noting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def noting(*arguments: object) -> object:
            self.changed = True
            return function(*arguments)

        return noting


def _event_loop_policy() -> Any:
    return vars(events).get("_event_loop_policy")  # asking `asyncio` for it would make one


def _directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - it is only compared, and set again
    except FileNotFoundError:  # it was removed
        return "."


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _reopened(stream: TextIO, descriptor: int) -> TextIO:
    if not stream.closed:
        return stream
    return open(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False)
