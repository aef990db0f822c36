"""Loading a text as the nerve.yaml of a workspace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from nerve.config import yaml_reader
from nerve.config.config import Config, load_config
from nerve.errors import ConfigError

Load = Callable[[str], Config]
Problems = Callable[[str], tuple[str, ...]]


@pytest.fixture(params=["libyaml", "pure Python"])
def each_loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with each of PyYAML's two loaders."""
    if request.param == "pure Python":
        monkeypatch.setattr(yaml_reader, "_LOADER", yaml.SafeLoader)
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML without libyaml")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a workspace with the files of senses `a`, `b`, `c` and `disk-usage`."""
    (tmp_path / "senses").mkdir()
    for name in ("a", "b", "c", "disk_usage"):
        (tmp_path / "senses" / f"{name}.py").touch()
    return tmp_path


@pytest.fixture
def load(home: Path) -> Load:
    """Return a function that loads a text as the workspace's nerve.yaml."""

    def load_text(text: str) -> Config:
        (home / "nerve.yaml").write_text(text, encoding="utf-8")
        return load_config(home / "nerve.yaml")

    return load_text


@pytest.fixture
def problems(load: Load) -> Problems:
    """Return a function that returns the problems of a text, which must have some."""

    def problems_of(text: str) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as refusal:
            load(text)
        assert all(line.isprintable() for line in refusal.value.problems)
        return refusal.value.problems

    return problems_of
