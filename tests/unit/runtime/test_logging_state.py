"""What computes do to Python's logging: their own records are kept, and the next run finds all as it was."""

from __future__ import annotations

import io
import logging
import logging.config
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nerve.runtime.logging_state import LoggingState

LEVELS_AND_MORE: list[Callable[[], object]] = [
    lambda: logging.basicConfig(force=True, level=logging.ERROR, stream=io.StringIO()),
    lambda: list.clear(logging.root.handlers),
    lambda: setattr(logging.getLogger(), "handlers", []),
    lambda: [logging.getLogger().removeHandler(handler) for handler in list(logging.getLogger().handlers)],
    lambda: logging.getLogger().setLevel(logging.CRITICAL),
    lambda: setattr(logging.getLogger(), "level", logging.CRITICAL),
    lambda: logging.disable(logging.CRITICAL),
    lambda: logging.getLogger("other").setLevel(logging.CRITICAL),
    lambda: logging.getLogger().addFilter(lambda _record: False),
    lambda: setattr(logging.getLogger(), "disabled", True),
    lambda: logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL"}}),
    lambda: logging.config.dictConfig({"version": 1, "disable_existing_loggers": True}),
    lambda: logging.getLogger().addHandler(logging.StreamHandler(io.StringIO())),
    lambda: logging.setLogRecordFactory(lambda *_args, **_named: 1 / 0),  # type: ignore[arg-type,return-value]
    logging.shutdown,
]


class Kept(logging.Handler):
    """Keeps the messages of the records that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message."""
        self.messages.append(record.getMessage())


@pytest.fixture
def kept() -> Iterator[Kept]:
    """A handler of the root logger, which afterwards is again what pytest needs."""
    root = logging.root
    kind, level, handlers = root.__class__, root.level, list.copy(root.handlers)
    yield Kept()
    root.__class__ = kind
    root.__dict__["handlers"] = handlers
    root.setLevel(level)
    logging.disable(logging.NOTSET)


@pytest.fixture
def start(kept: Kept) -> Callable[[], LoggingState]:
    """What makes the logging of a worker, in the test itself, as pytest adds its handlers before each test.

    There is a logger `other`, which a sense has made when it was loaded.
    """

    def logging_of_a_worker() -> LoggingState:
        logging.getLogger("other")
        return LoggingState([kept])

    return logging_of_a_worker


@pytest.mark.parametrize("change", LEVELS_AND_MORE)
def test_the_next_run_finds_logging_as_it_was(
    start: Callable[[], LoggingState], kept: Kept, change: Callable[[], object]
) -> None:
    """Its records are recorded, by the root logger and by another, and nowhere else."""
    state = start()
    change()
    state.put_back()
    logging.getLogger("other").info("recorded")
    logging.info("as well")  # noqa: LOG015 - senses do
    assert kept.messages == ["recorded", "as well"]
    assert logging.root.handlers[:] == [kept]
    assert logging.root.level == logging.INFO


@pytest.mark.parametrize("change", LEVELS_AND_MORE[:4])
def test_records_are_kept_in_the_run_that_removes_the_handlers(
    start: Callable[[], LoggingState], kept: Kept, change: Callable[[], object]
) -> None:
    """However it removes them."""
    start()
    change()
    logging.getLogger("new").error("recorded")
    assert kept.messages == ["recorded"]


def test_a_compute_s_own_handlers_work_in_its_run(
    start: Callable[[], LoggingState], kept: Kept, tmp_path: Path
) -> None:
    """A file that it logs to gets the records, besides the log, and only those of this run."""
    state = start()
    path = tmp_path / "own.log"
    for count in (1, 2):
        logging.basicConfig(filename=path, force=True, format="%(message)s", level=logging.INFO)
        logging.info("mine %d", count)  # noqa: LOG015 - senses do
        state.put_back()
    logging.info("later")  # noqa: LOG015 - senses do
    assert path.read_text() == "mine 1\nmine 2\n"
    assert kept.messages == ["mine 1", "mine 2", "later"]


def test_basic_config_without_force_changes_nothing(start: Callable[[], LoggingState], kept: Kept) -> None:
    """As everywhere, if the root logger has handlers: each record appears once."""
    start()
    logging.basicConfig(level=logging.CRITICAL)
    logging.warning("once")  # noqa: LOG015 - senses do
    assert kept.messages == ["once"]
    assert len(logging.root.handlers) == 1


def test_what_a_sense_does_to_its_logger_when_it_is_loaded_stays(start: Callable[[], LoggingState], kept: Kept) -> None:
    """A level and a handler of a named logger are there in each run; what a run changes in them is put back."""
    state = start()
    own = io.StringIO()
    logger = logging.getLogger("loaded")
    logger.setLevel(logging.WARNING)
    logger.addHandler(handler := logging.StreamHandler(own))
    state.accept_loggers()
    state.put_back()
    for _run in range(2):
        logger.info("too low")
        logger.warning("high enough")
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.removeHandler(handler)
        state.put_back()
    assert kept.messages == ["high enough"] * 2
    assert own.getvalue() == "high enough\n" * 2


def test_loading_a_sense_disables_no_logger_of_another(start: Callable[[], LoggingState], kept: Kept) -> None:
    """`dictConfig` disables all existing loggers, unless it is told not to."""
    state = start()
    logging.config.dictConfig({"version": 1, "loggers": {"new": {"level": "DEBUG"}}})
    state.accept_loggers()
    state.put_back()
    logging.getLogger("other").info("still there")
    logging.getLogger("new").debug("configured")
    assert kept.messages == ["still there", "configured"]


def test_levels_are_not_looked_up_again_without_a_change(
    start: Callable[[], LoggingState], kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that has changed nothing costs no comparison of all loggers."""
    state = start()
    logging.getLogger("other").info("recorded")
    monkeypatch.setattr(state, "_put_all_back", lambda: pytest.fail("nothing has changed"))
    state.put_back()
    assert kept.messages == ["recorded"]
