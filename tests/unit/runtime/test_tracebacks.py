"""Texts of exceptions and tracebacks: limited in length, and without nerve's frames, whatever the exception does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from nerve.events.payload import encode_payload
from nerve.runtime.tracebacks import MAX_MESSAGE_CHARS, MAX_TRACEBACK_CHARS, describe_exception, format_traceback


def raised(function: Callable[[], object]) -> BaseException:
    """Return the exception that a function raises."""
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - any exception is to be described
        return error
    raise AssertionError("no exception was raised")


def odd(text: Callable[[], object]) -> Exception:
    """Return an exception whose `__str__` and `__repr__` are this function."""

    class Odd(Exception):  # noqa: N818 - the tests expect this name
        def __str__(self) -> str:
            return text()  # type: ignore[return-value]  # a wrong type is one of the cases

        __repr__ = __str__

    return Odd()


def raising(error: BaseException) -> Callable[[], object]:
    """Return a function that raises this."""

    def function() -> object:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("too hot"), "ValueError: too hot"),
        (ValueError(), "ValueError"),
        (KeyError("disk"), "KeyError: 'disk'"),
        (SystemExit(3), "SystemExit: 3"),
        (ExceptionGroup("all", [ValueError()]), "ExceptionGroup: all (1 sub-exception)"),
    ],
)
def test_a_description_is_the_type_and_text_of_the_exception(error: BaseException, text: str) -> None:
    """It is the last line of a traceback, without the module's name."""
    assert describe_exception(error) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (raising(ValueError()), "Odd: (its __str__ raises ValueError)"),
        (raising(SystemExit()), "Odd: (its __str__ raises SystemExit)"),
        (raising(KeyboardInterrupt()), "Odd: (its __str__ raises KeyboardInterrupt)"),
        (lambda: 3, "Odd: (its __str__ raises TypeError)"),
        (lambda: "", "Odd"),
        (lambda: "caf\udce9", "Odd: caf\\udce9"),
        (lambda: "x" * 10_000_000, f"Odd: {'x' * MAX_MESSAGE_CHARS}"[:MAX_MESSAGE_CHARS]),
        (lambda: "\ud800" * 10_000_000, "Odd: \\ud800"),
    ],
)
def test_any_text_of_an_exception_results_in_a_storable_description(text: Callable[[], object], expected: str) -> None:
    """Its `__str__` may raise, return another type, or a text that is huge or invalid Unicode."""
    error = raised(raising(odd(text)))
    assert describe_exception(error).startswith(expected)
    assert len(describe_exception(error)) <= MAX_MESSAGE_CHARS
    assert "Odd" in format_traceback(error)
    assert len(format_traceback(error)) <= MAX_TRACEBACK_CHARS
    encode_payload([describe_exception(error), format_traceback(error)])


def test_the_traceback_of_an_endless_recursion_keeps_its_beginning_and_end() -> None:
    """The middle, which repeats itself, is left out."""

    def even(n: int) -> int:
        return uneven(n + 1)

    def uneven(n: int) -> int:
        return even(n + 1)

    text = format_traceback(raised(lambda: even(0)))
    assert text.startswith("Traceback")
    assert "RecursionError" in text.splitlines()[-1]
    assert "the middle is left out" in text
    assert len(text) == MAX_TRACEBACK_CHARS


def test_a_traceback_has_the_causes_and_contexts_of_its_exception() -> None:
    """They are in the order in which they were raised."""

    def chain() -> None:
        try:
            try:
                raise KeyError("disk")  # noqa: TRY301 - one function is one frame
            except KeyError:
                raise ValueError("in between")  # noqa: B904 - the test needs a context, not a cause
        except ValueError as error:
            raise RuntimeError("in the end") from error

    text = format_traceback(raised(chain))
    assert text.index("KeyError") < text.index("ValueError: in between") < text.index("RuntimeError: in the end")
    assert "direct cause" in text
    assert "During handling" in text


def test_a_chain_of_any_length_and_shape_results_in_a_limited_traceback() -> None:
    """Thousands of contexts, nested groups, and a circle of causes are survived."""
    error = ValueError("first")
    for n in range(2000):
        following = ValueError(n)
        following.__context__ = error
        error = following
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [error, KeyError("x")])])
    circle = RuntimeError("circle")
    circle.__cause__ = group
    group.__cause__ = circle
    assert 0 < len(format_traceback(circle)) <= MAX_TRACEBACK_CHARS


def test_frames_of_asyncio_before_an_asynchronous_compute_are_left_out() -> None:
    """The first frame is the user's; those of asyncio that it called stay."""

    async def late() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(1)

    def run() -> None:
        asyncio.run(late())

    text = format_traceback(raised(run)).split("direct cause")[-1]
    assert text.index("in run") < text.index("in late")
    assert "TimeoutError" in text


def test_frames_of_nerve_are_left_out_unless_there_are_no_others(tmp_path: Path) -> None:
    """The user can't fix them; but each exception of the chain keeps at least one frame."""

    def compute() -> None:
        try:
            encode_payload(float("nan"))
        except Exception as error:
            raise ValueError("mine") from error

    text = format_traceback(raised(compute))
    assert "nerve/events/payload.py" not in text.split("direct cause")[1]
    assert "in compute" in text
