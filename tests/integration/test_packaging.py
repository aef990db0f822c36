"""What is built can be installed and run, and leaves the name `workers` to the application."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("packaging")]

ROOT = Path(__file__).parents[2]
MODULES = {path.name for path in (ROOT / "workers").glob("*.py")}
SENSE = "import workers\ndef compute(ctx): ctx.log('owner', workers.OWNER)\n"
CONFIG = "workers: 1\nsenses: {probe: {}}\nreflexes: [{sense: probe, interval: 1s}]\n"


class Built(NamedTuple):
    """The files that a release consists of."""

    sdist: Path
    wheel: Path


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Return what a command prints; fail with its output when its exit code is not 0."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "NERVE_HOME")}
    done = subprocess.run(
        command, cwd=cwd, env=kept | (env or {}), capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build sdist and wheel, without a download."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of a new environment with the wheel in it, which shares only the dependencies with this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    options = ("--no-deps", "--no-index", "--ignore-installed", "--no-compile", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, built.wheel, cwd=folder)
    return folder / "bin"


def test_the_wheel_has_one_package_with_all_modules_and_types(built: Built) -> None:
    """The wheel claims no name but `nerve`, and its types are there for type checkers."""
    names = [PurePosixPath(name) for name in zipfile.ZipFile(built.wheel).namelist()]
    assert {name.parts[0] for name in names if ".dist-info" not in name.parts[0]} == {"nerve"}
    assert {name.name for name in names if name.parent == PurePosixPath("nerve/workers")} == MODULES
    assert PurePosixPath("nerve/py.typed") in names


def test_a_wheel_built_from_the_sdist_is_the_same(built: Built, tmp_path: Path) -> None:
    """The sdist has each module of the workers once, and as a file: the links are for the repository only."""
    with tarfile.open(built.sdist) as archive:
        members = archive.getmembers()
        assert all(member.isfile() for member in members)
        assert sum(member.name.endswith("workers/bootstrap.py") for member in members) == 1
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=unpacked)
    assert (tmp_path / built.wheel.name).read_bytes() == built.wheel.read_bytes()


@pytest.mark.parametrize(("place", "seconds"), [(".", "3s"), ("senses", "2s")])
def test_an_installed_engine_runs_beside_an_application_with_workers_of_its_own(
    installed: Path, tmp_path: Path, place: str, seconds: str
) -> None:
    """A sense imports the application's module `workers`, be it on the path or a helper in senses/."""
    nerve = installed / "nerve"
    run(nerve, "init", "--quiet", tmp_path, cwd=tmp_path)
    (tmp_path / "nerve.yaml").write_text(CONFIG)
    (tmp_path / "senses" / "probe.py").write_text(SENSE)
    (tmp_path / place / "workers.py").write_text("OWNER = 'the application'\n")
    run(nerve, "start", "--for", seconds, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert '"the application"' in run(nerve, "logs", "--json", "--type", "owner", cwd=tmp_path)
    assert "no problems found" in run(nerve, "verify", cwd=tmp_path)


def test_the_name_workers_is_free_where_nerve_is_installed(installed: Path, tmp_path: Path) -> None:
    """Neither the wheel nor the editable installation that runs this test provides a module `workers`."""
    code = "import importlib.util as u, nerve.workers.compute; print(u.find_spec('workers'))"
    for python in (installed / "python", Path(sys.executable)):
        assert run(python, "-c", code, cwd=tmp_path).strip() == "None"
