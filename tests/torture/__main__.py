"""Runs the scenarios: `scripts/torture --list`, `--only NAME`, `--rounds N`, `--seed S`, `--short`."""

from __future__ import annotations

import random
import signal
import sys
import time

import click
from rich.console import Console
from support.engine import Engine
from support.verdict import Verdict

from torture import clocks, computes, lanes, processes, readers, reloads, soak, storage, together
from torture.scenario import Scenario, Skipped

MODULES = (processes, together, lanes, computes, storage, clocks, readers, reloads, soak)
SCENARIOS: dict[str, Scenario] = {
    found.name: found for module in MODULES for found in vars(module).values() if isinstance(found, Scenario)
}
HEADER = f"{'scenario':<18} {'result':<8} {'sent':>8} {'lost':>5} {'double':>6} {'kills':>5} {'stall ms':>8} {'s':>5}"


def run(scenario: Scenario, seed: int, *, short: bool) -> tuple[str, Verdict]:
    """Run one scenario in its own workspace; return its line of the table, and its verdict."""
    verdict, engine = Verdict(), Engine()
    began = time.monotonic()
    try:
        scenario.run(engine, random.Random(seed), verdict, short=short)
        result = "ok" if verdict.ok else "FAILED"
    except Skipped as reason:
        result = "skipped"
        verdict.notes.append(str(reason))
    except Exception as error:  # noqa: BLE001 - a scenario that raises has failed
        result = "FAILED"
        verdict.wrong.append(f"{type(error).__name__}: {error}")
    finally:
        left = [process.pid for process in engine.processes()] if engine.process else []
        if left:
            result = "FAILED"
            verdict.wrong.append(f"processes are left behind: {left}")
        engine.destroy()
    seconds = time.monotonic() - began
    line = (
        f"{scenario.name:<18} {result:<8} {verdict.sent:>8} {verdict.lost:>5} {verdict.duplicated:>6} "
        f"{verdict.kills:>5} {verdict.stall_ms:>8.0f} {seconds:>5.1f}"
    )
    return line, verdict


@click.command()
@click.option("--list", "list_them", is_flag=True, help="Name the scenarios.")
@click.option("--only", multiple=True, type=click.Choice(list(SCENARIOS)), help="Only these; may be given again.")
@click.option("--rounds", default=1, show_default=True, help="How often, each time with another seed.")
@click.option("--seed", type=int, help="For the same random choices again; default: a new one.")
@click.option("--short", is_flag=True, help="The version that the tests run: all scenarios in under a minute.")
def torture(list_them: bool, only: tuple[str, ...], rounds: int, seed: int | None, short: bool) -> None:
    r"""Break a real engine while it runs, then check its log; the exit code is 1 if anything is lost.

    \b
    Example:
      scripts/torture --only writer --rounds 3
    """
    # In a background job of a shell, SIGINT is ignored, and every process below would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    console = Console(highlight=False)
    if list_them:
        for scenario in SCENARIOS.values():
            console.print(f"{scenario.name:<18} {scenario.what}")
        return
    first = seed if seed is not None else random.SystemRandom().randrange(1_000_000)
    failed = 0
    for number in range(first, first + rounds):
        console.print(f"seed {number}\n{HEADER}")
        for name in only or SCENARIOS:
            line, verdict = run(SCENARIOS[name], number, short=short)
            console.print(line, style=None if "FAILED" not in line else "red")
            for text in (*verdict.wrong, *verdict.notes):
                console.print(f"    {text}")
            failed += "FAILED" in line
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    torture()
