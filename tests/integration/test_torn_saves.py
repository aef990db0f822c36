"""Files seen between their truncation and their last byte: what is half saved is never put in force."""

from __future__ import annotations

import time
from pathlib import Path

from support.engine import Engine
from support.versions import check_audit_trail, said, saying, until_said
from support.waiting import pause

CONFIG = (
    "workers: 2\nsenses: {user: {}, other: {}}\nreflexes: [{sense: user, interval: 50ms}, {sense: other, on: [user]}]\n"
)
SAVING_SECONDS = 4.0


def save_slowly(path: Path, text: str, gap: float) -> None:
    """Save as most programs do, in two steps; `gap` seconds lie between them, as on a busy machine."""
    with path.open("w") as file:
        pause(gap)
        file.write(text)


def test_an_empty_configuration_removes_nothing(engine: Engine) -> None:
    """A nerve.yaml that is empty for a moment is a problem, not a wish to have no senses; the beat goes on."""
    engine.config(CONFIG)
    engine.sense("user", saying(1))
    engine.sense("other", saying(1))
    engine.start()
    until_said(engine, "user", 1)
    save_slowly(engine.home / "nerve.yaml", CONFIG, gap=0.3)
    runs = len(said(engine, "user"))
    engine.until(lambda: len(said(engine, "user")) > runs + 3, "runs go on")
    changes = [change for entry in engine.reloads() for change in entry.payload.get("changes", [])]
    assert changes == []


def test_a_broken_sense_keeps_its_version_through_a_save_of_the_configuration(engine: Engine) -> None:
    """The version that works stays in force, though nerve.yaml is saved while the sense's file is broken."""
    engine.config(CONFIG)
    engine.sense("user", saying(1))
    engine.sense("other", saying(1))
    engine.start()
    until_said(engine, "user", 1)
    engine.sense("user", "def compute(ctx)\n")
    engine.until_reload("user", 0, ok=False)
    save_slowly(engine.home / "nerve.yaml", CONFIG, gap=0.3)
    pause(0.3)
    runs = len(said(engine, "user"))
    engine.until(lambda: len(said(engine, "user")) > runs + 3, "the version that works runs on", timeout=5)
    assert engine.errors() == []
    check_audit_trail(engine, "user")


def test_a_helper_that_is_saved_again_and_again_fails_no_run(engine: Engine) -> None:
    """An empty module is good Python: it must not be taken for the helper that is about to be written."""
    engine.config("workers: 2\nsenses: {user: {}}\nreflexes: [{sense: user, interval: 20ms}]\n")
    path = engine.helper("x.py", "VALUE = 0\n")
    engine.sense("user", "from x import VALUE\ndef compute(ctx):\n    ctx.log('version', {'v': VALUE})\n")
    engine.start()
    until_said(engine, "user", 0)
    number = 0
    end = time.monotonic() + SAVING_SECONDS
    while time.monotonic() < end:
        number += 1
        save_slowly(path, f"VALUE = {number}\n", gap=0.002)
        pause(0.02)
    until_said(engine, "user", number)
    assert engine.stop() == 0
    assert engine.errors() == []
    check_audit_trail(engine, "user")
