"""What `watcher check CONTAINER` says, and name servers for containers to ask."""

from __future__ import annotations

import json
import re
import select
import socket
import threading
from typing import TYPE_CHECKING, Final

from tests.support import traffic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.bundles import Spec
    from tests.support.host import Host, Place

type Line = dict[str, str]

SERVFAIL: Final = 2


def checked(host: Host, name: str, *prefix: str) -> list[Line]:
    """All lines about a container, with the exit status seen to be right."""
    if prefix:
        command = (*prefix, *host.watcher_command("check", name, "--json"))
        done = host.command(*command, env=host.watcher_env, check=False)
    else:
        done = host.watcher("check", name, "--json", check=False, timeout=15)
    assert done.stderr == "", done.stderr
    lines: list[Line] = json.loads(done.stdout)
    assert done.returncode == int(any(line["level"] == "fail" for line in lines)), lines
    assert all(line["remedy"] for line in lines if line["level"] != "ok"), lines
    return lines


def wrong(host: Host, name: str, *but: str) -> list[Line]:
    """The lines that are not `ok`, without those of the checks `but`."""
    return [x for x in checked(host, name) if x["level"] != "ok" and x["check"] not in but]


def only(host: Host, name: str, level: str, check: str) -> Line:
    """The one line that is not `ok` but for what a bare test has: no service and no resolv.conf."""
    lines = wrong(host, name, "service", "names")
    assert [(line["level"], line["check"]) for line in lines] == [(level, check)], lines
    return lines[0]


def fine(host: Host, name: str) -> bool:
    """Whether there is no such line."""
    lines = wrong(host, name, "service", "names")
    assert not lines, lines
    return True


def paste(host: Host, line: Line) -> None:
    """Run the commands of a remedy on the host, word by word, but for `, or` others."""
    commands = re.findall(r"`(.+?)`", line["remedy"].partition(", or")[0])
    assert commands, line
    for command in commands:
        if command.startswith("watcher "):
            host.watcher(*command.split()[1:])
        else:
            host.command("sh", "-ec", command)


def with_resolv_conf(file: Path) -> Callable[[Spec], object]:
    """An `edit` of a bundle that mounts `file` over `/etc/resolv.conf`, as engines do."""

    def edit(spec: Spec) -> None:
        spec["mounts"].append(
            {
                "destination": "/etc/resolv.conf",
                "type": "bind",
                "source": str(file),
                "options": ["bind"],
            }
        )

    return edit


class Resolver:
    """A name server of its own in a namespace; it answers every query with one response code.

    Args:
        place: where it is.
        address: the address that it listens on.
        code: the response code; `None` to answer nothing.
    """

    def __init__(self, place: Place, address: str, code: int | None = 0) -> None:
        family = traffic.family_of(address)
        self._socket = traffic.make_socket(place.netns, family, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self._code = code
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        place.host.on_close(self.close)

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._stopped], [], [])
            if self._stopped in ready:
                return
            query, client = self._socket.recvfrom(2048)
            if self._code is not None:
                flags = (0x8180 | self._code).to_bytes(2)
                self._socket.sendto(query[:2] + flags + query[4:], client)

    def close(self) -> None:
        """End it; may be called twice."""
        if self._thread.is_alive():
            self._stop.send(b".")
            self._thread.join()
            for one in (self._socket, self._stop, self._stopped):
                one.close()
