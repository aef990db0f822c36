"""The section `logs` of nerve.yaml: what is recorded, how long it is kept, and in which form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nerve.config.keys import (
    DURATION_WITH_UNIT,
    INTERVAL_WITH_UNIT,
    Single,
    doubt_bytes,
    key,
    key_names,
    list_key,
    read_keys,
)
from nerve.config.yaml_reader import Value, quoted
from nerve.events.payload import DEFAULT_MAX_BYTES
from nerve.events.redaction import words_of
from nerve.units import format_size, parse_size

MAX_PAYLOAD_LIMIT = 32 * 1024**2  # bytes; a frame between processes has at most 64 MiB


def _parse_payload_limit(text: str) -> int:
    size = parse_size(text)
    if size > MAX_PAYLOAD_LIMIT:
        raise ValueError(f"{quoted(text)} is too large: use at most {format_size(MAX_PAYLOAD_LIMIT)}")
    return size


def _parse_compression(text: str) -> Literal["zstd"] | None:
    if text == "zstd":
        return "zstd"
    if text == "off":
        return None
    raise ValueError(f"unknown compression {quoted(text)}: use zstd or off")


def _parse_log_size(text: str) -> int | None:
    return None if text == "off" else parse_size(text)


def _parse_key_name(text: str) -> str:
    if not words_of(text):
        raise ValueError(f"{quoted(text)} is not a valid key name: use a word with letters or digits, such as `ssn`")
    return text


@dataclass(frozen=True, slots=True)
class LogsConfig:
    """What is kept: `retention` and `archive_interval` in seconds, `max_payload` and `max_size` in bytes.

    A payload longer than `max_payload`, as JSON, is not stored. Values under a key that has a word of `redact` are
    masked, as are those under the keys that always are. `compress` is the format of the archive's files. A log larger
    than `max_size` is archived before its retention is over.
    """

    retention: float = key(DURATION_WITH_UNIT, 30 * 86400.0)
    archive_interval: float = key(INTERVAL_WITH_UNIT, 3600.0)
    max_payload: int = key(Single(_parse_payload_limit, format_size, doubt_bytes), DEFAULT_MAX_BYTES)
    redact: tuple[str, ...] = list_key(Single(_parse_key_name))
    compress: Literal["zstd"] | None = key(Single(_parse_compression), None)
    max_size: int | None = key(Single(_parse_log_size, format_size, doubt_bytes), None)


LOGS_KEYS = key_names(LogsConfig)


def read_logs(section: Value | None) -> LogsConfig:
    """Return the section's configuration; an absent section has the defaults, and invalid values become problems."""
    return LogsConfig(**read_keys(LogsConfig, section.fields(LOGS_KEYS))) if section else LogsConfig()
