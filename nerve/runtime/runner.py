"""Performing one run of a sense under its deadline; inside a worker."""

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
from nerve.events.payload import encode_payload, printable
from nerve.events.redaction import redactor_of
from nerve.events.trigger import Trigger
from nerve.processes.messages import Run, RunResult
from nerve.runtime.context import SenseContext
from nerve.runtime.interruption import Interrupter
from nerve.runtime.loader import SenseLoader
from nerve.runtime.tracebacks import ASYNCIO_FOLDER, describe_exception, format_traceback
from nerve.units import format_duration


def run_sense(
    run: Run, loader: SenseLoader, context: Callable[[Trigger], SenseContext], interrupter: Interrupter, clock: Clock
) -> RunResult:
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
    return RunResult(
        run_id=run.run_id,
        status=status,
        duration_ms=(clock.now() - started) * 1000,
        signal=signal,
        error=error,
        out_of_memory=spent,
    )


def _signal(
    run: Run, loader: SenseLoader, context: Callable[[Trigger], SenseContext], interrupter: Interrupter
) -> str | None:
    """Run the compute, and give the signal that it returns as JSON text; all of this is under its deadline."""
    compute = loader.load(run.sense)
    result = compute(context(_decoded(run.trigger)))
    if result is not None and inspect.isawaitable(result):
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
    if frame is None or frame.f_code.co_filename.startswith(ASYNCIO_FOLDER):
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
    traceback = error.traceback if error else None
    return "timeout", None, ErrorDetail("timeout", message, exception="TimeoutError", traceback=traceback)


def _failure(failure: BaseException) -> ErrorDetail:
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
