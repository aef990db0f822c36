"""Progress of a long command: lines for a pipe, a bar for a terminal."""

from __future__ import annotations

import io
import sys

import click
import pytest

from nerve.cli.progress import LINE_SECONDS, ProgressLines, show_progress


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_a_pipe_gets_a_line_per_interval_and_none_before_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that takes less than LINE_SECONDS prints no progress at all."""
    times = iter([0.0, LINE_SECONDS - 0.1, LINE_SECONDS, 2 * LINE_SECONDS - 0.1, 2 * LINE_SECONDS + 0.5, 16.0])
    report = ProgressLines("checking", lambda: next(times))
    for done in (1, 2, 3, 4):
        report("entries", done, 8)
    report("database", 0, 0)
    assert capsys.readouterr().err.splitlines() == [
        "nerve: checking entries: 25%",
        "nerve: checking entries: 50%",
        "nerve: checking database ...",
    ]


def test_stderr_that_is_not_a_terminal_gets_lines() -> None:
    """A bar needs a terminal that can redraw a line."""
    with show_progress("checking") as report:
        assert isinstance(report, ProgressLines)


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_gets_a_bar_that_is_erased_at_the_end(monkeypatch: pytest.MonkeyPatch, no_color: str) -> None:
    """The bar shows the item and the percentage; with NO_COLOR it has no colours."""
    for name, value in {"TERM": "xterm", "COLUMNS": "150", "NO_COLOR": no_color}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with show_progress("checking") as report:
        report("entries", 1, 4)
    output = terminal.getvalue()
    assert "checking entries" in click.unstyle(output)
    assert "25%" in output
    assert output.endswith("\x1b[2K")
    assert ("\x1b[38;" in output or "\x1b[35m" in output) == (not no_color)
