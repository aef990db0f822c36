"""Senses: loading one from its file, and performing one run under its deadline; inside a worker."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from itertools import dropwhile
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import msgspec

from nerve.clock import Clock
from nerve.context import SenseContext
from nerve.errors import PayloadError, SenseLoadError
from nerve.events import ErrorDetail, Status, quarantine
from nerve.interruption import Interrupter
from nerve.messages import Outcome, Run
from nerve.payload import encode_payload, printable, valid_text
from nerve.redaction import redactor_of
from nerve.trigger import Trigger
from nerve.units import format_duration

Compute = Callable[[SenseContext], Any]

MAX_TRACEBACK_CHARS = 16 * 1024
MAX_MESSAGE_CHARS = 2 * 1024
_LEFT_OUT = "\n  ... the middle is left out ...\n"
_OWN_FOLDER = str(Path(__file__).parent) + os.sep
_ASYNCIO_FOLDER = str(Path(asyncio.__file__).parent) + os.sep


class SenseLoader:
    """Loads senses, and keeps what it has loaded; what fails to load is tried again at the next run."""

    def __init__(self) -> None:
        self._computes: dict[str, Compute] = {}

    def load(self, path: str) -> Compute:
        """Give the `compute` of a sense's file; SenseLoadError says what is wrong with the file, and where."""
        compute = self._computes.get(path)
        if compute is None:
            compute = self._computes[path] = _load(Path(path))
        return compute


