"""Make terminal.svg, the picture in the README: a real engine runs for a while, and its log is queried.

    .venv/bin/python docs/images/terminal.py

The workspace is the one that `nerve init` makes, with one more sense, which fails. Everything in the picture is what
the commands print at a terminal of 100 columns.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS = 100
SHOWN = 10
PICTURE = Path(__file__).with_suffix(".svg")
NERVE = str(Path(sys.executable).with_name("nerve"))

FAILING_SENSE = '''"""Whether the uplink has a carrier."""

from pathlib import Path

CARRIER = Path("/sys/class/net/uplink0/carrier")


def compute(ctx):
    if not CARRIER.exists():
        raise RuntimeError("no such device: uplink0")
    ctx.log("reading", {"carrier": CARRIER.read_text().strip() == "1"})
'''
CONFIG = """
senses:
  cpu:
  memory:
  pressure:
    throttle: 5s
  uplink:
    throttle: 5s
reflexes:
  - {sense: cpu, interval: 2s}
  - {sense: memory, interval: 5s}
  - {sense: pressure, on: [cpu]}
  - {sense: uplink, on: [cpu]}
"""
# Rich's own template loads a font from the network, which a picture inside a page may not do.
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
    font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
    font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
<rect x="1" y="1" width="{width}" height="{height}" rx="8" fill="#0c0c0c"/>
<g transform="translate({terminal_x}, 16)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def at_terminal(arguments: list[str], home: Path) -> str:
    """Return what a nerve command prints at a terminal, with its colours."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, COLUMNS))
    environment = os.environ | {"NERVE_HOME": str(home), "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen([NERVE, *arguments], stdout=theirs, env=environment)
    os.close(theirs)
    output = b""
    with suppress(OSError):  # Linux reports the end of a terminal as an I/O error
        while data := os.read(ours, 65536):
            output += data
    os.close(ours)
    assert process.wait() == 0, f"nerve {' '.join(arguments)} failed"
    return output.decode().replace("\r\n", "\n")


def entries(home: Path) -> list[dict[str, Any]]:
    """Return the entries of the log, oldest first."""
    query = [NERVE, "--home", str(home), "logs", "--json"]
    return [json.loads(line) for line in subprocess.run(query, check=True, capture_output=True).stdout.splitlines()]


def wait_for_failure(home: Path) -> str:
    """Wait until one signal has run `pressure` and `uplink`; return the last digits of the run that failed."""
    for _ in range(600):
        last = entries(home)[-SHOWN:]
        causes = {e["ref_id"]: e["payload"]["cause"] for e in last if e["type"] == "run_start"}
        ended, cause = last[-1]["ref_id"], causes.get(last[-1]["ref_id"])
        if ended.startswith("uplink/") and cause and list(causes.values()).count(cause) == 2:
            return str(ended[-6:])
        time.sleep(0.1)
    raise RuntimeError("no such signal within a minute")


def session(home: Path) -> str:
    """Return a session at the terminal: each prompt with its command, and what that prints."""
    failed = wait_for_failure(home)
    commands = [["logs", "-n", str(SHOWN)], ["trace", failed], ["status"]]
    return "\n".join(f"\x1b[1;32m$\x1b[0m \x1b[1mnerve {' '.join(c)}\x1b[0m\n{at_terminal(c, home)}" for c in commands)


def main() -> None:
    """Run the engine and draw the picture."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "demo")
        subprocess.run([NERVE, "init", "--quiet", str(home)], check=True)
        (home / "senses" / "uplink.py").write_text(FAILING_SENSE)
        (home / "nerve.yaml").write_text(CONFIG)
        engine = subprocess.Popen(
            [NERVE, "--home", str(home), "start", "--workers", "2"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(12)
            text = session(home)
        finally:
            engine.terminate()
            engine.wait()
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS + 4, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text.from_ansi(text), end="")
        PICTURE.write_text(console.export_svg(title="", theme=MONOKAI, code_format=SVG, unique_id="terminal"))


if __name__ == "__main__":
    main()
