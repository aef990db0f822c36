"""Regular expressions: found as Python finds them, and given up in time."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.entries import event

from nerve.errors import StoreError
from nerve.store.archive.row_filter import row_filter_of
from nerve.store.filters import Filter, parse_matches
from nerve.store.patterns import Pattern
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter

HOPELESS = r"(a|a)*(a|a)*(a|a)*\d(?<=x)"
LONG = "a" * 20_000


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up after 50 ms."""
    monkeypatch.setattr("nerve.store.patterns.SECONDS", 0.05)


@pytest.mark.parametrize(
    "pattern", [HOPELESS, r"(a+a+)+b\d", r"(.*a){25}b", r"(a?){40}(a{40,50}){2}b", r"a*a*a*a*a*a*b", r"(\w+\s?)*!x"]
)
def test_an_expression_ends_in_time_whatever_it_is(pattern: str) -> None:
    """It is either not found, or given up with one line."""
    try:
        outcome = Pattern(pattern).is_in(LONG)
    except StoreError as error:
        outcome = str(error)
    given_up = r"the expression '.+' takes more than 0\.05 s for one entry: write it .*"
    assert outcome is False or re.fullmatch(given_up, str(outcome))


@given(
    st.sampled_from(["a", "a.b", "^a", "b$", "a*b", "(ab)+", "a{2}", "[ab]+c?", "(?i)AB", r"\bab\b", "a|bc", "(a)b?"]),
    st.text("abc \n", max_size=40),
)
def test_an_expression_is_found_where_python_finds_it(pattern: str, text: str) -> None:
    """However it is searched for, it means the same."""
    expected = re.search(pattern, text) is not None
    searched = Pattern(pattern)
    assert searched.is_in(text) == expected
    searched._order = None  # always by the other package
    assert searched.is_in(text) == expected


@pytest.mark.parametrize("text", ["(", "[", "*a", "(?P<n>a)(?P<n>b)", "a{999999999999}"])
def test_an_invalid_expression_is_a_value_error(text: str) -> None:
    """The reason is that of Python."""
    with pytest.raises(ValueError, match="invalid regular expression: "):
        Pattern(text)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Return a log with one entry, whose payload is a long text."""
    path = tmp_path / "logs.db"
    with closing(LogWriter.open(path)) as writer:
        writer.append([event(payload=LONG)], {})
    return path


def test_a_query_with_a_hopeless_expression_blames_the_expression(db: Path) -> None:
    """Neither the log nor SQLite; the connection goes on working. The same holds for the archive's entries."""
    criteria = Filter(matches=parse_matches([f"payload~={HOPELESS}"]))
    with LogReader(db) as reader:
        with pytest.raises(StoreError, match=r"^the expression .* takes more than"):
            reader.query(criteria)
        assert len(reader.query(Filter())) == 1
    with pytest.raises(StoreError, match=r"^the expression .* takes more than"):
        row_filter_of(criteria).matches((1, "s", "t", None, f'"{LONG}"', 0))


@contextmanager
def ctrl_c_after(seconds: float) -> Iterator[None]:
    """Send this process a SIGINT after a while."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def test_ctrl_c_in_a_query_is_a_ctrl_c(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It arrives inside of SQLite, which would call it an error of a function."""
    monkeypatch.setattr("nerve.store.patterns.SECONDS", 0.5)
    criteria = Filter(matches=parse_matches([f"payload~={HOPELESS}"]))
    with LogReader(db) as reader, ctrl_c_after(0.05), pytest.raises((KeyboardInterrupt, StoreError)) as failure:
        reader.query(criteria)
    assert "logs.db" not in str(failure.value)


def test_a_query_that_is_interrupted_between_two_texts_ends(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the function raises is what the caller gets."""

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Pattern, "is_in", interrupt)
    with LogReader(db) as reader, pytest.raises(KeyboardInterrupt):
        reader.query(Filter(matches=parse_matches(["payload~=a"])))
