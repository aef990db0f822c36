"""How far an archiver is, for a terminal and for a file."""

from __future__ import annotations

import io
import sys

import pytest

from nerve.cli.progress import LINE_SECONDS, LineProgress, describe, shown_progress, steps_done
from nerve.ipc.progress import ArchiveProgress

HALF = ArchiveProgress("2026-11-20", archived=300, deleted=100, due=400)


class Terminal(io.StringIO):
    """A terminal, which keeps what is written to it."""

    def isatty(self) -> bool:
        """Be one."""
        return True


def test_each_row_takes_two_steps() -> None:
    """It is archived, and deleted."""
    assert steps_done(HALF) == 400
    assert describe(HALF) == "2026-11-20: archived 300, deleted 100 of 400 entries"


def test_a_file_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """Not before the first interval is over, so that what is quick passes in silence."""
    moments = iter([0.0, 1.0, LINE_SECONDS, LINE_SECONDS, LINE_SECONDS + 1, 3 * LINE_SECONDS, 3 * LINE_SECONDS])
    progress = LineProgress(lambda: next(moments))
    progress(HALF)
    assert capsys.readouterr().err == ""
    progress(HALF)
    assert capsys.readouterr().err == f"nerve: {describe(HALF)}, 50%\n"
    progress(HALF)
    assert capsys.readouterr().err == ""
    progress(ArchiveProgress("2026-11-20", 0, 0, 0))
    assert capsys.readouterr().err.endswith(", 0%\n")


def test_a_pipe_is_no_terminal() -> None:
    """Which of the two it is, stderr tells."""
    with shown_progress() as progressed:
        assert isinstance(progressed, LineProgress)


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, colour: bool) -> None:
    """It is taken away in the end; colours are left out for who wants none."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("NO_COLOR", "" if colour else "1")
    with shown_progress() as progressed:
        progressed(HALF)
    shown = terminal.getvalue()
    assert describe(HALF)[:10] in shown
    assert "50%" in shown
    assert shown.endswith("\x1b[2K")
