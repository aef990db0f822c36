"""Loading any nerve.yaml returns a Config or raises a ConfigError, with both loaders of PyYAML."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nerve.config.config import load_config
from nerve.errors import ConfigError

KEYS = st.sampled_from(
    ["workers", "shutdown_timeout", "senses", "reflexes", "logs", "path", "group", "throttle", "timeout",
     "grace_period", "name", "kind", "sense", "interval", "on", "workflow", "retention", "archive_interval",
     "max_payload", "a", "b", "<<"]
)  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | KEYS
    | st.sampled_from(["1s", "10m", "64KB", "0", "../a", "senses/a.py"])
)  # fmt: skip
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=6),
    max_leaves=30,
)


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """Return a workspace that the examples of one property share."""
    with TemporaryDirectory() as folder:
        home = Path(folder).resolve()
        (home / "senses").mkdir()
        (home / "senses" / "a.py").touch()
        yield home


def problems_of(home: Path, data: bytes) -> tuple[str, ...]:
    """Load `data` as a nerve.yaml and return its problems; without any, check the Config's bounds."""
    path = home / "nerve.yaml"
    path.write_bytes(data)
    try:
        loaded = load_config(path)
    except ConfigError as error:
        return error.problems or ("an error without a problem",)
    assert 1 <= loaded.workers <= 64
    assert all(sense.path.is_relative_to(home) for sense in loaded.senses.values())
    return ()


def are_clear(problems: tuple[str, ...]) -> bool:
    """Return True if each problem is one printable line that names the file."""
    return all(problem.startswith("nerve.yaml:") and problem.isprintable() for problem in problems)


FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)


@pytest.mark.usefixtures("each_loader")
@given(document=DOCUMENTS | st.fixed_dictionaries({}, optional={"senses": DOCUMENTS, "reflexes": st.lists(DOCUMENTS)}))
@FUZZ
def test_any_document_loads_or_has_problems(scratch: Path, document: object) -> None:
    """Any valid YAML has one of these two results, and no other exception."""
    data = yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass")
    assert are_clear(problems_of(scratch, data))


@pytest.mark.usefixtures("each_loader")
@given(data=st.binary() | st.text().map(str.encode) | st.text("abon:-[]{}&*<!%?|>#'\"\\ \n\t,01\ufeff").map(str.encode))
@FUZZ
def test_any_bytes_load_or_have_problems(scratch: Path, data: bytes) -> None:
    """Any content has one of these two results, and no other exception."""
    assert are_clear(problems_of(scratch, data))
