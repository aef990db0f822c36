"""`nerve code`: from a digest to the source that ran."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import Command

from nerve.reload.code_store import CodeStore
from nerve.reload.codebase import Codebase, SourceFile, Version

SOURCE = b"def compute(ctx):\n\treturn '\x1b[31m'\n"


@pytest.fixture
def kept(home: Path) -> dict[str, Version]:
    """Keep a version of one file, and one of two."""
    codebase = Codebase([SourceFile(name="lib.units", path="/w/lib/units.py", source=b"x = 1")])
    alone = codebase.version(SourceFile(name="senses.disk", path="/w/disk.py", source=SOURCE))
    both = codebase.version(SourceFile(name="senses.cpu", path="/w/cpu.py", source=b"import lib.units\n"))
    for version in (alone, both):
        CodeStore(home / "data" / "code").keep(version)
    return {"alone": alone, "both": both}


def test_a_pipe_gets_exactly_the_file(invoke: Command, kept: dict[str, Version]) -> None:
    """It can be put back as it was; some digits of the digest are enough."""
    assert invoke("code", kept["alone"].digest[:8]) == (SOURCE.decode(), "", 0)


def test_a_terminal_gets_it_escaped(at_terminal: Command, kept: dict[str, Version]) -> None:
    """A source may have control characters in a text."""
    assert at_terminal("code", kept["alone"].digest).out == "def compute(ctx):\n        return '\\x1b[31m'\n"


def test_files_of_a_version_have_headings_and_can_be_printed_alone(invoke: Command, kept: dict[str, Version]) -> None:
    """The sense's own file comes first."""
    digest = kept["both"].digest
    lines = invoke("code", digest).out.splitlines()
    assert [line.split()[:2] for line in lines[::2]] == [["#", "senses.cpu"], ["#", "lib.units"]]
    assert lines[1::2] == ["import lib.units", "x = 1"]
    assert invoke("code", digest, "--file", "lib.units") == ("x = 1", "", 0)
    step = "its files are senses.cpu, lib.units"
    assert invoke("code", digest, "--file", "x").err == f"nerve: no file 'x' in this version: {step}\n"


def test_an_unknown_digest_says_how_to_find_one(invoke: Command) -> None:
    """It may be that of a version whose runs have all moved to the archive."""
    step = "list the digests of runs with `nerve trace -v RUN`"
    assert invoke("code", "abcd") == ("", f"nerve: no code is kept for 'abcd', or no longer: {step}\n", 1)
    assert invoke("code", "../logs.db").code == 2


def test_an_ambiguous_digest_names_the_candidates(invoke: Command, home: Path) -> None:
    """More digits are needed."""
    for name in ("ab" + "0" * 30, "ab" + "1" * 30):
        (home / "data" / "code").mkdir(exist_ok=True)
        (home / "data" / "code" / name).touch()
    result = invoke("code", "ab")
    assert result.err == f"nerve: ambiguous digest 'ab': ab{'0' * 30}, ab{'1' * 30}; give more digits\n"
