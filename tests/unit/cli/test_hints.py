"""Hints on queries that find nothing: typos in names and values, and entries that are in the archive."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import Command, Write
from support.entries import NOON, completed, event, started

from nerve.cli.hints import archive_hint, query_hints
from nerve.store.archive.manifest import ManifestEntry
from nerve.store.filters import Filter, parse_matches
from nerve.store.table.known_names import KnownNames
from nerve.store.table.reader import LogReader
from nerve.store.table.table_stats import Pair

NAMES = KnownNames(
    (Pair("reflex", "run_start"), Pair("sense", "reading"), Pair("sense", "summary")), ("cpu", "tick", "0" * 32)
)
SENSES = ("cpu", "tick", "disk-usage")


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        (Filter(sense="tcik"), "no entry of a sense 'tcik': did you mean 'tick'?"),
        (Filter(sense="disk_usage"), "no entry of a sense 'disk_usage': did you mean 'disk-usage'?"),
        (Filter(source="sens"), "no entry of a source 'sens': did you mean 'sense'?"),
        (Filter(type="readng"), "no entry of a type 'readng': did you mean 'reading'?"),
        (Filter(source="reflex", type="readng"), "no entry of a type 'readng': known are run_start"),
        (Filter(sense="zzz"), "no entry of a sense 'zzz': known are cpu, disk-usage, tick"),
        (Filter(ref_id="tcik/123"), "no entry of a sense 'tcik': did you mean 'tick'?"),
        (Filter(matches=parse_matches(["sense=tcik"])), "no entry of a sense 'tcik': did you mean 'tick'?"),
        (Filter(matches=parse_matches(["type=x", "type=reading"])), "no entry of a type 'x': known are"),
        (
            Filter(matches=parse_matches(["payload.ok=True"])),
            "payload.ok=True compares with the text 'True': did you mean payload.ok=true?",
        ),
        (
            Filter(matches=parse_matches(["payload.a.0=None"])),
            "payload.a.0=None compares with the text 'None': did you mean payload.a.0=null?",
        ),
    ],
)
def test_a_name_or_value_that_no_entry_has_is_said(wanted: Filter, hint: str) -> None:
    """With the name that was probably meant, or else those that there are."""
    first, *_ = query_hints(wanted, NAMES, SENSES)
    assert first.startswith(hint)


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(),
        Filter(sense="tick", source="sense", type="reading"),
        Filter(sense="disk-usage"),
        Filter(source="logging"),
        Filter(sense="0" * 32),
        Filter(matches=parse_matches(["type!=readng", "type~=readng", "payload.ok=true", "payload.name=T"])),
    ],
)
def test_a_query_that_may_find_something_later_has_no_hint(wanted: Filter) -> None:
    """A configured sense may not have run yet, and other operators may ask for anything."""
    assert list(query_hints(wanted, NAMES, SENSES)) == []


def test_the_names_of_a_log_are_found(write: Write, home: Path) -> None:
    """Each once, whatever their number of entries, and senses by their runs."""
    runs = [f"{sense}/{n:032x}" for sense in ("a", "a-b", "b0") for n in range(50)]
    write(*map(started, runs), *map(completed, runs), event(ref_id="solo"), event(ref_id=None), event(ref_id="a"))
    with LogReader(home / "data" / "logs.db") as reader:
        names = reader.known_names()
    assert names.senses == ("a", "a-b", "b0", "solo")
    assert {pair.type for pair in names.pairs} == {"run_start", "run_complete", "reading"}


@pytest.mark.parametrize("command", ["logs --sense", "logs -n 5 --sense", "stats --sense", "stats --json --sense"])
def test_commands_say_that_a_sense_is_unknown(invoke: Command, write: Write, command: str) -> None:
    """On standard error, so that the output stays what a program expects; the exit code is 0."""
    write(event(ref_id=f"tick/{1:032x}"))
    result = invoke(*command.split(), "tcik")
    assert (result.err, result.code) == ("nerve: no entry of a sense 'tcik': did you mean 'tick'?\n", 0)


def test_following_an_unknown_sense_says_so_first(
    invoke: Command, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on all the same, as the sense may come."""
    write(event(ref_id=f"tick/{1:032x}"))
    monkeypatch.setattr("nerve.cli.commands.logs.Output.wait", lambda *_: False)
    assert invoke("logs", "-f", "--sense", "tcik").err == "nerve: no entry of a sense 'tcik': did you mean 'tick'?\n"


def archived(day: str, first_id: int, ts: int) -> ManifestEntry:
    """Return what the manifest has of a file."""
    return ManifestEntry(
        file=f"{day}.jsonl",
        day=day,
        rows=1,
        first_id=first_id,
        last_id=first_id,
        sha256="",
        bytes=1,
        ts=ts,
        log_id="x",
    )


def test_archived_days_are_named_if_they_may_have_what_was_not_found() -> None:
    """Only those of the period that was asked for."""
    day = 86_400_000
    files = [archived("2023-11-14", 1, NOON - day), archived("2023-11-15", 2, NOON)]
    assert archive_hint(Filter(), files) == (
        "the entries of 2023-11-14 to 2023-11-15 (UTC) are in the archive: add --archived to search them too"
    )
    assert archive_hint(Filter(since=NOON), files) == (
        "the entries of 2023-11-15 (UTC) are in the archive: add --archived to search them too"
    )
    assert archive_hint(Filter(since=NOON + 2 * day), files) is None
