"""What to say if a query finds nothing: a name that no entry has, a value that none can have, or the archive. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence

from nerve.ids import sense_of
from nerve.store.archive.manifest import ManifestEntry
from nerve.store.archive.reader import may_hold
from nerve.store.filters import Filter
from nerve.store.table.known_names import KnownNames

SOURCES = ("system", "reflex", "sense", "logging")

_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}
_MAX_NAMES = 10


def query_hints(criteria: Filter, names: KnownNames, senses: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each name or value of `criteria` that no entry has; `senses` are the configured ones."""
    sources = {source.values for source in criteria.conditions if source.field == "source" and source.op == "="}
    types = {pair.type for pair in names.pairs if not sources or any(pair.source in values for values in sources)}
    known = {
        "source": {*SOURCES, *(pair.source for pair in names.pairs)},
        "type": types or {pair.type for pair in names.pairs},
        "sense": {*names.senses, *senses},
    }
    for match in criteria.conditions:
        if match.op != "=":
            continue
        for value in match.values:
            if match.field in known and value not in known[match.field]:
                suggestions = senses if match.field == "sense" and senses else known[match.field]
                yield _unknown_name(match.field, value, suggestions)
            elif match.field == "ref" and "/" in value and sense_of(value) not in known["sense"]:
                yield _unknown_name("sense", sense_of(value), senses or known["sense"])
            elif match.path is not None and value in _PYTHON_WORDS:
                meant = f"{match.field}={_PYTHON_WORDS[value]}"
                yield f"{match.field}={value} compares with the text {value!r}: did you mean {meant}?"


def archive_hint(criteria: Filter, files: Sequence[ManifestEntry]) -> str | None:
    """Return a sentence if the archive, which was not searched, may have what was looked for."""
    days = {entry.day for entry in files if may_hold(entry, criteria)}
    if not days:
        return None
    first, last = min(days), max(days)
    period = first if first == last else f"{first} to {last}"
    return f"the entries of {period} (UTC) are in the archive: add --archived to search them too"


def _unknown_name(field: str, name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.5)
    if near:
        return f"no entry of a {field} {name!r}: did you mean {near[0]!r}?"
    listed = ", ".join(sorted(known)[:_MAX_NAMES]) + (", ..." if len(known) > _MAX_NAMES else "")
    return f"no entry of a {field} {name!r}" + (f": known are {listed}" if listed else "")
