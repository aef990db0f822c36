"""A wake-up is never lost and never blocks, whatever the system makes it of."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from nerve.eventqueue import Wakeup


@pytest.fixture(params=[sys.platform, "darwin"], ids=["as here", "by a pipe"])
def wakeup(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wakeup]:
    """A wake-up, made as this system does it, and as one without eventfd."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", request.param)
        made = Wakeup()
    with closing(made):
        yield made


def is_readable(wakeup: Wakeup) -> bool:
    """Return True if a writer that waits would be woken."""
    return bool(select.select([wakeup], [], [], 0)[0])


def test_it_is_readable_from_the_first_send_until_it_is_cleared(wakeup: Wakeup) -> None:
    """Several sends are one wake-up."""
    assert not is_readable(wakeup)
    for _ in range(3):
        wakeup.send()
    assert is_readable(wakeup)
    wakeup.clear()
    assert not is_readable(wakeup)
    wakeup.clear()
    wakeup.send()
    assert is_readable(wakeup)


def test_a_send_never_blocks(wakeup: Wakeup) -> None:
    """However long the writer does not look."""
    for _ in range(100_000):
        wakeup.send()
    while is_readable(wakeup):
        wakeup.clear()


def test_a_send_after_the_descriptors_were_closed_is_ignored() -> None:
    """A compute may have closed everything it found: what it has published is published all the same."""
    wakeup = Wakeup()
    wakeup.close()
    wakeup.send()


def test_children_that_run_another_program_do_not_inherit_it(wakeup: Wakeup) -> None:
    """A program that a compute starts has no part in it."""
    assert not os.get_inheritable(wakeup.reading)
    assert not os.get_inheritable(wakeup.writing)
