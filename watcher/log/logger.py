"""Structured logging to stderr: for people on a terminal or in the journal, or as JSON lines."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from structlog.typing import EventDict

    from watcher.log.backlog import Backlog


class Log(Protocol):
    """What all parts log by: what happened, in words that never change, and its fields."""

    def debug(self, event: str, /, **fields: Any) -> object:
        """Log what only a developer needs."""

    def info(self, event: str, /, **fields: Any) -> object:
        """Log what happened as it should."""

    def warning(self, event: str, /, **fields: Any) -> object:
        """Log what somebody should look at."""

    def error(self, event: str, /, **fields: Any) -> object:
        """Log what went wrong."""


class _Silence:
    def debug(self, event: str, /, **fields: Any) -> None:
        """Nothing."""

    info = warning = error = debug


SILENCE: Final[Log] = _Silence()
"""A log for a command that prints itself what it does. It needs no structlog, which takes longer
to import than the rest of such a command."""


def make_log(level: str, format_: str, backlog: Backlog | None = None) -> Log:
    """A logger of `level` and above.

    Args:
        level: a level's name as in `logging`, in lower case.
        format_: `console`, `json`, or `auto`: JSON unless stderr is a terminal or the journal.
        backlog: writes the lines to stderr; without it, the thread that logs writes them itself.
    """
    import structlog

    journal = "JOURNAL_STREAM" in os.environ
    console = format_ == "console" or (format_ == "auto" and (sys.stderr.isatty() or journal))
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
    ]
    if not (console and journal):  # the journal adds the time itself
        processors.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    if console:
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), pad_event_to=0, pad_level=False
            )
        )
    else:
        processors += [_printable, structlog.processors.JSONRenderer()]
    return structlog.wrap_logger(  # type: ignore[no-any-return]
        structlog.PrintLogger(sys.stderr) if backlog is None else _Queued(backlog),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        cache_logger_on_first_use=True,
    )


class _Queued:
    """The output of structlog: each method takes a line."""

    def __init__(self, backlog: Backlog) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = backlog.put


def adopt_others(log: Log) -> None:
    """Send the logs and warnings of libraries to `log` as well."""
    logging.captureWarnings(True)
    logging.getLogger().addHandler(_Others(log))


class _Others(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        self._log.debug("library", name=record.name, text=record.getMessage()[:500])


def _printable(_: object, __: str, event: EventDict) -> EventDict:
    """Escape characters that UTF-8 cannot encode: ids and values may have any bytes."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return event
