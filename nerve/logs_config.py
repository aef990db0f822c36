"""The section `logs` of nerve.yaml: what is kept, for how long, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nerve.payload import DEFAULT_MAX_BYTES

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