def _load(path: Path) -> Compute:
    code = _compiled(path)
    module = ModuleType(f"senses.{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses, among others, look their module up there
    try:
        exec(code, module.__dict__)  # running the user's senses is what a worker is for
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what a module does when it is loaded is the user's
        raise SenseLoadError(f"{path} can't be loaded: {describe(error)}", trace(error)) from None
    compute: Compute | None = getattr(module, "compute", None)
    if not callable(compute):
        raise SenseLoadError(f"{path} has no `compute`: add `def compute(ctx):`")
    return compute


def _compiled(path: Path) -> CodeType:
    try:
        return compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except OSError as error:
        raise SenseLoadError(f"can't read {path}: {error.strerror}") from None
    except SyntaxError as error:
        place = f"{path}:{error.lineno}" if error.lineno else str(path)
        raise SenseLoadError(f"{place}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise SenseLoadError(f"{path} can't be compiled: {describe(error)}") from None


def perform(
    run: Run, loader: SenseLoader, context: Callable[[Trigger], SenseContext], interrupter: Interrupter, clock: Clock
) -> Outcome:
    """Do one run, and tell how it ended; nothing that a compute does or raises gets past this."""
    started = clock.now()
    signal: str | None = None
    status: Status = "ok"
    error: ErrorDetail | None = None
    spent = False
    try:
        signal = interrupter.run(lambda: _signal(run, loader, context, interrupter), run.timeout)
    except BaseException as failure:  # noqa: BLE001 - SystemExit and the like are failures of the compute, too
        status, error, spent = "error", _failure(failure), isinstance(failure, MemoryError)
    if interrupter.reason:
        status, signal, error = _interrupted(interrupter, run, error)
    return Outcome(run.run_id, status, (clock.now() - started) * 1000, signal, error, spent)


def _signal(
    run: Run, loader: SenseLoader, context: Callable[[Trigger], SenseContext], interrupter: Interrupter
) -> str | None:
    """Run the compute, and give the signal that it returns as JSON text; all of this is under its deadline."""
    compute = loader.load(run.path)
    result = compute(context(_decoded(run.trigger)))
    if inspect.isawaitable(result):
        result = _complete(result, interrupter)
    return None if result is None else encode_payload(result, run.max_payload, redactor_of(run.redact))


def _decoded(trigger: Trigger) -> Trigger:
    if trigger.signal is None:
        return trigger
    payload = msgspec.json.decode(trigger.signal.payload)
    return msgspec.structs.replace(trigger, signal=msgspec.structs.replace(trigger.signal, payload=payload))


def _complete(awaitable: Awaitable[Any], interrupter: Interrupter) -> object:
    """Run an asynchronous compute to its end."""
    try:
        with asyncio.Runner() as runner:
            delivery = _Delivery(runner.get_loop())
            interrupter.deliver = delivery.deliver
            return runner.run(delivery.supervise(awaitable))
    finally:
        interrupter.deliver = None


class _Delivery:
    """Takes an interruption to where an asynchronous compute waits, by way of its event loop.

    A loop that is itself interrupted between two steps may forget what it was about to do, and then wait for ever.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._compute: asyncio.Task[Any] | None = None
        self._asked: asyncio.Handle | None = None
        self._done = False

    async def supervise(self, awaitable: Awaitable[Any]) -> object:
        """Await the compute as the loop's main task."""
        self._compute = asyncio.current_task()
        return await awaitable

    def deliver(self, frame: FrameType | None) -> bool:
        """Ask the loop to end what waits; False when it was asked before, and `frame` is in a task that hangs."""
        if self._loop.is_closed():
            return False
        if self._asked is None:
            self._asked = self._loop.call_soon_threadsafe(self._end_waiting)
            return True
        running = asyncio.current_task(self._loop)
        if self._done or running is None or not _is_in_code_of(running.get_coro(), frame):
            return True
        if running is self._compute:
            self._asked.cancel()  # what is raised in the compute is enough
        return False

    def _end_waiting(self) -> None:
        self._done = True
        if self._compute and not self._compute.done():
            self._compute.cancel()
        else:
            self._loop.stop()  # it waits for what the compute has left running


def _is_in_code_of(coroutine: object, frame: FrameType | None) -> bool:
    """Tell whether `frame` belongs to `coroutine` or to what it has called, and not to asyncio itself."""
    if frame is None or frame.f_code.co_filename.startswith(_ASYNCIO_FOLDER):
        return False
    outermost = getattr(coroutine, "cr_frame", None)
    while frame is not None and frame is not outermost:
        frame = frame.f_back
    return frame is not None


def _interrupted(
    interrupter: Interrupter, run: Run, error: ErrorDetail | None
) -> tuple[Status, str | None, ErrorDetail | None]:
    if interrupter.reason == "stopped":
        return "cancelled", None, None
    message = f"{run.sense} took longer than its timeout of {format_duration(run.timeout)}"
    trace = error.traceback if error else None
    return "timeout", None, ErrorDetail("timeout", message, exception="TimeoutError", traceback=trace)


def _failure(failure: BaseException) -> ErrorDetail:
    match failure:
        case PayloadError():
            return quarantine("its signal", failure)
        case SenseLoadError():
            return ErrorDetail("sense_load", printable(str(failure)), traceback=failure.traceback)
        case _:
            return ErrorDetail("compute", describe(failure), exception=type(failure).__name__, traceback=trace(failure))


def describe(error: BaseException) -> str:
    """Say in at most MAX_MESSAGE_CHARS what an exception says, whatever its `__str__` does."""
    try:
        text = str(error)
    except BaseException as broken:  # noqa: BLE001 - a user's __str__ may raise anything
        text = f"(its __str__ raises {type(broken).__name__})"
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return valid_text(text[:MAX_MESSAGE_CHARS])[:MAX_MESSAGE_CHARS]


def trace(error: BaseException) -> str:
    """Give the traceback without nerve's own frames; of more than MAX_TRACEBACK_CHARS, the start and the end."""
    try:
        report = traceback.TracebackException.from_exception(error)
        _leave_out_own_frames(report)
        text = valid_text("".join(report.format()))
    except BaseException as broken:  # noqa: BLE001 - formatting calls the user's __str__ and __repr__
        text = f"(the traceback can't be formatted: {type(broken).__name__})"
    if len(text) <= MAX_TRACEBACK_CHARS:
        return text
    kept = MAX_TRACEBACK_CHARS - len(_LEFT_OUT)
    return text[: kept - kept // 2] + _LEFT_OUT + text[-(kept // 2) :]


def _leave_out_own_frames(report: traceback.TracebackException) -> None:
    """Leave out the frames of nerve, and those of asyncio that lead to the compute, in the whole chain."""
    waiting: list[traceback.TracebackException | None] = [report]
    while waiting:
        part = waiting.pop()
        if part is None:
            continue
        theirs = [frame for frame in part.stack if not frame.filename.startswith(_OWN_FOLDER)]
        shown = list(dropwhile(lambda frame: frame.filename.startswith(_ASYNCIO_FOLDER), theirs))
        if shown:
            part.stack = traceback.StackSummary.from_list(shown)
        waiting += [part.__cause__, part.__context__, *(part.exceptions or ())]
