"""The servers that the host itself asks: its `/etc/resolv.conf`, read again as it changes.

A server on the host, such as systemd-resolved's stub at 127.0.0.53 (or 127.0.0.54), is asked as it
is: the name service is in the host's namespace, where the stub can be reached. What lies behind the
stub is more than a list: which link's servers are for which domain (a VPN's, for example), DNS over
TLS, validation (systemd-resolved.service(8), "/etc/resolv.conf"). So the servers behind it, which
`/run/systemd/resolve/resolv.conf` has, are asked only while the stub answers nothing at all.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from watcher.names.upstream.servers import Choice, Server, make_choice, make_server

RESOLV_CONF: Final = "/etc/resolv.conf"
BEHIND_STUB: Final = "/run/systemd/resolve/resolv.conf"
STUBS: Final = frozenset({"127.0.0.53", "127.0.0.54"})

_SERVERS_AT_MOST: Final = 3  # MAXNS of glibc's resolv.h
_ROUNDS_AT_MOST: Final = 5  # RES_MAXRETRY
_SECONDS_AT_MOST: Final = 30  # RES_MAXRETRANS
_SIZE_AT_MOST: Final = 65536
_PAUSE: Final = 0.2
"""Seconds for which the file is not looked at again."""

type _Mark = tuple[int, ...]


class HostsServers:
    """The choice that the host's file makes.

    While there is no such file, the last choice holds: it may be away for the moment in which
    another takes its place.

    Args:
        path: the file.
        behind: the file with the servers behind the stub.
    """

    def __init__(self, path: str = RESOLV_CONF, behind: str = BEHIND_STUB) -> None:
        self._path = path
        self._behind = behind
        self._marks: tuple[_Mark | None, _Mark | None] | None = None
        self._looked = 0.0
        self._choice = _default()

    def choice(self, *, at_once: bool = False) -> Choice:
        """The choice now; `at_once`: look at the file even if that was done a moment ago."""
        now = time.monotonic()
        if at_once or self._marks is None or now - self._looked >= _PAUSE:
            self._looked = now
            self._look()
        return self._choice

    def _look(self) -> None:
        marks = _mark(self._path), _mark(self._behind)
        if marks == self._marks:
            return
        self._marks = marks
        with suppress(OSError):
            choice = parse(_read(self._path))
            if choice.servers and STUBS.issuperset(choice.names):
                choice = _with_behind(choice, self._behind)
            self._choice = choice


def parse(text: str) -> Choice:
    """The choice of a file of resolv.conf(5), as glibc reads it (`res_vinit_1` of res_init.c).

    Without `nameserver` it is the server on this host. (`dns.resolver` of dnspython knows neither
    that nor `attempts`, and refuses a file for one address that it cannot read.)
    """
    names: list[str] = []
    timeout: float | None = None
    rounds, rotate = 2, False
    for line in text.splitlines():
        key, *words = line.split() or [""]
        if line[:1].isspace() or not words:  # a key stands at the line's beginning
            continue
        if key == "nameserver" and len(names) < _SERVERS_AT_MOST:
            with suppress(ValueError):
                names.append(make_server(words[0]).name)
        elif key == "options":
            for word in words:
                option, _, value = word.partition(":")
                if option == "rotate":
                    rotate = True
                elif value.isascii() and value.isdecimal() and len(value) < 6:
                    if option == "timeout":
                        timeout = float(min(max(int(value), 1), _SECONDS_AT_MOST))
                    elif option == "attempts":
                        rounds = min(max(int(value), 1), _ROUNDS_AT_MOST)
    if not names:
        return _default()
    servers: tuple[Server, ...] = tuple(make_server(name) for name in dict.fromkeys(names))
    return Choice(
        names=tuple(server.name for server in servers),
        servers=servers,
        timeout=timeout,
        rounds=rounds,
        rotate=rotate,
        of_host=True,
    )


def _default() -> Choice:
    choice = make_choice(("127.0.0.1",))
    return Choice(choice.names, choice.servers, of_host=True)


def _with_behind(choice: Choice, path: str) -> Choice:
    """The stub's choice with the servers behind it, if another file has them."""
    try:
        behind = parse(_read(path)).servers
    except OSError:
        return choice
    others = tuple(server for server in behind if not server.local)
    return Choice(
        names=choice.names,
        servers=choice.servers,
        behind=others,
        timeout=choice.timeout,
        rounds=choice.rounds,
        rotate=choice.rotate,
        of_host=True,
    )


def _mark(path: str) -> _Mark | None:
    """What changes with a file, or with what its symbolic links lead to."""
    try:
        status = os.stat(path)  # noqa: PTH116 - before each question
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: str) -> str:
    """A regular file's text, its first part if it is long.

    Raises:
        OSError: there is none that may be read.
    """
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(f"{path} is no regular file")
    with Path(path).open("rb") as file:
        return file.read(_SIZE_AT_MOST).decode("utf-8", "replace")
