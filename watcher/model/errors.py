"""The errors that a user sees: one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from watcher.model import keys

if TYPE_CHECKING:
    from watcher.model.address import Address

MAX_VALUE: Final = 120
"""The most characters of a foreign value in an error."""


def quoted(value: object) -> str:
    """`value` for a one-line message: printable, quoted, and of bounded length."""
    return f'"{shortened(value)}"'


def shortened(value: object) -> str:
    """Like :func:`quoted`, but without the quotes."""
    text = value if isinstance(value, str) else str(value)
    shown = printable(text[: MAX_VALUE + 1])  # cut again below, as escapes make it longer
    return shown if len(shown) <= MAX_VALUE else shown[:MAX_VALUE] + "…"


def printable(text: str) -> str:
    """`text` without control characters and other unprintable ones, which are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def named(id: str) -> str:  # noqa: A002 - the project's word
    r"""A directory's name as it is shown and stored: with `\xff` for a byte that is not UTF-8.

    No container of runc has such a name, so none is mistaken for another.
    """
    if id.isascii():
        return id
    return "".join(f"\\x{ord(c) & 0xFF:02x}" if "\ud800" <= c <= "\udfff" else c for c in id)


def message_of(error: Exception) -> str:
    """The message of `error`, with its file and without its `errno`."""
    if not isinstance(error, OSError):
        return str(error)
    about = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{about}"


def message_with_remedy(error: Exception) -> str:
    """The message of `error` and what to do about it, on one line."""
    if not isinstance(error, OSError):
        return str(error)
    return f"{message_of(error)}; {remedy_for(error, 'run `watcher check`')}"


GUARD_REMEDY: Final = (
    "load the kernel's modules sch_ingress and cls_bpf, or set guard = false for the network"
)
"""What to do where the kernel cannot guard a link."""


SHAPER_REMEDY: Final = (
    "load the kernel's modules sch_tbf, ifb, sch_ingress, cls_bpf and act_mirred, or remove the"
    " limit of bandwidth"
)
"""What to do where the kernel cannot hold a link to a rate."""


def remedy_for(error: OSError, otherwise: str) -> str:
    """What to do about `error`: `otherwise`, unless there are too many of something.

    An error may have a `remedy` of its own.
    """
    if own := getattr(error, "remedy", ""):
        return str(own)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise LimitNOFILE of the service, or stop some containers"
    if error.errno == errno.E2BIG:  # handlers.kernel.netlink.TooMuch
        return "remove some of them, or stop that container"
    if error.errno == errno.ENOPKG:  # handlers.guard.link.NoGuard
        return GUARD_REMEDY
    return otherwise


class WatcherError(Exception):
    """Something could not be done.

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
    """A wrong command line or configuration: exit status 2."""

    exit_status = 2


class InvalidRequest(WatcherError):
    """A container's request cannot be met; :func:`about` adds the container.

    Args:
        key: the annotation, `io.watcher.…`, or another key of its configuration.
        value: the annotation's value as written.
        reason: what is wrong with it.
        remedy: what to do about it, as an imperative.
    """

    exit_status = 2

    def __init__(self, key: str, value: object, reason: str, remedy: str) -> None:
        super().__init__(f"{key} = {quoted(value)}: {reason}", remedy)
        self.key = key
        self.value = value if isinstance(value, str) else str(value)
        self.reason = reason


class Unclaimed(InvalidRequest):
    """A container asks for an address of a clustered network that is in no block of this host.

    Args:
        network: the network's name.
        address: the address.
        value: the annotation's value as written.
        reason: why it cannot be claimed, as the end of a sentence; empty if it may be soon.
    """

    def __init__(self, network: str, address: Address, value: str, reason: str = "") -> None:
        super().__init__(
            keys.IP,
            value,
            f"{address} of network {network} {reason or 'is not claimed yet'}",
            "see `watcher check` and `watcher hosts ls`, or ask for another address",
        )
        self.network = network
        self.address = address
        self.waits = not reason


class BadValue(ValueError):
    """A bad value of an annotation; `reason` and `remedy` are as in InvalidRequest."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


def about(container: str, error: Exception) -> str:
    """What is wrong with the container of that id and what to do about it, on one line."""
    if isinstance(error, WatcherError) and not isinstance(error, InvalidRequest):
        return str(error)  # it names its subject itself
    return f"container {quoted(container)}: {message_with_remedy(error)}"
