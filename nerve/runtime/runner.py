"""Performs one run of a sense under its deadline; inside a worker."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import msgspec

from nerve.clock import Clock
from nerve.errors import PayloadError, SenseLoadError
from nerve.events.catalog import quarantine
from nerve.events.model import ErrorDetail, Status
from nerve.events.payload import encode_signal, printable
from nerve.events.redaction import redactor_of
from nerve.events.trigger import Trigger
from nerve.processes.messages import Run, RunResult
from nerve.runtime.context import SenseContext
from nerve.runtime.interruption import Interrupter, Reason
from nerve.runtime.loader import Compute
from nerve.runtime.tracebacks import ASYNCIO_FOLDER, describe_exception, format_traceback
from nerve.units import format_duration


def run_sense(
    run: Run,
    load: Callable[[str], Compute],
    context: Callable[[Trigger], SenseContext],
    interrupter: Interrupter,
    clock: Clock,
) -> RunResult:
    """Perform one run and return how it ended; nothing that a compute does or raises escapes from here.

    `load` returns the compute of a sense, and `context` makes the compute's argument for a decoded trigger.
    """
    started = clock.now()
    signal: str | None = None
    error: ErrorDetail | None = None
    out_of_memory = False
    try:
        signal = interrupter.run(lambda: _perform(run, load, context, interrupter), run.timeout)
    except BaseException as failure:  # noqa: BLE001 - SystemExit and the like are failures of the compute, too
        error, out_of_memory = _describe(failure), isinstance(failure, MemoryError)
    status, signal, error = _ending(run, interrupter.reason, signal, error)
    return RunResult(
        run_id=run.run_id,
        status=status,
        duration_ms=(clock.now() - started) * 1000,
        signal=signal,
        error=error,
        out_of_memory=out_of_memory,
    )


def _perform(
    run: Run, load: Callable[[str], Compute], context: Callable[[Trigger], SenseContext], interrupter: Interrupter
) -> str | None:
    """Take the steps of a run that are under its deadline; return its signal as JSON text."""
    compute = load(run.sense)
    trigger = _decoded(run.trigger)
    value = compute(context(trigger))
    if value is not None and inspect.isawaitable(value):
        value = _complete(value, interrupter)
    return None if value is None else encode_signal(value, run.max_payload, redactor_of(run.redact))


def _decoded(trigger: Trigger) -> Trigger:
    if trigger.signal is None:
        return trigger
    payload = msgspec.json.decode(trigger.signal.payload)
    return msgspec.structs.replace(trigger, signal=msgspec.structs.replace(trigger.signal, payload=payload))


def _complete(awaitable: Awaitable[Any], interrupter: Interrupter) -> object:
    """Run an asynchronous compute to its end and return its result."""
    try:
        with asyncio.Runner() as runner:
            delivery = _Delivery(runner.get_loop())
            interrupter.deliver = delivery.deliver
            return runner.run(delivery.supervise(awaitable))
    finally:
        interrupter.deliver = None


class _Delivery:
    """Delivers an interruption to an asynchronous compute through its event loop.

    Raised inside the loop itself, between two steps, it could make the loop lose a callback and wait forever.
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
        """Ask the loop to cancel the compute; return False if it was asked before, and `frame` is in a hanging task."""
        if self._loop.is_closed():
            return False
        if self._asked is None:
            self._asked = self._loop.call_soon_threadsafe(self._end_waiting)
            return True
        running = asyncio.current_task(self._loop)
        if self._done or running is None or not _is_in_code_of(running.get_coro(), frame):
            return True
        if running is self._compute:
            self._asked.cancel()  # the exception raised in the compute ends it anyway
        return False

    def _end_waiting(self) -> None:
        self._done = True
        if self._compute and not self._compute.done():
            self._compute.cancel()
        else:
            self._loop.stop()  # it is waiting for tasks and threads that the compute left behind


def _is_in_code_of(coroutine: object, frame: FrameType | None) -> bool:
    """Return True if `frame` belongs to `coroutine` or to a function that it called, and not to asyncio itself."""
    if frame is None or frame.f_code.co_filename.startswith(ASYNCIO_FOLDER):
        return False
    outermost = getattr(coroutine, "cr_frame", None)
    while frame is not None and frame is not outermost:
        frame = frame.f_back
    return frame is not None


def _ending(
    run: Run, reason: Reason | None, signal: str | None, error: ErrorDetail | None
) -> tuple[Status, str | None, ErrorDetail | None]:
    """Return the status, signal and error of a run; what an interrupted compute returned or raised doesn't count."""
    if reason == "stopped":
        return "cancelled", None, None
    if reason == "timeout":
        message = f"{run.sense} took longer than its timeout of {format_duration(run.timeout)}"
        traceback = error.traceback if error else None
        return "timeout", None, ErrorDetail("timeout", message, exception="TimeoutError", traceback=traceback)
    return "error" if error else "ok", signal, error


def _describe(failure: BaseException) -> ErrorDetail:
    match failure:
        case PayloadError():
            return quarantine("its signal", failure)
        case SenseLoadError():
            return ErrorDetail("sense_load", printable(str(failure)), traceback=failure.traceback)
        case _:
            return ErrorDetail(
                "compute",
                describe_exception(failure),
                exception=type(failure).__name__,
                traceback=format_traceback(failure),
            )
