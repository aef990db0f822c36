"""Durations and sizes: what is accepted, what is refused with which message, and that both directions agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.units import format_duration, format_size, parse_duration, parse_size

HUNDRED_YEARS_MS = 36500 * 86_400_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("5m", 300),
        ("2h", 7200),
        ("30d", 2_592_000),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 1.5s ", 1.5),
        ("1m1ms", 60.001),
        ("10", 10),
        ("0.1", 0.1),
        (10, 10),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_read_as_seconds(text: str | float, seconds: float) -> None:
    """Each unit, sums and bare numbers are converted exactly."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "ten", "10 parsecs", "s", "1h30", "30 1h", "-5s", "+5s", "1e3", "1:30", "5M", "\u0663s", ".5s", "1..5s",
     "9" * 5000, True, float("nan"), float("inf")],
)  # fmt: skip
def test_an_invalid_duration_is_refused_with_examples(text: str | float) -> None:
    """The message is one short line that shows how to write a duration."""
    with pytest.raises(ValueError, match=r"is not a duration: write it as 500ms, .* or 1h30m$") as refusal:
        parse_duration(text)
    assert len(str(refusal.value)) < 160


@pytest.mark.parametrize("text", ["0", "0s", "0h0m", 0, 0.0])
def test_zero_is_a_duration_only_if_it_is_allowed(text: str | float) -> None:
    """In any form it is refused by default, and 0.0 if it is allowed."""
    with pytest.raises(ValueError, match="more than 0"):
        parse_duration(text)
    assert parse_duration(text, allow_zero=True) == 0.0


def test_a_duration_out_of_range_is_refused_with_the_bound() -> None:
    """It is not negative, and not longer than 36500 days."""
    with pytest.raises(ValueError, match="not negative"):
        parse_duration(-1, allow_zero=True)
    with pytest.raises(ValueError, match="at most 36500d"):
        parse_duration("36501d")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.00025, "0.25ms"),
        (0.009_999_9, "10ms"),
        (0.25, "250ms"),
        (0.9999, "1s"),
        (1.5, "1.5s"),
        (59.9999, "1m"),
        (90, "1m30s"),
        (5400, "1h30m"),
        (90_061.5, "1d1h1m1.5s"),
        (2_592_000, "30d"),
    ],
)
def test_a_duration_is_formatted_with_the_units_that_count(seconds: float, text: str) -> None:
    """Units that would be 0 are left out, and rounding carries over into the next one."""
    assert format_duration(seconds) == text


@given(st.integers(1, HUNDRED_YEARS_MS))
def test_whole_milliseconds_survive_formatting_and_parsing(ms: int) -> None:
    """They come back exactly."""
    assert parse_duration(format_duration(ms / 1000)) == ms / 1000


@given(st.floats(1e-5, 36499 * 86400.0))
def test_any_duration_survives_formatting_and_parsing_to_the_millisecond(seconds: float) -> None:
    """Formatting rounds by half a millisecond at most."""
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-9, abs=0.000_501)


@given(st.text() | st.text("0123456789.smhd "))
def test_any_text_is_a_positive_duration_or_refused(text: str) -> None:
    """No other exception is raised."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert seconds > 0


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KB", 65536),
        ("64kb", 65536),
        ("64K", 65536),
        ("64Ki", 65536),
        ("1MB", 1024**2),
        ("10MiB", 10 * 1024**2),
        ("1.5 GB", 1536 * 1024**2),
        ("2TB", 2 * 1024**4),
        ("512B", 512),
        ("512", 512),
        (512, 512),
    ],
)
def test_a_size_is_read_as_bytes(text: str | int, size: int) -> None:
    """Units are powers of 1024, in either spelling and case; a bare number is bytes."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KB", "big", "-1KB", "64 XB", "5iB", "1e6", "1_000", "9" * 5000, True, -1])
def test_an_invalid_size_is_refused_with_examples(text: str | int) -> None:
    """The message is one short line that shows how to write a size."""
    with pytest.raises(ValueError, match=r"is not a size: write it as 512B, .*bytes$") as refusal:
        parse_size(text)
    assert len(str(refusal.value)) < 160


@pytest.mark.parametrize("text", ["0", "0KB", "0.5B", 0])
def test_a_size_is_at_least_one_byte(text: str | int) -> None:
    """Zero and fractions of a byte are refused."""
    with pytest.raises(ValueError, match="at least 1B"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1KB"), (1536, "1.5KB"), (1024**2 - 1, "1MB"), (53_123_072, "50.7MB"),
     (1024**4, "1TB"), (5000 * 1024**4, "5000TB")],
)  # fmt: skip
def test_a_size_is_formatted_in_the_largest_unit_that_fits(size: int, text: str) -> None:
    """Rounding carries over into the next unit."""
    assert format_size(size) == text


@given(st.integers(1, 1023), st.sampled_from([1, 1024, 1024**2, 1024**3, 1024**4]))
def test_whole_sizes_survive_formatting_and_parsing(amount: int, unit: int) -> None:
    """A whole number of any unit comes back exactly."""
    assert parse_size(format_size(amount * unit)) == amount * unit


@given(st.integers(1, 2**60))
def test_any_size_survives_formatting_and_parsing_to_one_decimal(size: int) -> None:
    """Only the digits that are not shown are lost, and nothing more the second time."""
    again = parse_size(format_size(size))
    assert again == pytest.approx(size, rel=0.051)
    assert format_size(again) == format_size(size)
