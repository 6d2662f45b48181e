"""One network namespace, and what is seen, served and asked there."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tests.support import traffic
from tests.support.processes import Done

if TYPE_CHECKING:
    from tests.support.host.machine import Machine

type Json = dict[str, Any]


class Place:
    """One network namespace of a host: the host's own, a container's, or another machine's.

    Args:
        host: the host.
        name: what its servers call themselves.
        path: the namespace's file as this process sees it.
    """

    def __init__(self, host: Machine, name: str, path: Path) -> None:
        self.host = host
        self.name = name
        self.netns = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Lets go of the namespace."""
        os.close(self.netns)

    @property
    def file(self) -> Path:
        """A path that leads to it for other processes, even after the end of its container."""
        return Path(f"/proc/{os.getpid()}/fd/{self.netns}")

    @property
    def inode(self) -> int:
        """Number of the namespace on nsfs."""
        return os.fstat(self.netns).st_ino

    def run(self, *argv: str, check: bool = True, stdin: str | None = None) -> Done:
        """Runs a command of the host here and waits for its end."""
        return self.host.command(*argv, check=check, stdin=stdin, netns=self)

    def ip(self, *args: str) -> Any:
        """What `ip -json -details` prints here, read."""
        output = self.run("ip", "-json", "-details", *args).stdout
        return json.loads(output) if output.strip() else []

    def link(self, name: str) -> Json | None:
        """A link with its addresses as `ip -j -d addr` shows it, or `None`."""
        return next((link for link in self.ip("addr") if link["ifname"] == name), None)

    def links(self) -> set[str]:
        """The names of its links."""
        with traffic.entered(self.netns):
            return {name for _, name in socket.if_nameindex()}

    def addresses(self, name: str = "eth0") -> list[str]:
        """A link's addresses with prefix lengths, without link-local ones."""
        link = self.link(name)
        assert link is not None, f"{self.name} has no {name}"
        return [
            f"{entry['local']}/{entry['prefixlen']}"
            for entry in link["addr_info"]
            if entry["scope"] != "link"
        ]

    def picture(self) -> Json:
        """Its links with their addresses, and its routes, without what changes by itself."""
        return {
            "links": [
                {key: link.get(key) for key in ("ifname", "ifindex", "address", "mtu", "master")}
                | {"up": "UP" in link["flags"]}
                | {"addresses": [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]]}
                for link in self.ip("addr")
            ],
            "routes": [
                (route["dst"], route.get("gateway"), route["dev"], route.get("metric"))
                for family in ("-4", "-6")
                for route in self.ip(family, "route")
                if not route["dst"].startswith("fe80:")
            ],
        }

    def serve(
        self, *, tcp: tuple[int, ...] = (), udp: tuple[int, ...] = (), address: str = ""
    ) -> traffic.Echo:
        """Starts servers here that tell their name and the client's address, until the host ends.

        See :class:`traffic.Echo`; close it to stop it earlier.
        """
        echo = traffic.Echo(self.netns, self.name, tcp=tcp, udp=udp, address=address)
        self.host.on_close(echo.close)
        return echo

    def reach(
        self,
        address: str,
        port: int,
        protocol: Literal["tcp", "udp"] = "tcp",
        *,
        source: str = "",
        timeout: float = traffic.ENOUGH,
    ) -> traffic.Answer | None:
        """Asks the server at `address` and `port` from here; `None` if no answer comes."""
        ask = traffic.ask_tcp if protocol == "tcp" else traffic.ask_udp
        return ask(self.netns, address, port, source=source, timeout=timeout)

    def stream(self, address: str, port: int) -> traffic.Stream:
        """A TCP connection from here, closed at the host's end at the latest."""
        stream = traffic.Stream(self.netns, address, port)
        self.host.on_close(stream.close)
        return stream

    def bound(self, address: str, port: int) -> socket.socket:
        """A UDP socket here that sends and receives only what the test says."""
        made = traffic.make_socket(self.netns, traffic.family_of(address), socket.SOCK_DGRAM)
        self.host.on_close(made.close)
        made.settimeout(traffic.ENOUGH)
        made.bind((address, port))
        return made

    def datagrams(self, address: str, port: int) -> traffic.Datagrams:
        """A UDP socket here that asks the server at `address` and `port`."""
        datagrams = traffic.Datagrams(self.netns, address, port)
        self.host.on_close(datagrams.close)
        return datagrams
