"""The section `logs` of nerve.yaml: what is kept, for how long, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nerve.config.yaml_reader import Value, quoted, read
from nerve.events.payload import DEFAULT_MAX_BYTES
from nerve.events.redaction import words_of
from nerve.units import format_duration, format_size, parse_duration, parse_size

Compression = Literal["zstd"]


@dataclass(frozen=True, slots=True)
class LogsConfig:
    """What is kept: `retention` and `archive_interval` are seconds, `max_payload` is bytes of JSON.

    `redact` names keys whose values are masked, in addition to those that always are. `compress` is how the archive's
    files are stored (None: as they are). `max_size` is bytes: a larger log is archived before the retention is over.
    """

    retention: float = 30 * 86400.0
    archive_interval: float = 3600.0
    max_payload: int = DEFAULT_MAX_BYTES
    redact: tuple[str, ...] = ()
    compress: Compression | None = None
    max_size: int | None = None


MIN_INTERVAL = 0.01


MAX_PAYLOAD_LIMIT = 32 * 1024**2  # bytes; the wire takes frames of 64 MiB


def read_logs(section: Value | None) -> LogsConfig:
    """Read the section; what is wrong with it is noted as a problem."""
    default = LogsConfig()
    names = ("retention", "archive_interval", "max_payload", "redact", "compress", "max_size")
    fields = section.fields(names) if section else {}
    return LogsConfig(
        retention=read(fields, "retention", parse_duration, default.retention),
        archive_interval=read(fields, "archive_interval", parse_interval, default.archive_interval),
        max_payload=read(fields, "max_payload", _parse_payload_limit, default.max_payload),
        redact=_redacted(fields["redact"]) if "redact" in fields else default.redact,
        compress=read(fields, "compress", _parse_compression, default.compress),
        max_size=read(fields, "max_size", _parse_log_size, default.max_size),
    )


def parse_interval(text: str) -> float:
    """Read how often something is to happen, in seconds; ValueError, with one sentence, when that is too often."""
    seconds = parse_duration(text)
    if seconds < MIN_INTERVAL:
        raise ValueError(f"{quoted(text)} is too short: an interval is at least {format_duration(MIN_INTERVAL)}")
    return seconds


def _parse_payload_limit(text: str) -> int:
    size = parse_size(text)
    if size > MAX_PAYLOAD_LIMIT:
        raise ValueError(f"{quoted(text)} is too large: a payload has at most {format_size(MAX_PAYLOAD_LIMIT)}")
    return size


def _parse_compression(text: str) -> Compression | None:
    if text == "zstd":
        return "zstd"
    if text == "off":
        return None
    raise ValueError(f"{quoted(text)} is no compression: write zstd or off")


def _parse_log_size(text: str) -> int | None:
    return None if text == "off" else parse_size(text)


def _redacted(value: Value) -> tuple[str, ...]:
    names = (item.parsed(_parse_key_name, "") for item in value.items(or_single=True))
    return tuple(name for name in names if name)


def _parse_key_name(text: str) -> str:
    if not words_of(text):
        raise ValueError(f"{quoted(text)} names no key: write a word of its name, such as `ssn`")
    return text
