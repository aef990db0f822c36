"""A writer whose turns a test takes, and what happens while it waits for its disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support.clock import FakeClock
from support.eventqueue import short_folder
from support.writer import A_WHILE, Stage

from nerve.workers.writer import DISK_RETRY_SECONDS


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A writer that has long been up, whose clock stands still."""
    with ExitStack() as stack:
        made = Stage(stack.enter_context(short_folder()), FakeClock(), stack)
        made.take_over_waiting()
        made.clock.time += A_WHILE
        yield made


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> list[Callable[[], object]]:
    """What happens between two attempts of the writer, pause by pause; each lets its time pass."""
    script: list[Callable[[], object]] = []

    def pause() -> None:
        stage.clock.time += DISK_RETRY_SECONDS
        if script:
            script.pop(0)()

    monkeypatch.setattr(stage.writer, "_pause", pause)
    return script
