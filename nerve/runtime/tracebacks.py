"""Texts of exceptions and tracebacks, limited in length, even if the exception's methods fail; inside a worker."""

from __future__ import annotations

import asyncio
import mmap
import os
import traceback
from itertools import dropwhile
from pathlib import Path

from nerve import version
from nerve.events.payload import valid_text

MAX_TRACEBACK_CHARS = 16 * 1024
MAX_MESSAGE_CHARS = 2 * 1024
_LEFT_OUT = "\n  ... the middle is left out ...\n"
RESERVE_BYTES = 1024 * 1024

_reserve = mmap.mmap(-1, RESERVE_BYTES)
"""Freed on MemoryError: formatting the traceback needs memory. The process ends after that run anyway."""

OWN_FOLDER = str(Path(version.__file__).parent) + os.sep
ASYNCIO_FOLDER = str(Path(asyncio.__file__).parent) + os.sep


def describe_exception(error: BaseException) -> str:
    """Return the type and text of an exception, at most MAX_MESSAGE_CHARS, even if its `__str__` fails."""
    try:
        text = str(error)
    except BaseException as broken:  # noqa: BLE001 - a user's __str__ may raise anything
        text = f"(its __str__ raises {type(broken).__name__})"
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return valid_text(text[:MAX_MESSAGE_CHARS])[:MAX_MESSAGE_CHARS]


def format_traceback(error: BaseException) -> str:
    """Return a traceback without nerve's own frames; above MAX_TRACEBACK_CHARS, only its beginning and its end."""
    if isinstance(error, MemoryError):
        _reserve.close()
    try:
        report = traceback.TracebackException.from_exception(error)
        _remove_own_frames(report)
        text = valid_text("".join(report.format()))
    except BaseException as broken:  # noqa: BLE001 - formatting calls the user's __str__ and __repr__
        text = f"(the traceback can't be formatted: {type(broken).__name__})"
    if len(text) <= MAX_TRACEBACK_CHARS:
        return text
    kept = MAX_TRACEBACK_CHARS - len(_LEFT_OUT)
    return text[: kept - kept // 2] + _LEFT_OUT + text[-(kept // 2) :]


def _remove_own_frames(report: traceback.TracebackException) -> None:
    """Remove the frames of nerve, and those of asyncio that lead to the compute, in the whole chain of exceptions."""
    waiting: list[traceback.TracebackException | None] = [report]
    while waiting:
        part = waiting.pop()
        if part is None:
            continue
        theirs = [frame for frame in part.stack if not frame.filename.startswith(OWN_FOLDER)]
        shown = list(dropwhile(lambda frame: frame.filename.startswith(ASYNCIO_FOLDER), theirs))
        if shown:
            part.stack = traceback.StackSummary.from_list(shown)
        waiting += [part.__cause__, part.__context__, *(part.exceptions or ())]
