"""docs/events.md lists exactly the events, fields and values that are recorded, with examples that decode."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from nerve.events import payload_types
from nerve.events.model import ArchiveReason, ErrorDetail, ErrorKind, Status
from nerve.events.trigger import TriggerKind

PAGE = Path(__file__).parents[2] / "docs" / "events.md"
PAYLOADS: dict[str, type[msgspec.Struct]] = {
    "system/start": payload_types.Start,
    "system/stop": payload_types.Stop,
    "system/error": ErrorDetail,
    "system/archive": payload_types.Archive,
    "system/config_reload": payload_types.ConfigReload,
    "system/sense_reload": payload_types.SenseReload,
    "system/scale": payload_types.Scale,
    "reflex/run_start": payload_types.RunStart,
    "reflex/run_complete": payload_types.RunComplete,
    "logging": payload_types.LoggingRecord,
}


def sections() -> dict[str, str]:
    """Return the text below each heading of the page."""
    _intro, *parts = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def rows(section: str, header: str) -> dict[str, str]:
    """Return the first cell and the rest of each row, in the table of a section whose header begins like this."""
    _before, _, table = section.partition(f"\n| {header} |")
    return dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", table.partition("\n\n")[0], flags=re.MULTILINE))


def documented_fields(name: str) -> dict[str, str]:
    """Return the documented fields of an event type."""
    return rows(sections()[name], "field | type")


def test_every_payload_struct_has_a_section_and_every_section_a_struct() -> None:
    """A new struct must be documented, and a removed one must go."""
    structs = [item for item in vars(payload_types).values() if isinstance(item, type)]
    assert {*structs, ErrorDetail} == set(PAYLOADS.values())
    assert sections().keys() - {"Reserved"} == PAYLOADS.keys()


@pytest.mark.parametrize("name", PAYLOADS)
def test_every_field_is_documented_in_the_order_of_the_json(name: str) -> None:
    """Every documented field exists, too."""
    assert list(documented_fields(name)) == [field.encode_name for field in msgspec.structs.fields(PAYLOADS[name])]


@pytest.mark.parametrize("name", PAYLOADS)
def test_fields_that_can_be_absent_or_null_are_said_to_be(name: str) -> None:
    """An optional field is absent if it has a default, and null if not."""
    documented = documented_fields(name)
    for field in msgspec.structs.fields(PAYLOADS[name]):
        assert ("absent" in documented[field.encode_name]) is not field.required, field.name
        is_nullable = field.required and type(None) in get_args(field.type)
        assert ("or null" in documented[field.encode_name]) is is_nullable, field.name


@pytest.mark.parametrize("name", PAYLOADS)
def test_every_example_is_a_payload_of_its_type(name: str) -> None:
    """It decodes, and has no other fields; only a logging record may have some of its own."""
    [block] = re.findall(r"```json\n(.*?)```", sections()[name], flags=re.DOTALL)
    for line in block.splitlines():
        payload = msgspec.json.decode(line, type=PAYLOADS[name])
        recorded = msgspec.json.encode(payload).decode()
        assert recorded == line if name != "logging" else recorded.removeprefix("{") in line


@pytest.mark.parametrize(
    ("name", "header", "values"),
    [
        ("system/error", "`kind` | what failed", get_args(ErrorKind)),
        ("reflex/run_complete", "`status` | meaning", get_args(Status)),
    ],
)
def test_every_kind_of_error_and_every_status_is_documented(name: str, header: str, values: tuple[str, ...]) -> None:
    """Each has a row in a table of its own."""
    assert set(rows(sections()[name], header)) == set(values)


@pytest.mark.parametrize(
    ("name", "field", "values"),
    [
        ("system/archive", "reason", get_args(ArchiveReason)),
        ("reflex/run_start", "trigger", get_args(TriggerKind)),
    ],
)
def test_every_value_of_an_enumerated_field_is_documented(name: str, field: str, values: tuple[str, ...]) -> None:
    """They are listed where the field is."""
    assert set(re.findall(r"`([a-z_]+)`", documented_fields(name)[field])) == set(values)
