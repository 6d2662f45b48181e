"""The members of etcd, by the URLs of which clients speak to them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from watcher.model.errors import UsageError, quoted

_PORT: Final = 2379
"""Of etcd, for its clients."""


def read_endpoint(text: str) -> str:
    """A member's URL in its usual form, without a slash at its end.

    Raises:
        UsageError: it is none.
    """
    remedy = "write it as https://10.0.0.1:2379"
    try:
        url = urlsplit(text)
        host = url.hostname or ""
        port = _PORT if url.port is None else url.port
        if ":" in host:
            host = f"[{ip_address(host)}]"
        else:
            host.encode("idna")
    except UnicodeError:
        why = "a part of its name is empty or too long"
        raise UsageError(f"etcd at {_shown(text)}: {why}", remedy) from None
    except ValueError as error:
        raise UsageError(f"etcd at {_shown(text)}: {error}", remedy) from None
    bare = url.path in ("", "/") and not url.query and not url.fragment
    if "@" in url.netloc:
        raise UsageError(
            "etcd has a URL with a user or a password", "name them by user and password_file"
        )
    plain = text.isprintable() and not any(c.isspace() for c in text)
    if url.scheme not in ("http", "https") or not (host and port and bare and plain):
        raise UsageError(f"etcd at {_shown(text)}: this is no URL of a member", remedy)
    return f"{url.scheme}://{host}:{port}"


def _shown(text: str) -> str:
    """A URL for an error: nothing before an @ is shown, which may be a password."""
    _, at, behind = text.rpartition("@")
    return quoted(f"…@{behind}" if at else text)


class Members:
    """The members, and which of them is asked first: the one that failed longest ago.

    They begin in any order, so that not all hosts ask the same one.

    Args:
        urls: theirs; one that is named twice counts once.

    Raises:
        UsageError: one is no URL, or there is none.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        self._urls = list(dict.fromkeys(read_endpoint(url) for url in urls))
        random.shuffle(self._urls)
        if not self._urls:
            raise UsageError("no member of etcd is named", "name one by etcd in [cluster]")

    def __len__(self) -> int:
        return len(self._urls)

    @property
    def first(self) -> str:
        """The one to ask first."""
        return self._urls[0]

    def __iter__(self) -> Iterator[str]:
        """All of them once, the best first."""
        return iter(tuple(self._urls))

    def failed(self, url: str) -> None:
        """Ask this one after all others."""
        self._urls.remove(url)
        self._urls.append(url)
