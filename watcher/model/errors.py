"""The errors that a user sees: one line that says what, where and what to do."""

from __future__ import annotations

import errno
from typing import Final

MAX_VALUE: Final = 120
"""Characters that an error shows of a foreign value; the rest is cut."""


def quoted(value: object) -> str:
    """`value` as it may stand in a one-line message: printable, quoted, and of bounded length."""
    return f'"{shortened(value)}"'


def shortened(value: object) -> str:
    """`value` as :func:`quoted` has it, without the quotes."""
    text = value if isinstance(value, str) else str(value)
    shown = printable(text[: MAX_VALUE + 1])  # cut again: what is escaped is longer
    return shown if len(shown) <= MAX_VALUE else shown[:MAX_VALUE] + "…"


def printable(text: str) -> str:
    """`text` without anything that moves a terminal's cursor or is no character at all."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def named(id: str) -> str:  # noqa: A002 - the project's word
    r"""The name of a directory as it is shown and kept: a byte that is no UTF-8 as `\xff`.

    No container of runc's has such a name, so none is mistaken for another.
    """
    if id.isascii():
        return id
    return "".join(f"\\x{ord(c) & 0xFF:02x}" if "\ud800" <= c <= "\udfff" else c for c in id)


def message_of(error: Exception) -> str:
    """What `error` says, with the file that it is about and without the system's number for it."""
    if not isinstance(error, OSError):
        return str(error)
    about = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{about}"


def message_with_remedy(error: Exception) -> str:
    """What `error` says and what to do about it, in a line."""
    if not isinstance(error, OSError):
        return str(error)
    return f"{message_of(error)}; {remedy_for(error, 'run `watcher check`')}"


def remedy_for(error: OSError, otherwise: str) -> str:
    """What to do about `error`: `otherwise`, unless there is too much of something."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise LimitNOFILE of the service, or stop some containers"
    if error.errno == errno.E2BIG:  # handlers.kernel.netlink.TooMuch
        return "remove some of them, or stop that container"
    return otherwise


class WatcherError(Exception):
    """Something that could not be done.

    Args:
        what: what is wrong and where, without a full stop.
        remedy: what to do about it, as an imperative.
    """

    exit_status = 1

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


class UsageError(WatcherError):
    """Wrong words on the command line or in the configuration: exit status 2."""

    exit_status = 2


class InvalidRequest(WatcherError):
    """A container asks for what cannot be met; :func:`about` adds which container.

    Args:
        key: the annotation, `io.watcher.…`, or another key of its configuration.
        value: the annotation's value as it stands there.
        reason: what is wrong with it.
        remedy: what to do about it, as an imperative.
    """

    exit_status = 2

    def __init__(self, key: str, value: object, reason: str, remedy: str) -> None:
        super().__init__(f"{key} = {quoted(value)}: {reason}", remedy)
        self.key = key
        self.value = value if isinstance(value, str) else str(value)
        self.reason = reason


class BadValue(ValueError):
    """The value of an annotation that means nothing; `reason`, `remedy` as in InvalidRequest."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


def about(container: str, error: Exception) -> str:
    """What is wrong with the container of that id and what to do about it, in a line."""
    if isinstance(error, WatcherError) and not isinstance(error, InvalidRequest):
        return str(error)  # it says itself what it is about
    return f"container {quoted(container)}: {message_with_remedy(error)}"
