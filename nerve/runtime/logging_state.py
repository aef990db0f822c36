"""Python's logging as every run finds it: what a compute does to it ends with the run; inside a worker."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

_NO_CHANGE: Any = "no level has been set"
"""A key in the root logger's cache of levels, which `logging` empties whenever any level is set."""

_ALL_HANDLERS: list[Any] = logging._handlerList  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public list


class LoggingState:
    """Keeps this process's logging, and puts it back.

    The root logger is the same in every run; what a sense's file does to other loggers when it is loaded stays. After
    a run all loggers are compared if there is a sign of a change: a level was set, a handler was made, or the root
    logger differs. Other attributes of a named logger, such as `propagate`, give no sign, and stay until there is one.
    """

    def __init__(self, kept: Iterable[logging.Handler], level: int = logging.INFO) -> None:
        """Make `kept` the handlers of the root logger. They get its records even after they have been removed."""
        self._kept = list(kept)
        self._level = level
        self._factory = logging.getLogRecordFactory()
        self._loggers: dict[str, _Settings] = {}
        self._root = vars(logging.root)
        self._cache: dict[Any, bool] = self._root["_cache"]
        logging.root.__class__ = _Root
        self.accept_loggers()
        self._put_all_back()

    def accept_loggers(self) -> None:
        """Take the named loggers as they are now for what every run finds, except that none is newly disabled."""
        before, self._loggers = self._loggers, {}
        for name, logger in _named_loggers():
            logger.disabled = name in before and before[name].disabled
            self._loggers[name] = _settings(logger)

    def put_back(self) -> None:
        """Undo what a run has changed."""
        root = self._root
        if not (
            _NO_CHANGE in self._cache
            and len(_ALL_HANDLERS) == self._count
            and root["handlers"] is self._handlers
            and len(self._handlers) == len(self._kept)
            and root["level"] == self._level
            and not root["filters"]
            and not root["disabled"]
            and logging.getLogRecordFactory() is self._factory
        ):
            self._put_all_back()

    def _put_all_back(self) -> None:
        root = logging.root
        for handler in set(root.handlers) - set(self._kept):
            with suppress(Exception):  # the handler may be the compute's own class
                handler.close()
        root.handlers = self._handlers = _Handlers(self._kept)
        root.filters = []
        root.disabled = False
        logging.setLogRecordFactory(self._factory)
        logging.disable(logging.NOTSET)
        root.setLevel(self._level)
        for name, logger in _named_loggers():
            if _settings(logger) != (kept := self._loggers.get(name, _NEW)):
                _apply(kept, logger)
        self._cache[_NO_CHANGE] = True
        self._count = len(_ALL_HANDLERS)


class _Handlers(list[logging.Handler]):
    """A list of handlers that a logger calls; those it was made with are called even after their removal."""

    def __init__(self, kept: Iterable[logging.Handler]) -> None:
        self._kept = tuple(kept)
        super().__init__(self._kept)

    def __iter__(self) -> Iterator[logging.Handler]:
        yield from self._kept
        yield from (handler for handler in super().__iter__() if handler not in self._kept)

    def replaced(self, handlers: Iterable[logging.Handler]) -> _Handlers:
        """Return a list with other handlers that keeps the same ones."""
        replaced = _Handlers(self._kept)
        list.clear(replaced)
        list.extend(replaced, handlers)
        return replaced


class _Root(logging.RootLogger):
    """The root logger of a worker: an assignment to its list of handlers can't remove those that are kept."""

    @property
    def handlers(self) -> list[logging.Handler]:
        """The handlers, as everywhere in `logging`."""
        handlers: list[logging.Handler] = self.__dict__["handlers"]
        return handlers

    @handlers.setter
    def handlers(self, handlers: list[logging.Handler]) -> None:
        current = self.__dict__.get("handlers")
        if isinstance(current, _Handlers) and not isinstance(handlers, _Handlers):
            handlers = current.replaced(handlers)
        self.__dict__["handlers"] = handlers


class _Settings(NamedTuple):
    """What a compute can change in a named logger."""

    level: int
    propagate: bool
    disabled: bool
    handlers: tuple[logging.Handler, ...]
    filters: tuple[Any, ...]


_NEW = _Settings(logging.NOTSET, propagate=True, disabled=False, handlers=(), filters=())


def _named_loggers() -> list[tuple[str, logging.Logger]]:
    return [(name, it) for name, it in logging.root.manager.loggerDict.items() if isinstance(it, logging.Logger)]


def _settings(logger: logging.Logger) -> _Settings:
    return _Settings(logger.level, logger.propagate, logger.disabled, (*logger.handlers,), (*logger.filters,))


def _apply(settings: _Settings, logger: logging.Logger) -> None:
    logger.setLevel(settings.level)
    logger.propagate, logger.disabled = settings.propagate, settings.disabled
    logger.handlers, logger.filters = [*settings.handlers], [*settings.filters]
