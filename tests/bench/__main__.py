"""Runs the measurements: `scripts/bench --list`, `--only NAME`, `--quick`, `--seed S`, `--output DIR`."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from bench import archiveday, archiving, commands, computes, idle, ingest, latency, plots, queries
from bench.lab import Lab
from bench.machine import this_machine
from bench.measurement import Measurement
from bench.report import Report, to_json, to_markdown, to_text
from bench.results import Found

MODULES = (ingest, computes, latency, idle, queries, commands, archiving, archiveday)
MEASUREMENTS: dict[str, Measurement] = {
    found.name: found for module in MODULES for found in vars(module).values() if isinstance(found, Measurement)
}


@click.command()
@click.option("--list", "list_them", is_flag=True, help="Name the measurements.")
@click.option("--only", multiple=True, type=click.Choice(list(MEASUREMENTS)), help="Only these; may be given again.")
@click.option("--quick", is_flag=True, help="Small sizes: all of it in under two minutes, and rougher.")
@click.option("--seed", type=int, help="For the same order of the measurements again; default: a new one.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/bench"),
    show_default=True,
    help="Where bench.json, bench.md and the plots go; `docs` for those that are published.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("/tmp"),
    show_default=True,
    help="On the file system to be measured; a short path, for sockets are made there.",
)
def bench(list_them: bool, only: tuple[str, ...], quick: bool, seed: int | None, output: Path, folder: Path) -> None:
    r"""Measure nerve beside alternatives and beside the physical limit, and print a table of ratios.

    Let the machine do nothing else meanwhile. Ends 1 when a measurement fails, not when a goal is missed.

    \b
    Example:
      scripts/bench --quick --only ingest
      scripts/bench --output docs
    """
    # In a background job of a shell, SIGINT is ignored, and every process below would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if list_them:
        for measurement in MEASUREMENTS.values():
            click.echo(f"{measurement.name:<16} {measurement.what}")
        return
    chosen = [MEASUREMENTS[name] for name in only or MEASUREMENTS]
    report = measure(chosen, folder, quick=quick, seed=random.SystemRandom().randrange(10**6) if seed is None else seed)
    publish(report, output)
    sys.exit(1 if report.failures else 0)


def measure(chosen: list[Measurement], folder: Path, *, quick: bool, seed: int) -> Report:
    """Run measurements in an order that depends on the seed, each in its own folder; print the current one."""
    found: dict[str, Found] = {}
    failures: dict[str, str] = {}
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    for measurement in random.Random(seed).sample(chosen, len(chosen)):
        began = time.monotonic()
        home = Path(tempfile.mkdtemp(prefix="nb-", dir=folder))
        try:
            found[measurement.name] = measurement.run(Lab(home, quick=quick, seed=seed))
        except Exception as error:  # noqa: BLE001 - the other measurements still count
            failures[measurement.name] = f"{type(error).__name__}: {error}"
        finally:
            shutil.rmtree(home, ignore_errors=True)
        result = "FAILED" if measurement.name in failures else "done"
        click.echo(f"{measurement.name:<16} {result:<6} {time.monotonic() - began:6.1f} s", err=True)
    return Report(
        date=date,
        machine=this_machine(folder),
        quick=quick,
        seed=seed,
        measurements={m.name: found[m.name] for m in chosen if m.name in found},
        failures=failures,
    )


def publish(report: Report, output: Path) -> None:
    """Print the table; write it, all samples and the plots to a folder, which is created if it is missing."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "bench.json").write_bytes(to_json(report))
    (output / "bench.md").write_text(to_markdown(report))
    drawn = plots.draw(report, output)
    click.echo(f"\n{to_text(report)}")
    files = [output / "bench.json", output / "bench.md", *drawn]
    click.echo(f"written: {', '.join(map(str, files))}", err=True)


if __name__ == "__main__":
    bench()
