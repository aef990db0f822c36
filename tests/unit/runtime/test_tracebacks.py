"""What is told of an exception: bounded, and whatever its own methods do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from nerve.events.payload import encode_payload
from nerve.runtime.tracebacks import MAX_MESSAGE_CHARS, MAX_TRACEBACK_CHARS, describe_exception, format_traceback


def raised(function: Callable[[], object]) -> BaseException:
    """Give what a function raises."""
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - what it raises is what is described
        return error
    raise AssertionError("it raised nothing")


def odd(text: Callable[[], object]) -> Exception:
    """Make an exception whose own methods do what they like."""

    class Odd(Exception):  # noqa: N818 - it is its name that is expected below
        def __str__(self) -> str:
            return text()  # type: ignore[return-value]  # that is what is odd about it

        __repr__ = __str__

    return Odd()


def raising(error: BaseException) -> Callable[[], object]:
    """Make a function that raises this."""

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
def test_an_exception_is_its_name_and_its_words(error: BaseException, text: str) -> None:
    """As the last line of a traceback has it, without the module's name."""
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
def test_any_words_of_an_exception_make_a_bounded_message(text: Callable[[], object], expected: str) -> None:
    """They may raise, lie, be huge, or be no valid Unicode; what is told of them can always be stored."""
    error = raised(raising(odd(text)))
    assert describe_exception(error).startswith(expected)
    assert len(describe_exception(error)) <= MAX_MESSAGE_CHARS
    assert "Odd" in format_traceback(error)
    assert len(format_traceback(error)) <= MAX_TRACEBACK_CHARS
    encode_payload([describe_exception(error), format_traceback(error)])


def test_a_recursion_without_end_is_cut_to_its_start_and_its_end() -> None:
    """What is in the middle of it is the same over and over."""

    def even(n: int) -> int:
        return uneven(n + 1)

    def uneven(n: int) -> int:
        return even(n + 1)

    text = format_traceback(raised(lambda: even(0)))
    assert text.startswith("Traceback")
    assert "RecursionError" in text.splitlines()[-1]
    assert "the middle is left out" in text
    assert len(text) == MAX_TRACEBACK_CHARS


def test_a_traceback_shows_where_a_chain_began_and_ended() -> None:
    """Causes and contexts are part of it."""

    def chain() -> None:
        try:
            try:
                raise KeyError("disk")  # noqa: TRY301 - one function is one frame
            except KeyError:
                raise ValueError("in between")  # noqa: B904 - the context is what this is about
        except ValueError as error:
            raise RuntimeError("in the end") from error

    text = format_traceback(raised(chain))
    assert text.index("KeyError") < text.index("ValueError: in between") < text.index("RuntimeError: in the end")
    assert "direct cause" in text
    assert "During handling" in text


def test_chains_of_any_length_and_shape_are_told() -> None:
    """A thousand contexts, groups in groups, and causes in a circle all make a bounded traceback."""
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


def test_what_leads_to_an_asynchronous_compute_is_left_out() -> None:
    """The first line that is shown is one that the user wrote; what it has called of asyncio stays."""

    async def late() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(1)

    def run() -> None:
        asyncio.run(late())

    text = format_traceback(raised(run)).split("direct cause")[-1]
    assert text.index("in run") < text.index("in late")
    assert "TimeoutError" in text


def test_frames_of_nerve_are_left_out_in_the_whole_chain(tmp_path: Path) -> None:
    """Of ours there is nothing to mend; where there is no other line, the traceback is left whole."""

    def compute() -> None:
        try:
            encode_payload(float("nan"))
        except Exception as error:
            raise ValueError("mine") from error

    text = format_traceback(raised(compute))
    assert "nerve/events/payload.py" not in text.split("direct cause")[1]
    assert "in compute" in text
