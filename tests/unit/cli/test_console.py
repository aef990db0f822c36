"""Where a command prints: views and colours of terminals and pipes."""

from __future__ import annotations

import io
from datetime import UTC

import pytest

from nerve.cli.console import UNLIMITED_WIDTH, View, console_for, styled, view_of, wants_colour


class Stream(io.StringIO):
    """A terminal or a pipe."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        """Return True for a terminal."""
        return self._terminal


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Describe a terminal of 90 columns that has colours."""
    for name, value in {"TERM": "xterm", "COLUMNS": "90", "NO_COLOR": ""}.items():
        monkeypatch.setenv(name, value)


def test_a_terminal_has_colours_and_a_width() -> None:
    """The UTC offset is shown only if times are in UTC."""
    assert view_of(Stream(terminal=True), UTC) == View(UTC, offset=False, width=90, colour=True)
    assert view_of(Stream(terminal=True), UTC, utc=True).offset


def test_a_pipe_has_neither() -> None:
    """Text in a pipe is complete and plain."""
    assert view_of(Stream(terminal=False), UTC) == View(UTC, offset=True, width=None, colour=False)
    assert console_for(View(UTC)).width == UNLIMITED_WIDTH


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_color_and_dumb_terminals_turn_colours_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Text that is styled for such a terminal stays as it is."""
    terminal = Stream(terminal=True)
    assert styled("x", terminal, fg="red") == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv(name, value)
    assert not wants_colour(terminal)
    assert styled("x", terminal, fg="red", bold=True) == "x"
    assert console_for(view_of(terminal, UTC)).color_system is None
